"""MovieLens-1M, liked or not: ranef beside GPBoost."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.alone import fit_alone
from benchmarks.clicks.peer import gpboost
from benchmarks.clicks.real import real
from benchmarks.studies.page import Bar, Section, table

FORMULA = "I(rating >= 4) ~ 1 + (1 | user_id) + (1 | item_id)"
GROUPS = ("user_id", "item_id")
REPEATS = 5
MOST_SECONDS, LEAST_FACTOR = 4.0, 4.0
PATIENCE = 250.0


def run() -> Section:
    """Fit with both."""
    path = real("ml-1m/ratings.parquet")
    options = {"family": "bernoulli", "solver": "stochastic"}
    # the first one compiles
    fits = [fit_alone(FORMULA, path, options) for _ in range(1 + REPEATS)][1:]
    one, seconds = fits[0], statistics.median(fit["wall"] for fit in fits)
    inside = statistics.median(fit["seconds"] for fit in fits)
    named = {row["grp"]: row for row in one["varcorr"]}
    (fixed,) = one["fixef"]
    cells = [f"{seconds:.2f}", f"{one['peak']:.0f}", f"{-2 * one['loglik']:.1f}", f"{fixed['estimate']:.5f}"]
    lines = [["ranef", *cells, *(f"{named[group]['vcov']:.5f}" for group in GROUPS)]]
    lines.append(["se", "", "", "", f"{fixed['se']:.5f}", *(f"{named[group]['se']:.5f}" for group in GROUPS)])
    errors = [f"{2 * one['loglik_mcse']:.1f}", "", *(f"{named[group]['mcse']:.5f}" for group in GROUPS)]
    lines.append(["mcse", "", "", *errors])
    peers: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.parquet"
        whole = pq.read_table(path, columns=["rating", *GROUPS])
        liked = pc.greater_equal(whole["rating"], 4).cast(pa.int8())
        pq.write_table(whole.select(GROUPS).append_column("liked", liked), rows)
        for mode in ("default", "iterative"):
            found = gpboost(rows, "liked", GROUPS, mode, PATIENCE)
            if found is None:
                lines.append([f"GPBoost, {mode}", f"over {PATIENCE:.0f}", *[""] * 5])
                continue
            peers[mode] = found.seconds
            cells = [f"{found.seconds:.1f}", "", f"{found.m2loglik:.1f}", f"{found.intercept:.5f}"]
            lines.append([f"GPBoost, {mode}", *cells, *(f"{found.variances[group]:.5f}" for group in GROUPS)])
    fastest = min(peers.values(), default=PATIENCE)
    off = max(row["mcse"] / row["se"] for row in one["varcorr"])
    bars = [
        Bar("seconds", seconds, -float("inf"), MOST_SECONDS),
        Bar("GPBoost's fastest, of ranef's seconds", fastest / seconds, LEAST_FACTOR, float("inf"), 1),
        Bar("largest mcse / se of a variance", off, -float("inf"), 0.05, 4),
    ]
    body = [
        f"`{FORMULA}`, family bernoulli, Laplace; {one['nobs']:,} rows,",
        f"{one['groups']['user_id']:,} users, {one['groups']['item_id']:,} items; all threads. ranef: median of "
        f"{REPEATS} processes, from importing the",
        f"library to the printed summary of the Parquet file (`Fit.seconds`: {inside:.2f}), {one['iterations']} "
        f"evaluations, {one['probes']} probes. GPBoost: one fit in each mode",
        "of `matrix_inversion_method`, only `fit` timed.",
        "",
        *table(["", "seconds", "peak MiB", "-2 log L", "(Intercept)", *GROUPS], lines),
    ]
    return Section("probes' seed 0", bars, body)
