"""The best items of all users and of one, and predictions from file to file."""

from __future__ import annotations

import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

import ranef
from benchmarks.studies.page import Bar, Section, table
from ranef.score.topk import index_targets, top_k

FloatArray = npt.NDArray[np.float64]
USERS, ITEMS, RANK, K = 162_541, 59_047, 64, 10
MOST_SECONDS, MOST_GIB, MOST_ERROR = 25.0, 3.0, 1e-5
CHECKED = 2_000
# standard deviations of the numbers of a vector fall by this factor over its length: isotropic, and as fits have them
FALLS = {"equal": 1.0, "falling to a tenth": 0.1}
CALLS, ONE_ITEMS, SEEN, MOST_MILLISECONDS = 2_000, 60_000, 200, 1.0
ROWS, LEAST_ROWS = 10_000_000, 40.0
FORMULA = "y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank=32)"


def all_users() -> Section:
    """Top-k of all users of a catalogue of the size of MovieLens-25M."""
    lines, bars = [], []
    for name, fall in FALLS.items():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            seconds, gib, error = pool.submit(_all_users, fall).result()
        lines.append([name, f"{seconds:.1f}", f"{USERS / seconds:,.0f}", f"{gib:.2f}", f"{error:.1e}"])
        bars.append(Bar(f"{name}: seconds", seconds, -float("inf"), MOST_SECONDS, 1))
        bars.append(Bar(f"{name}: GiB", gib, -float("inf"), MOST_GIB))
        bars.append(Bar(f"{name}: largest error of a score", error, -float("inf"), MOST_ERROR, 7))
    body = [
        f"Top-{K} of {USERS:,} users among {ITEMS:,} items: simulated vectors of rank {RANK} with an effect of each",
        "user and item; standard deviations of a vector's numbers are equal or fall along it. Seconds: from the two",
        "matrices in float64 to items and scores, all cores. GiB: peak of the process. Error: of scores at",
        f"every rank of {CHECKED:,} users against a sort of all products in float64.",
        "",
        *table(["standard deviations", "seconds", "users a second", "GiB", "error"], lines),
    ]
    return Section("seed 0", bars, body)


def one_user() -> Section:
    """Top-k of one user after another, as a service asks."""
    entity, side = _towers(CALLS, ONE_ITEMS, 0.1)
    index = index_targets(side)
    random = np.random.default_rng(1)
    lines, bars = [], []
    for name, count in (("nothing left out", 0), (f"{SEEN} items left out", SEEN)):
        times = []
        with threadpool_limits(1, user_api="blas"):
            for row in entity:
                hidden = np.sort(random.choice(ONE_ITEMS, count, replace=False)).astype(np.int32)
                lists = (np.array([0, count]), hidden) if count else None
                begun = time.perf_counter()
                top_k(row[None], index, K, lists)
                times.append(1e3 * (time.perf_counter() - begun))
        half, most = np.quantile(times, [0.5, 0.99])
        lines.append([name, f"{half:.3f}", f"{most:.3f}"])
        bars.append(Bar(f"{name}: median, ms", float(half), -float("inf"), MOST_MILLISECONDS, 3))
    body = [
        f"Top-{K} of one user among {ONE_ITEMS:,} items, rank {RANK} and effects; {CALLS:,} calls, one thread;",
        "milliseconds.",
        "",
        *table(["", "median", "99 %"], lines),
    ]
    return Section("seed 0", bars, body)


def predictions() -> Section:
    """``ranef predict`` from Parquet to Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        _model(path / "model")
        random = np.random.default_rng(2)
        rows = {"user": random.integers(0, 100_000, ROWS), "item": random.integers(0, 50_000, ROWS)}
        pq.write_table(
            pa.table({name: column.astype(np.int32) for name, column in rows.items()}), path / "rows.parquet"
        )
        program = [sys.executable, "-c", "import sys; from ranef.cli import main; sys.exit(main())"]
        command = [*program, "predict", str(path / "model"), str(path / "rows.parquet")]
        begun = time.perf_counter()
        subprocess.run([*command, "--out", str(path / "out.parquet")], check=True, capture_output=True)
        seconds = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        found = pq.read_table(path / "out.parquet").num_rows
    rate = 60 * found / seconds / 1e6
    body = [
        f"`{FORMULA}`, 100,000 users and 50,000 items: `ranef predict` of {ROWS:,} rows, as a process of its own",
        f"from its start to its end: {seconds:.1f} s, peak {peak:.2f} GiB.",
        "",
    ]
    return Section("seed 2", [Bar("million rows a minute", rate, LEAST_ROWS, float("inf"), 1)], body)


def _all_users(fall: float) -> tuple[float, float, float]:
    """Seconds, peak memory in GiB, and the largest error of a score."""
    entity, side = _towers(USERS, ITEMS, fall)
    begun = time.perf_counter()
    _, score = top_k(entity, index_targets(side), K, threads=None)
    seconds = time.perf_counter() - begun
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    chosen = np.random.default_rng(3).choice(USERS, CHECKED, replace=False)
    error = 0.0
    for some in np.array_split(chosen, 20):
        naive = np.sort(entity[some] @ side.T, axis=1)[:, : -K - 1 : -1]
        error = max(error, float(np.abs(naive - score[some]).max()))
    return seconds, gib, error


def _towers(users: int, items: int, fall: float) -> tuple[FloatArray, FloatArray]:
    random = np.random.default_rng(0)
    sd = 0.3 * fall ** (np.arange(RANK) / (RANK - 1))
    entity, side = np.ones((users, RANK + 2)), np.ones((items, RANK + 2))
    entity[:, :RANK] = sd * random.standard_normal((users, RANK))
    entity[:, RANK] = 3.5 + 0.4 * random.standard_normal(users)
    side[:, :RANK] = sd * random.standard_normal((items, RANK))
    side[:, RANK + 1] = 0.5 * random.standard_normal(items)
    return entity, side


def _model(path: Path) -> None:
    """A model of this size; how well it is fitted does not change how long it takes to predict."""
    random = np.random.default_rng(1)
    rows = 300_000
    user = np.concatenate([np.arange(100_000), random.integers(0, 100_000, rows - 100_000)]).astype(np.int32)
    item = np.concatenate([random.permutation(50_000), random.integers(0, 50_000, rows - 50_000)]).astype(np.int32)
    y = random.normal(size=100_000)[user] + random.normal(size=50_000)[item] + random.normal(size=rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.errors.RanefWarning)
        fit = ranef.fit(FORMULA, {"y": y, "user": user, "item": item}, max_iterations=1)
    fit.save(path, posterior=False)
