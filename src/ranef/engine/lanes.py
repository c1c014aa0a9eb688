"""Long pieces of work side by side, each with a share of the threads.

Where a piece of work has parts that one thread alone can do, its threads would wait for one another; several pieces at
a time keep them busy. Each has memory of its own, so that there are no more of them at a time than the caller allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from queue import SimpleQueue
from threading import Event
from typing import TypeVar

from ranef.engine.threads import Engine, pooled

Result = TypeVar("Result")
# the number of a piece of work, an engine for it, and whether to leave off: another piece has failed, or Ctrl-C came
Work = Callable[[int, Engine, Callable[[], bool]], Result]


def side_by_side(work: Work[Result], count: int, engine: Engine, most: int) -> list[Result]:
    """``work(number, engine, halted)`` for ``0 <= number < count``, results in this order.

    As many at a time as there are threads, with an even share of these for each; what is left for the last round
    shares all threads.

    Parameters
    ----------
    work : callable
        Looks often whether ``halted()``, and if so returns at once; what it returns then is not used.
    most : int
        How many may run at a time.
    """
    lanes = min(most, count, engine.threads)
    if lanes < 2:
        return [work(number, engine, lambda: False) for number in range(count)]
    last = count - count % lanes
    return _round(work, range(last), lanes, engine) + _round(work, range(last, count), count - last, engine)


def _round(work: Work[Result], numbers: Sequence[int], lanes: int, engine: Engine) -> list[Result]:
    if lanes < 2:
        return [work(number, engine, lambda: False) for number in numbers]
    halt = Event()
    with ExitStack() as stack:
        free: SimpleQueue[Engine] = SimpleQueue()
        for _ in range(lanes):
            free.put(stack.enter_context(pooled(engine.threads // lanes, engine.storage)))
        outer = stack.enter_context(pooled(lanes, engine.storage))

        def one(number: int) -> Result:
            own = free.get()
            try:
                return work(number, own, halt.is_set)
            except BaseException:
                halt.set()
                raise
            finally:
                free.put(own)

        try:
            return outer.map(one, [(number,) for number in numbers])
        except BaseException:
            # Ctrl-C while this thread waited for the others
            halt.set()
            raise
