"""One peer on one problem in a process of its own: prints the outcome as JSON. Called by ``benchmarks.run``."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.peers import PEERS
from benchmarks.problems import PROBLEMS


def prepare(name: str, path: str) -> None:
    """Write the rows of a problem, so that making them is in nobody's memory."""
    problem = next(problem for problem in PROBLEMS if problem.name == name)
    pq.write_table(problem.table(), path)


def fit(peer_name: str, problem_name: str, path: str, threads: int | None, repeats: int) -> dict[str, object]:
    """Fit, and say what came out."""
    peer = next(peer for peer in PEERS if peer.name == peer_name)
    problem = next(problem for problem in PROBLEMS if problem.name == problem_name)
    found = peer.fit(problem, pq.read_table(path), threads, repeats)
    return {
        "seconds": found.seconds,
        "m2loglik": found.m2loglik,
        "components": dict(found.components),
        "peak_mib": found.peak_mib if found.peak_mib is not None else peak_mib(),
    }


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    # ru_maxrss starts from what the parent had when it started us; the kernel's own mark does not
    status = Path("/proc/self/status")
    if status.exists():
        mark = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(mark.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(*sys.argv[2:])
    else:
        peer, problem, path, threads, repeats = sys.argv[2:]
        print(json.dumps(fit(peer, problem, path, int(threads) or None, int(repeats))))
