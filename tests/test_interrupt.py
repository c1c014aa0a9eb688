"""Ctrl-C in the middle of a fit, sent to another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ranef import data

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a signal to one process is POSIX")

FORMULA = "y ~ 1 + (1 | user) + (1 | item)"
# says when it searches; the tolerance that both ask for is out of reach, so the search is long
ANNOUNCED = """
import signal, sys, threading
from ranef.learn import doubling

# what a shell starts in the background ignores it
signal.signal(signal.SIGINT, signal.default_int_handler)

def announced(*arguments, search=doubling.find_root, **options):
    print("searching", flush=True)
    return search(*arguments, **options)

doubling.find_root = announced
"""
COMMAND = """
from ranef.cli import main
sys.exit(main())
"""
LIBRARY = """
import ranef
try:
    ranef.fit(sys.argv[1], sys.argv[2], solver="stochastic", probes=64, tolerance=1e-300, threads=3)
except KeyboardInterrupt:
    print("interrupted with", threading.active_count(), "thread")
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    data.simulate(100_000, {"user": 5000, "item": 3000}, seed=1, path=path)
    return path


def interrupted(code: str, folder: Path, *arguments: str) -> tuple[int, str, str, float]:
    """Exit code, output, errors, and seconds from the signal to the end."""
    with subprocess.Popen(
        [sys.executable, "-c", ANNOUNCED + code, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        # into the first evaluations
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        out, err = process.communicate(timeout=60)
    assert first == "searching\n", f"the process ended before it searched: {err}"
    return process.returncode, out, err, time.monotonic() - begun


def test_a_command_leaves_nothing_behind(rows: Path, tmp_path: Path) -> None:
    options = ["--solver", "stochastic", "--probes", "64", "--tolerance", "1e-300", "--out", "new/model"]
    code, out, err, seconds = interrupted(COMMAND, tmp_path, "fit", FORMULA, str(rows), *options)
    assert (code, out, err) == (130, "", "interrupted\n")
    assert list(tmp_path.iterdir()) == []
    # what is running is one pass of a kernel over one partition, and the end of the process
    assert seconds < 3


def test_a_call_ends_with_its_threads(rows: Path, tmp_path: Path) -> None:
    code, out, err, seconds = interrupted(LIBRARY, tmp_path, FORMULA, str(rows))
    assert (code, out, err) == (0, "interrupted with 1 thread\n", "")
    assert seconds < 3
