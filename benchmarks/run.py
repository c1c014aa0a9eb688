"""Runs every peer on every problem, each in a process of its own, and writes the report."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers import PEERS, Peer
from benchmarks.problems import PROBLEMS, Problem
from benchmarks.report import Result, report

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--problem", action="append", choices=[p.name for p in PROBLEMS], help="only this; may repeat")
    parser.add_argument("--peer", action="append", choices=[p.name for p in PEERS], help="only this; may repeat")
    parser.add_argument("--repeats", type=int, default=5, help="fits after the warm-up (default 5)")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds a peer may take on a problem")
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    asked = parser.parse_args(arguments)
    peers = [peer for peer in PEERS if not asked.peer or peer.name in asked.peer]
    versions = {peer.name: peer.version() for peer in peers}
    results: list[Result] = []
    problems = [problem for problem in PROBLEMS if not asked.problem or problem.name in asked.problem]
    for problem in problems:
        if problem.missing:
            print(f"{problem.name:18} skipped: {problem.missing}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "table.parquet")
            _child(["prepare", problem.name, path], None, asked.timeout)
            for peer in peers:
                for threads in _thread_counts(peer, problem) if versions[peer.name] else ():
                    result = _one(peer, problem, path, threads, asked.repeats, asked.timeout)
                    results.append(result)
                    shown = result.failure or f"{result.median:.3f} s"
                    print(f"{problem.name:18} {peer.name:12} threads={threads or 'all':<4} {shown}", file=sys.stderr)
    run = [problem for problem in problems if not problem.missing]
    before = asked.out.read_text(encoding="utf-8") if asked.out.exists() else ""
    asked.out.write_text(report(run, results, versions, before, [p.name for p in PROBLEMS]), encoding="utf-8")
    print(f"wrote {asked.out}", file=sys.stderr)


def _thread_counts(peer: Peer, problem: Problem) -> tuple[int | None, ...]:
    return tuple(threads for threads in peer.thread_counts if threads in problem.threads)


def _one(peer: Peer, problem: Problem, path: str, threads: int | None, repeats: int, timeout: float) -> Result:
    reason = problem.skipped.get(peer.name) or peer.declines(problem)
    if reason:
        return Result(problem.name, peer.name, threads, failure=reason)
    try:
        said = _child(["fit", peer.name, problem.name, path, str(threads or 0), str(repeats)], threads, timeout)
        return Result(problem.name, peer.name, threads, **json.loads(said.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return Result(problem.name, peer.name, threads, failure=f"over {timeout:g} s")
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[-1]
        return Result(problem.name, peer.name, threads, failure=f"failed: {last[:120]}")


def _child(words: list[str], threads: int | None, timeout: float) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in THREAD_VARIABLES}
    if threads is not None:
        environment |= dict.fromkeys(THREAD_VARIABLES, str(threads))
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.child", *words],
        cwd=HERE.parent,
        env=environment,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
