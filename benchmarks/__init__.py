"""ranef beside its peers: the same problems, one machine, one run. ``python -m benchmarks --help``."""
