"""What long work says on stderr, on a terminal and off it."""

import io
import math
import re
import sys

import numpy as np
import pytest

import ranef
import ranef.data
from ranef.learn.minimise import Step
from ranef.result import progress as room
from ranef.result.progress import counter, remaining, steps


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
    assert sys.stderr.getvalue().split("\r") == [
        "",
        "refits: 2 of 5, 1 s, about 2 s left",
        "refits: 4 of 5, 2 s, less than 1 s left",
        # the end of the longer line is overwritten
        "refits: 5 of 5, 2 s" + " " * 20 + "\n",
    ]


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
    assert sys.stderr.getvalue() == "refits: 1 of 2, 1 s, about 1 s left\nrefits: 2 of 2, 2 s\n"


def searched(*decrements, seconds=2.0, deviance=5.0, refused=()):
    """Steps of equal length."""
    return [Step(i, deviance, d, i not in refused, seconds * (i + 1)) for i, d in enumerate(decrements)]


@pytest.mark.parametrize(
    ("decrements", "left"),
    [
        # from 1e-3 by two powers of ten a step to 1e-9: three steps
        ([1e1, 1e-1, 1e-3], 6.0),
        ([1e1, 1e-1, 1e-3, 1e-8], 2.0),
        ([1e1, 1e-10], 0.0),
        ([1e1], None),
        # there is more to gain than before, as after more probes, or as much
        ([1e-1, 1e1], None),
        ([1e1, 1e1], None),
    ],
)
def test_time_left(decrements, left):
    assert remaining(searched(*decrements), 1e-9) == (None if left is None else pytest.approx(left))


def test_time_left_goes_by_the_last_steps_and_is_not_told_after_a_refusal():
    slow = [*searched(1e1, 1e-1), *(Step(i, 5.0, 10.0 ** (1 - 2 * i), True, 10.0 * i) for i in range(2, 5))]
    assert remaining(slow, 1e-9) == pytest.approx(math.ceil(2 / 2) * (40 - 4) / 3)
    assert remaining(searched(1e1, 1e-1, 1e-1, refused=[2]), 1e-9) is None
    # refused steps take their time too
    assert remaining(searched(1e1, 1e-1, 1e-3, refused=[1]), 1e-9) == pytest.approx(2.0 * math.ceil(6 / 4))
    # a clock that stands still, or is set back
    assert remaining(searched(1e1, 1e-1, seconds=0.0), 1e-9) == 0.0
    assert remaining(searched(1e1, 1e-1, seconds=-1.0), 1e-9) == 0.0


@pytest.mark.parametrize(
    ("seconds", "deviance", "tolerance", "lines"),
    [
        (2.0, 5.0, None, ["deviance 5.0000, to gain 10, 2.0 s; sd", "gain 0.1, 4.0 s, about 8 s left; sd"]),
        # the stochastic search ends earlier
        (2.0, math.nan, None, ["step 0: to gain 10, 2.0 s; sd", "gain 0.1, 4.0 s, about 4 s left; sd"]),
        (2.0, 5.0, 1e-2, ["to gain 10, 2.0 s; sd", "gain 0.1, 4.0 s, about 2 s left; sd"]),
        (0.2, 5.0, 1e-2, ["to gain 10, 0.2 s; sd", "gain 0.1, 0.4 s, less than 1 s left; sd"]),
        (90.0, 5.0, None, ["to gain 10, 90.0 s; sd", "gain 0.1, 180.0 s, about 6 min left; sd"]),
    ],
)
def test_steps_tell_the_time_left(monkeypatch, seconds, deviance, tolerance, lines):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    report = steps(True, tolerance)
    for step in searched(10.0, 0.1, seconds=seconds, deviance=deviance):
        report(step, 4.0, {"g": np.diag([1.0, 9.0])})
    found = sys.stderr.getvalue().splitlines()
    assert len(found) == len(lines)
    for line, expected in zip(found, lines, strict=True):
        assert expected in line
        assert line.endswith("sd g [1.0, 3.0], residual 2.0000")


def test_quick_steps_count_for_the_time_left_though_they_are_not_shown(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    report = steps(None)
    for step in searched(10.0, 0.1, 0.001, seconds=0.4):
        report(step, 1.0, {})
    assert re.fullmatch(r"step 2: .* 1.2 s, about 1 s left; .*\n", sys.stderr.getvalue())


def test_a_fit_tells_its_steps(capsys):
    ranef.fit("Reaction ~ Days + (Days | Subject)", ranef.data.sleepstudy(), progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert all(re.match(rf"step {i}: deviance \d+\.\d+, to gain ", line) for i, line in enumerate(lines))
    assert any("left" in line for line in lines)
    # at its end nothing is left
    assert "left" not in lines[-1]
