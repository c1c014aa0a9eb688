"""Bernoulli, Poisson and ordinal Laplace fits beside those of lme4 and clmm on the same simulated data sets."""

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
# the first of each is what ranef is held against: glmer's default tolerances leave errors that the same data sets show
PEERS = {
    "bernoulli": {"lme4, tight": "tight", "lme4": "default"},
    "poisson": {"lme4, tight": "tight", "lme4": "default"},
    "ordinal": {"clmm": "default"},
}
# of the Monte-Carlo error of a bias: what no study of this size can tell from nothing
NEGLIGIBLE = 0.01
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


def peers(family: str, sets: int, control: str) -> list[Found]:
    """Fit all data sets of a family with lme4 or clmm, one R process a core; ``control`` is as of the script."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(sets):
            csv.write_csv(pa.table(simulate(family, seed)), Path(folder, f"{seed:05d}.csv"))
        running = [
            subprocess.Popen(
                ["Rscript", str(SCRIPT), folder, family, FORMULA, str(first + 1), str(cores), control],
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
    """Fit all data sets with ranef and its peers and say how they compare."""
    sets = max(10, round(share * SETS))
    bars: list[Bar] = []
    body = [
        f"`{FORMULA}`, {ROWS} rows, {USERS} users, {ITEMS} items; {sets} data sets a family. ranef: Laplace, exact",
        "solver, one thread; ordinal::clmm with its defaults; lme4::glmer (nAGQ = 1) with its defaults and,",
        "`tight`, with tolerances as small as they go (`tolPwrss = 1e-13`, nloptwrap to 1e-12): the bars are for this.",
        "Coverage is of 95 % Wald intervals, of sds on the log scale (the peers print no standard error of these).",
        "",
        "A bar is how much worse ranef may be than the peer: two Monte-Carlo standard errors of the difference over",
        f"the same data sets, and for a bias {100 * NEGLIGIBLE:.0f} % of its own Monte-Carlo error besides. The fits",
        "agree so well that the error of the difference alone would make a verdict of the digits that neither search",
        "settles.",
        "",
    ]
    for family, controls in PEERS.items():
        done = {"ranef": trials(family, sets)}
        done |= {peer: peers(family, sets, control) for peer, control in controls.items()}
        more, lines = _section(family, done)
        bars += more
        body += lines
    return Section(f"seeds 0 to {sets - 1} of each family", bars, body)


def _section(family: str, done: Mapping[str, Sequence[Found]]) -> tuple[list[Bar], list[str]]:
    """What is said of one family; the first of ``done`` is ranef's, and the second what it is held against."""
    fitted = [fits for fits in zip(*done.values(), strict=True) if not any(one.failed for one in fits)]
    both = {name: [fits[i] for fits in fitted] for i, name in enumerate(done)}
    counts = "; ".join(
        f"{name} {sum(one.failed for one in fits)} and {sum(one.complained for one in fits)}, "
        f"{sum(one.seconds for one in both[name]):.0f} s"
        for name, fits in done.items()
    )
    body = [f"{family}, {len(fitted)} data sets that all fitted. Failures, warnings and seconds of the fits: {counts}."]
    ranef, *others = both.items()
    for name, fits in others:
        apart = np.array([one.deviance - two.deviance for one, two in zip(ranef[1], fits, strict=True)])
        body.append(
            f"Deviance, ranef less {name}: {apart.min():.1e} to {apart.max():.1e}; lower by more than 1e-6 in "
            f"{np.sum(apart < -1e-6)}, higher in {np.sum(apart > 1e-6)}."
        )
    against = others[0]
    above = max(one.deviance - two.deviance for one, two in zip(ranef[1], against[1], strict=True))
    bars = [
        Bar(f"{family}: ranef's failures", sum(one.failed for one in done["ranef"]), -float("inf"), 0.0, 0),
        *_bars(family, ranef[1], against[0], against[1]),
        Bar(f"{family}: largest deviance above that of {against[0]}", above, -float("inf"), 1e-3, 6),
    ]
    heads = ["parameter", "truth", "", "bias", "error of bias", "rmse", "coverage, %", "binomial error, %"]
    lines: list[list[object]] = []
    for name, value in truth(family).items():
        for who, fits in both.items():
            off, inside = errors(fits, family, name), covered(fits, family, name)
            cells: list[object] = [f"{off.mean():+.6f}", f"{off.std(ddof=1) / np.sqrt(len(off)):.6f}"]
            cells.append(f"{np.sqrt(np.mean(off**2)):.6f}")
            known = np.isfinite(inside).any()
            cells.append(f"{100 * np.nanmean(inside):.1f}" if known else "")
            cells.append(f"{100 * np.sqrt(0.95 * 0.05 / len(off)):.1f}" if known else "")
            lines.append([name, value, who, *cells])
    return bars, [*body, "", *table(heads, lines)]


def _bars(family: str, a: Sequence[Found], peer: str, b: Sequence[Found]) -> list[Bar]:
    """Bias and coverage of each parameter beside the peer's on the same data sets."""
    bars, root = [], np.sqrt(len(a))
    for name in truth(family):
        x, y = errors(a, family, name), errors(b, family, name)
        allowed = 2 * (x - y).std(ddof=1) / root + NEGLIGIBLE * y.std(ddof=1) / root
        what = f"{family}, {name}: |bias| above that of {peer}"
        bars.append(Bar(what, abs(x.mean()) - abs(y.mean()), -float("inf"), allowed, 6))
        p, q = covered(a, family, name), covered(b, family, name)
        if np.isfinite(q).any():
            away = abs(np.mean(p) - 0.95) - abs(np.mean(q) - 0.95)
            what = f"{family}, {name}: coverage further from 95 % than that of {peer}, points"
            bars.append(Bar(what, 100 * away, -float("inf"), 200 * (p - q).std(ddof=1) / root))
    return bars
