"""Latent factors beside their baselines and peers. ``python -m benchmarks.latent --help``."""
