"""From a model to recommendations: sizes and times. ``python -m benchmarks.serving --help``."""
