"""Serial kernels over partitions, on a pool of threads.

What a partition holds depends on the data alone and results come back in partition order, so the number of threads
changes the time and never a bit of the result. BLAS is held to one thread for the same reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from ranef.errors import OptionError
from ranef.storage import MEMORY, Storage

Result = TypeVar("Result")
Range = tuple[int, int]


class Engine:
    """A pool of threads for one fit, and where its large arrays live; use `engine` to make one."""

    def __init__(self, threads: int, pool: ThreadPoolExecutor | None, storage: Storage = MEMORY):
        self.threads, self.storage, self._pool = threads, storage, pool

    def map(self, kernel: Callable[..., Result], tasks: Iterable[Sequence[object]]) -> list[Result]:
        """``kernel(*task)`` for every task, trimming memory after each; results in the order of the tasks."""
        todo = list(tasks)
        results: dict[int, Result] = {}
        numbers = iter(range(len(todo)))

        def work() -> None:
            # a thread does not inherit the caller's error state
            with np.errstate(all="ignore"):
                # Python's lock makes the iterator give each number once, to whichever thread asks
                for number in numbers:
                    results[number] = kernel(*todo[number])
                    self.storage.trim()

        if self._pool is None or len(todo) < 2:
            work()
            return list(results.values())

        # the caller works too: waking a thread costs as much as a small kernel
        others = [self._pool.submit(work) for _ in range(min(self.threads, len(todo)) - 1)]
        try:
            work()
        finally:
            # after an error or Ctrl-C nothing more is begun
            list(numbers)
            errors = [other.exception() for other in others if not other.cancel()]
        for error in errors:
            if error is not None:
                raise error
        return [results[number] for number in range(len(todo))]

    def each(self, pieces: Iterable[Range], kernel: Callable[..., Result], *arguments: object) -> list[Result]:
        """``kernel(first, last, *arguments)`` for every range ``(first, last)``."""
        return self.map(kernel, [(first, last, *arguments) for first, last in pieces])


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


@contextmanager
def engine(threads: int | None = None, storage: Storage = MEMORY) -> Iterator[Engine]:
    """An engine of ``threads`` threads (default: the cores this process may use) with BLAS at one thread.

    Within it NumPy reports no floating-point flags: a search looks at what it gets (`ranef.learn.finite`), and steps
    back from where nothing can be computed.

    Raises
    ------
    OptionError
        If ``threads`` is not a positive integer.
    """
    if threads is None:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 1:
        raise OptionError(f"threads={threads!r}: give a positive whole number, or None for all cores.")
    with np.errstate(all="ignore"), _blas().limit(limits=1, user_api="blas"), pooled(int(threads), storage) as made:
        yield made


@contextmanager
def pooled(threads: int, storage: Storage) -> Iterator[Engine]:
    """An engine with a pool of its own, within one that `engine` made; to divide its threads."""
    if threads == 1:
        yield Engine(1, None, storage)
        return
    pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="ranef")
    try:
        yield Engine(threads, pool, storage)
    finally:
        # on Ctrl-C, what has not begun is not begun
        pool.shutdown(wait=True, cancel_futures=True)


def ranges(work: npt.ArrayLike, pieces: int) -> list[Range]:
    """Cut ``range(len(work))`` into at most ``pieces`` non-empty ranges of about equal total work."""
    total = np.cumsum(np.asarray(work, dtype=np.float64))
    n = len(total)
    if n == 0:
        return []
    inner = np.searchsorted(total, total[-1] * np.arange(1, pieces) / pieces, side="left") + 1
    bounds = np.unique(np.concatenate([[0], np.minimum(inner, n), [n]]))
    return [(int(a), int(b)) for a, b in pairwise(bounds)]
