"""Work side by side: order, shares of the threads, and how it ends early."""

import threading
import time

import pytest

from ranef.engine.lanes import side_by_side
from ranef.engine.threads import engine


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("most", [1, 3])
def test_results_come_in_order_and_no_more_run_than_may(threads, most):
    running, seen, lock = 0, [], threading.Lock()

    def work(number, own, halted):
        nonlocal running
        with lock:
            running += 1
            seen.append((number, running, own.threads))
        time.sleep(0.002 * (7 - number))
        with lock:
            running -= 1
        assert not halted()
        return own.each([(0, 2), (2, 5)], lambda first, last: last - first), number

    with engine(threads) as pool:
        found = side_by_side(work, 7, pool, most)
    assert found == [([2, 3], number) for number in range(7)]
    assert max(count for _, count, _ in seen) == min(threads, most)
    # the last round shares what there is
    lanes, last = min(threads, most), 7 % min(threads, most)
    expected = {number: threads // (lanes if number < 7 - last else last) for number in range(7)}
    assert {number: share for number, _, share in seen} == expected


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_ends_the_others(error):
    ended = []

    def work(number, own, halted):
        if number == 1:
            raise error
        until = time.monotonic() + 10
        while not halted() and time.monotonic() < until:
            time.sleep(0.001)
        ended.append(halted())

    with engine(2) as pool, pytest.raises(error):
        side_by_side(work, 4, pool, 2)
    assert ended == [True]
