"""Memory of a model that is served no more, back to the system."""

from __future__ import annotations

import ctypes
import gc

import pyarrow as pa


def give_back() -> None:
    """Free what nobody holds, down to the system: where models come and go a process would keep the room of several."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(_library(), "malloc_trim", None)  # of glibc; others give back by themselves
    if trim is not None:
        trim(0)


def _library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None
