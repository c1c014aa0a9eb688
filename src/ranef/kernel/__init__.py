"""Numba kernels: serial, ``nogil`` passes over one partition. Arrays in, the caller's arrays out."""
