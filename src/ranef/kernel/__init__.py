"""Numba kernels: passes over the levels or rows of one partition. Arrays in, the caller's arrays out; serial, ``nogil``."""
