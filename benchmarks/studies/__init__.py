"""Studies that prove the stochastic solver on simulated data. ``python -m benchmarks.studies --help``."""
