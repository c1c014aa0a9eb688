"""What long work says on stderr, on a terminal and off it."""

import io
import sys

import pytest

from ranef.result import progress as room
from ranef.result.progress import counter


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass as the test says."""
    now = [0.0]
    monkeypatch.setattr(room.time, "perf_counter", lambda: now[0])
    return now


def count(report, clock, seconds, total):
    for done in range(1, total + 1):
        clock[0] += seconds
        report(done, total)


def test_on_a_terminal_one_line_is_rewritten(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    count(counter("refits", None), clock, 0.5, 5)
    assert sys.stderr.getvalue() == "\rrefits: 2 of 5, 1 s\rrefits: 4 of 5, 2 s\rrefits: 5 of 5, 2 s\n"


def test_quick_work_says_nothing_unless_asked(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    count(counter("refits", None), clock, 0.01, 5)
    assert sys.stderr.getvalue() == ""
    count(counter("refits", True), clock, 0.01, 5)
    assert sys.stderr.getvalue() == "\rrefits: 5 of 5, 0 s\n"
    assert counter("refits", False) is None


def test_in_a_log_there_are_lines_if_asked(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert counter("refits", None) is None
    count(counter("refits", True), clock, 1.0, 2)
    assert sys.stderr.getvalue() == "refits: 1 of 2, 1 s\nrefits: 2 of 2, 2 s\n"
