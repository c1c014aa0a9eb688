"""Clicks and star ratings by Laplace's approximation: seconds, memory and distance from the truth."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import ranef
from benchmarks.alone import fit_alone
from benchmarks.studies.large import parquet
from benchmarks.studies.page import Bar, Section, table
from ranef import data

ROWS, USERS, ITEMS = 20_000_000, 138_493, 26_744
SD = {"user": 0.8, "item": 1.0}
INTERCEPT = 0.3
FORMULA = "y ~ 1 + (1 | user) + (1 | item)"
MOVIELENS = "ml-1m/ratings.parquet"
# name, formula, family, seconds that it may take
REAL = (
    ("MovieLens-1M, liked", "I(rating >= 4) ~ 1 + (1 | user_id) + (1 | item_id)", "bernoulli", 4.0),
    ("MovieLens-1M, ratings", "rating ~ 1 + (1 | user_id) + (1 | item_id)", "ordinal", 15.0),
)
# rows of one factor, as many a user as there
ONE_FACTOR, NODES = 500_000, 25
NONE = -float("inf")


def run(share: float) -> Section:
    """Fit simulated clicks, real ratings, and users alone by quadrature."""
    with parquet() as path:
        data.simulate(
            round(share * ROWS), {"user": round(share * USERS), "item": round(share * ITEMS)}, sd=SD,
            fixed={"(Intercept)": INTERCEPT}, activity={"user": 1.0, "item": 1.5}, family="bernoulli", seed=1,
            path=path,
        )  # fmt: skip
        found = fit_alone(FORMULA, path, {"family": "bernoulli", "solver": "stochastic"})
    bars = [
        Bar("simulated clicks: seconds from Parquet to the printed summary", found["wall"], NONE, 75.0, 1),
        Bar("simulated clicks: peak memory, GB", found["peak"] * 2**20 / 1e9, NONE, 3.0),
    ]
    lines = []
    for name, truth, estimate, se, mcse in _parameters(found):
        off = abs(estimate - truth)
        # three standard errors, or one per cent: Laplace's own bias is beyond those of so many rows
        bars.append(Bar(f"{name}: |estimate - truth| over what is allowed", off / max(3 * se, 0.01 * truth), NONE, 1.0))
        lines.append([name, truth, f"{estimate:.5f}", f"{se:.5f}", mcse, f"{(estimate - truth) / se:+.2f}"])
    lines_real = []
    folder = Path(os.environ.get("RANEF_TEST_DATA", "absent"))
    for name, formula, family, most in REAL if (folder / MOVIELENS).exists() else ():
        fit = fit_alone(formula, folder / MOVIELENS, {"family": family})
        bars.append(Bar(f"{name}: seconds from Parquet to the fit", fit["seconds"], NONE, most, 1))
        variances = (f"{row['vcov']:.5f} ({row['se']:.5f})" for row in fit["varcorr"])
        lines_real.append([name, f"`{formula}`", fit["probes"], fit["iterations"], f"{fit['seconds']:.1f}", *variances])
    body = [
        f"`{FORMULA}`, {round(share * ROWS):,} rows, {found['probes']} probes, {found['iterations']} evaluations:",
        "",
        *table(["parameter", "truth", "estimate", "se", "mcse", "(estimate - truth) / se"], lines),
        *(table(["data", "model", "probes", "evaluations", "seconds", "user (se)", "item (se)"], lines_real)),
        *_bias(share),
    ]
    return Section("data seed 1, probe seed 0", bars, body)


def _parameters(found: Mapping[str, Any]) -> list[tuple[str, float, float, float, str]]:
    out = [
        (f"sd of {row['grp']}", SD[row["grp"]], row["sdcor"], row["se"] / (2 * row["sdcor"]),
         f"{row['mcse'] / (2 * row['sdcor']):.1e}")
        for row in found["varcorr"]
    ]  # fmt: skip
    (beta,) = found["fixef"]
    return [*out, ("intercept", INTERCEPT, beta["estimate"], beta["se"], "")]


def _bias(share: float) -> list[str]:
    """Laplace's bias, as quadrature shows it on users alone."""
    rows, users = round(share * ONE_FACTOR), round(share * ONE_FACTOR * USERS / ROWS)
    made = data.simulate(
        rows, {"user": users}, sd=SD["user"], fixed={"(Intercept)": INTERCEPT}, family="bernoulli", seed=2
    )
    by = {nodes: ranef.fit(made.formula, made.data, family="bernoulli", quadrature=nodes) for nodes in (1, NODES)}
    sds = {nodes: float(np.sqrt(fit.model.groups[0].covariance[0, 0])) for nodes, fit in by.items()}
    return [
        f"Laplace's own bias: {rows:,} rows of {users:,} users alone, as many rows a user, true sd {SD['user']}: "
        f"Laplace {sds[1]:.5f}, quadrature with {NODES} nodes {sds[NODES]:.5f},",
        f"{100 * (sds[1] / sds[NODES] - 1):+.2f} %.",
        "",
    ]
