"""Clicks and star ratings: real data and peers. ``python -m benchmarks.clicks --help``."""
