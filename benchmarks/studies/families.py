"""Bernoulli, Poisson and ordinal Laplace fits beside lme4's and clmm's on the same simulated data sets."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from benchmarks.studies.page import Bar, Section, table
from ranef import fit
from ranef.errors import RanefError, RanefWarning

FloatArray: TypeAlias = npt.NDArray[np.float64]

# data sets of each family
SETS = 300
ROWS, USERS, ITEMS = 900, 60, 30
SD = {"user": 0.8, "item": 0.5}
SLOPE = 0.4
INTERCEPT = {"bernoulli": -0.3, "poisson": 0.5}
THRESHOLDS = (-1.2, 0.0, 1.3)
FORMULA = "y ~ x + (1 | user) + (1 | item)"
PEERS = {"bernoulli": "lme4", "poisson": "lme4", "ordinal": "clmm"}
NORMAL = 1.959963984540054
SCRIPT = Path(__file__).parents[1] / "families.R"


@dataclass(frozen=True)
class Found:
    """One fit.

    Attributes
    ----------
    estimate, se : mapping of parameter to float
        Standard errors of standard deviations are on the log scale, NaN of those that are zero or not given.
    deviance, seconds : float
    complained, failed : bool
        Whether there was a warning, or an error in place of a fit.
    """

    estimate: Mapping[str, float]
    se: Mapping[str, float]
    deviance: float
    seconds: float
    complained: bool
    failed: bool


def truth(family: str) -> dict[str, float]:
    """True parameters by the names that both packages give them."""
    sds = {f"sd_(Intercept)|{name}": sd for name, sd in SD.items()}
    if family == "ordinal":
        return {**{f"{i + 1}|{i + 2}": cut for i, cut in enumerate(THRESHOLDS)}, "x": SLOPE, **sds}
    return {"(Intercept)": INTERCEPT[family], "x": SLOPE, **sds}


def simulate(family: str, seed: int) -> dict[str, npt.NDArray[Any]]:
    """One data set: two crossed factors and a covariate."""
    rng = np.random.default_rng(np.random.SeedSequence((list(PEERS).index(family), seed)))
    user, item = rng.integers(0, USERS, ROWS), rng.integers(0, ITEMS, ROWS)
    x = rng.standard_normal(ROWS)
    eta = INTERCEPT.get(family, 0.0) + SLOPE * x
    eta += SD["user"] * rng.standard_normal(USERS)[user] + SD["item"] * rng.standard_normal(ITEMS)[item]
    if family == "poisson":
        y = rng.poisson(np.exp(eta))
    elif family == "bernoulli":
        y = (rng.random(ROWS) < 1 / (1 + np.exp(-eta))).astype(np.int64)
    else:
        y = 1 + np.sum((eta + rng.logistic(size=ROWS))[:, None] > np.array(THRESHOLDS), axis=1)
    return {"y": y, "x": x, "user": user, "item": item}


def ours(place: tuple[str, int]) -> Found:
    """Fit a data set with ranef: exact path, one thread."""
    family, seed = place
    data = simulate(family, seed)
    begun = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RanefWarning)
        try:
            found = fit(FORMULA, data, family=family, solver="exact", threads=1)
        except RanefError:
            return Found({}, {}, float("nan"), time.perf_counter() - begun, True, True)
    seconds = time.perf_counter() - begun
    limits = found.confint()
    rows = list(zip(limits["parameter"], limits["estimate"], limits["lower"], limits["upper"], strict=True))
    estimate = {name: value for name, value, _, _ in rows}
    se = {
        name: (np.log(upper / lower) if name.startswith("sd_") else upper - lower) / (2 * NORMAL)
        for name, _, lower, upper in rows
    }
    return Found(estimate, se, -2 * found.loglik, seconds, bool(caught), False)


def peers(family: str, sets: int) -> list[Found]:
    """Fit all data sets of a family with lme4 or clmm, one R process a core."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(sets):
            csv.write_csv(pa.table(simulate(family, seed)), Path(folder, f"{seed:05d}.csv"))
        running = [
            subprocess.Popen(
                ["Rscript", str(SCRIPT), folder, family, FORMULA, str(first + 1), str(cores)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for first in range(min(cores, sets))
        ]
        lines = [line.split("\t") for one in running for line in one.communicate()[0].splitlines()]
    if any(one.returncode for one in running):
        raise RuntimeError(f"Rscript {SCRIPT.name} failed")
    said: dict[int, dict[str, tuple[float, float]]] = {}
    for file, name, value, se in lines:
        said.setdefault(int(file[:5]), {})[name] = float(value), float(se.replace("NA", "nan"))
    return [_of_peer(said[seed], truth(family)) for seed in range(sets)]


def _of_peer(said: Mapping[str, tuple[float, float]], names: Mapping[str, float]) -> Found:
    if said["failed"][0]:
        return Found({}, {}, float("nan"), float("nan"), True, True)
    values = {name: said[name][0] for name in names}
    errors = {name: said[name][1] for name in names}
    return Found(values, errors, said["deviance"][0], said["seconds"][0], bool(said["complained"][0]), False)


def trials(family: str, sets: int) -> list[Found]:
    """Fit with seeds 0, 1, ..., all cores."""
    # fork would copy a process with threads
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as workers:
        return list(workers.map(ours, [(family, seed) for seed in range(sets)], chunksize=5))


def errors(done: Sequence[Found], family: str, name: str) -> FloatArray:
    """Estimate less truth."""
    return np.array([one.estimate[name] for one in done]) - truth(family)[name]


def covered(done: Sequence[Found], family: str, name: str) -> FloatArray:
    """1 where the 95 % Wald interval holds the truth, NaN where there is none."""
    scale = np.log if name.startswith("sd_") else np.asarray
    with np.errstate(divide="ignore", invalid="ignore"):
        off = scale([one.estimate[name] for one in done]) - scale(truth(family)[name])
        se = np.array([one.se[name] for one in done])
        return np.where(np.isfinite(se), np.abs(off) <= NORMAL * se, np.nan)


def run(share: float) -> Section:
    """Fit all data sets both ways and say how they compare."""
    sets = max(10, round(share * SETS))
    bars: list[Bar] = []
    body = [
        f"`{FORMULA}`, {ROWS} rows, {USERS} users, {ITEMS} items; {sets} data sets a family. ranef: Laplace, exact",
        "solver, one thread; lme4::glmer (nAGQ = 1) and ordinal::clmm with their defaults. Coverage of 95 % Wald",
        "intervals, of sds on the log scale (the peers print no standard error of these). A bar is how much worse",
        "ranef may be than the peer: two Monte-Carlo standard errors of the difference over the same data sets.",
        "",
    ]
    for family, peer in PEERS.items():
        a, b = trials(family, sets), peers(family, sets)
        bars.append(Bar(f"{family}: ranef's failures", sum(one.failed for one in a), -float("inf"), 0.0, 0))
        both = [(one, two) for one, two in zip(a, b, strict=True) if not (one.failed or two.failed)]
        more, lines = _compare(family, [one for one, _ in both], [two for _, two in both])
        bars += more
        heads = ["parameter", "truth", "bias, ranef", f"bias, {peer}", "error of bias", "rmse, ranef", f"rmse, {peer}"]
        heads += ["coverage, ranef, %", f"coverage, {peer}, %", "binomial error, %"]
        apart = np.array([one.deviance - two.deviance for one, two in both])
        body += [
            f"{family}, {len(both)} data sets that both fitted. Failures: ranef {sum(one.failed for one in a)}, {peer} "
            f"{sum(one.failed for one in b)}; warnings: {sum(one.complained for one in a)} and "
            f"{sum(one.complained for one in b)}.",
            f"Seconds of the fits: {sum(one.seconds for one, _ in both):.1f} and "
            f"{sum(two.seconds for _, two in both):.1f}. Deviance, ranef less {peer}: {apart.min():.1e} to "
            f"{apart.max():.1e};",
            f"lower by more than 1e-6 in {np.sum(apart < -1e-6)}, higher in {np.sum(apart > 1e-6)}.",
            "",
            *table(heads, lines),
        ]
        bars.append(Bar(f"{family}: largest deviance above {peer}'s", float(apart.max()), -float("inf"), 1e-3, 6))
    return Section(f"seeds 0 to {sets - 1} of each family", bars, body)


def _compare(family: str, a: Sequence[Found], b: Sequence[Found]) -> tuple[list[Bar], list[list[object]]]:
    bars, lines = [], []
    root = np.sqrt(len(a))
    for name, value in truth(family).items():
        x, y = errors(a, family, name), errors(b, family, name)
        worse, noise = abs(x.mean()) - abs(y.mean()), (x - y).std(ddof=1) / root
        bars.append(Bar(f"{family}, {name}: |bias| above the peer's", worse, -float("inf"), 2 * noise, 6))
        p, q = covered(a, family, name), covered(b, family, name)
        cells: list[object] = [name, value, f"{x.mean():+.5f}", f"{y.mean():+.5f}", f"{x.std(ddof=1) / root:.5f}"]
        cells += [f"{np.sqrt(np.mean(x**2)):.5f}", f"{np.sqrt(np.mean(y**2)):.5f}", f"{100 * np.nanmean(p):.1f}"]
        if np.isfinite(q).any():
            away = abs(np.mean(p) - 0.95) - abs(np.mean(q) - 0.95)
            allowed = 2 * (p - q).std(ddof=1) / root
            what = f"{family}, {name}: coverage further from 95 %, points"
            bars.append(Bar(what, 100 * away, -float("inf"), 100 * allowed))
            cells.append(f"{100 * np.nanmean(q):.1f}")
        else:
            cells.append("")
        lines.append([*cells, f"{100 * np.sqrt(0.95 * 0.05 / len(a)):.1f}"])
    return bars, lines
