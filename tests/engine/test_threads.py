"""The pool: order of results, errors from any thread, and fair cuts."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranef.engine.threads import engine, ranges
from ranef.errors import OptionError


@pytest.mark.parametrize("threads", [1, 2, 5, None])
def test_results_come_in_the_order_of_the_tasks(threads):
    with engine(threads) as pool:
        for count in (0, 1, 2, 50):
            # later tasks finish first
            tasks = [(i, 0.0002 * (count - i)) for i in range(count)]
            assert pool.map(lambda i, wait: time.sleep(wait) or i, tasks) == list(range(count))
        assert pool.each([(0, 2), (2, 5)], lambda first, last, add: first + last + add, 10) == [12, 17]


def test_several_threads_share_the_work():
    seen = set()
    with engine(3) as pool:
        pool.map(lambda _: (time.sleep(0.01), seen.add(threading.get_ident())), [(i,) for i in range(30)])
    assert len(seen) == 3


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_any_task_ends_the_map(threads, error):
    done = []

    def work(i):
        if i == 5:
            raise error("five")
        time.sleep(0.001)
        done.append(i)

    with engine(threads) as pool:
        with pytest.raises(error, match="five"):
            pool.map(work, [(i,) for i in range(1000)])
        assert len(done) < 1000 or threads > 1
        assert pool.map(lambda i: i, [(1,), (2,)]) == [1, 2]


def test_nothing_more_is_begun_after_an_error_of_the_caller():
    main, done = threading.get_ident(), []

    def work(i):
        if threading.get_ident() == main:
            raise KeyboardInterrupt
        time.sleep(0.005)
        done.append(i)

    with engine(2) as pool, pytest.raises(KeyboardInterrupt):
        pool.map(work, [(i,) for i in range(500)])
    assert len(done) < 10


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_wrong_numbers_of_threads(threads):
    with pytest.raises(OptionError, match="threads"), engine(threads):
        pass


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 70))
def test_ranges_cover_everything_once(work, pieces):
    found = ranges(np.array(work, dtype=float), pieces)
    assert [i for first, last in found for i in range(first, last)] == list(range(len(work)))
    assert len(found) <= max(pieces, 1)
    assert all(last > first for first, last in found)
