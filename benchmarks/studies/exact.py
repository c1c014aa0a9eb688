"""The stochastic solver beside the exact one on small data sets that both can fit."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks.studies.designs import DESIGNS, Made
from benchmarks.studies.page import Bar, Section, table
from ranef import Fit, fit
from ranef.errors import ConvergenceWarning, SingularFitWarning
from ranef.learn.noise import coverage_factor

FloatArray: TypeAlias = npt.NDArray[np.float64]

# data sets of each design
SETS = 60
PROBES = (8, 16, 32, 64)
TIGHT = 1e-8
LOGDET_PROBES = 16
KINDS = ("variance", "covariance", "residual variance", "fixed effect", "log-likelihood")
PRINTED = tuple(kind for kind in KINDS if kind != "fixed effect")


@dataclass(frozen=True)
class Beside:
    """One parameter of one data set, both ways.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    difference : float
        Stochastic less exact.
    mcse, se : float
        As printed; ``mcse`` of a fixed effect is NaN, none is printed, and so is ``se`` of the log-likelihood.
    """

    kind: str
    difference: float
    mcse: float
    se: float


@dataclass(frozen=True)
class Trial:
    """One data set: its parameters by the number of probes, with the default tolerance, and who covers the truth.

    Attributes
    ----------
    beside : mapping of way to sequence of Beside
        A way is a number of probes with a tight tolerance, or ``default``: 8 probes with the default one.
    covered : mapping of solver to sequence of (kind, bool)
    converged : mapping of way to bool
    singular : bool
        Whether the exact fit is at the boundary.
    """

    design: str
    beside: Mapping[str, Sequence[Beside]]
    covered: Mapping[str, Sequence[tuple[str, bool]]]
    converged: Mapping[str, bool]
    singular: bool


def trial(place: tuple[str, int]) -> Trial:
    """Simulate a design with a seed and fit it every way, on one thread."""
    design, seed = place
    made = DESIGNS[design](np.random.default_rng(np.random.SeedSequence((list(DESIGNS).index(design), seed))))

    def fitted(solver: Literal["exact", "stochastic"], **options: Any) -> Fit:
        with warnings.catch_warnings():
            # both are counted
            warnings.simplefilter("ignore", SingularFitWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = fit(made.formula, made.table, weights=made.weights, solver=solver, seed=seed, threads=1, **options)
        if found.solver != solver:
            raise RuntimeError(f"{design} was fitted by the {found.solver} solver")
        return found

    exact = fitted("exact")
    ways = {str(probes): fitted("stochastic", probes=probes, tolerance=TIGHT) for probes in PROBES}
    ways["default"] = fitted("stochastic", probes=PROBES[0])
    covered = {"exact": _covered(exact, made), "stochastic": _covered(ways[str(PROBES[0])], made)}
    return Trial(
        design,
        {way: _beside(exact, found) for way, found in ways.items()},
        covered,
        {way: found.converged for way, found in ways.items()},
        exact.singular,
    )


def _beside(exact: Fit, found: Fit) -> list[Beside]:
    rows = []
    for a, b in zip(exact.model.varcorr, found.model.varcorr, strict=True):
        kind = "residual variance" if a.var1 is None else "variance" if a.var2 is None else "covariance"
        rows.append(Beside(kind, b.vcov - a.vcov, b.mcse, b.se))
    errors = np.sqrt(np.diag(exact.model.vcov))
    moved = found.model.beta - exact.model.beta
    rows += [Beside("fixed effect", float(d), float("nan"), float(se)) for d, se in zip(moved, errors, strict=True)]
    rows.append(Beside("log-likelihood", found.loglik - exact.loglik, found.loglik_mcse, float("nan")))
    return rows


def _covered(found: Fit, made: Made) -> list[tuple[str, bool]]:
    limits = found.confint()
    names = {"sd": "variance", "cor": "covariance", "sigma": "residual variance"}
    rows = []
    for name, lower, upper in zip(limits["parameter"], limits["lower"], limits["upper"], strict=True):
        kind = names.get(name.split("_")[0], "fixed effect")
        rows.append((kind, bool(lower < made.truth[name] < upper)))
    return rows


def trials(sets: int) -> list[Trial]:
    """Every design with seeds 0, 1, ..., all cores."""
    places = [(design, seed) for design in DESIGNS for seed in range(sets)]
    # fork would copy a process with threads
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as workers:
        return list(workers.map(trial, places, chunksize=5))


def run(share: float) -> Section:
    """Fit all data sets and say how they compare."""
    sets = max(2, round(share * SETS))
    done = trials(sets)
    first = str(PROBES[0])
    bars = []
    for kind in PRINTED:
        bars.append(Bar(f"{kind}: within 3 mcse of exact, %", 100 * within(done, first, 3.0, kind), 99.0, 100.0))
    bars.append(Bar("all of these: within 3 mcse of exact, %", 100 * within(done, first, 3.0), 99.0, 100.0))
    for kind in KINDS[:-1]:
        bars.append(Bar(f"{kind}: coverage of 95 % intervals, %", 100 * coverage(done, "stochastic", kind), 93.0, 97.0))
    body = [
        f"{sets} data sets of each of {len(DESIGNS)} designs, 3,000 to 6,000 rows, factors of 120 to 600 levels; REML;",
        f"{sum(one.singular for one in done)} singular fits.",
        f"{first} probes, tolerance {TIGHT:g}, seed of the probes that of the data. A covariance's interval is that of",
        "the correlation, a variance's that of the standard deviation.",
        "",
        *_probes_table(done),
        *_fixed_table(done),
        *_coverage_table(done),
        *_design_table(done),
    ]
    return Section(f"seeds 0 to {sets - 1} of each design", bars, body)


def scaled(done: Sequence[Trial], way: str, only: Callable[[Beside], bool]) -> FloatArray:
    """|difference| over the printed Monte-Carlo error, of all that have one."""
    rows = [row for one in done for row in one.beside[way] if row.kind in PRINTED and only(row)]
    return np.array([abs(row.difference) / row.mcse if row.mcse > 0 else np.inf for row in rows if row.difference != 0])


def within(done: Sequence[Trial], way: str, errors: float, kind: str | None = None) -> float:
    """Share of parameters whose difference is at most so many printed Monte-Carlo errors."""
    return float(np.mean(scaled(done, way, lambda row: kind in (None, row.kind)) <= errors))


def coverage(done: Sequence[Trial], solver: str, kind: str, design: str | None = None) -> float:
    """Share of the intervals that hold the truth."""
    chosen = [one for one in done if design in (None, one.design)]
    hits = [hit for one in chosen for which, hit in one.covered[solver] if which == kind]
    return float(np.mean(hits)) if hits else float("nan")


def _probes_table(done: Sequence[Trial]) -> list[str]:
    lines = []
    for way in (*map(str, PROBES), "default"):
        probes = PROBES[0] if way == "default" else int(way)
        cells = [f"{probes}, default tolerance" if way == "default" else way]
        cells += [f"{100 * within(done, way, 3.0, kind):.2f}" for kind in PRINTED]
        rows = [row for one in done for row in one.beside[way] if row.kind in PRINTED and row.mcse / row.se > 0]
        noise = np.array([row.mcse / row.se for row in rows])
        spread = np.array([row.difference / row.se for row in rows])
        ratio = np.sqrt(np.mean(spread**2) / np.mean(noise**2))
        cells += [f"{ratio:.2f}", f"{1 / coverage_factor(probes):.2f}"]
        converged = 100 * np.mean([one.converged[way] for one in done])
        lines.append([*cells, f"{np.median(noise):.4f}", f"{max(noise):.3f}", f"{converged:.1f}"])
    heads = ["probes", *(f"{kind}, %" for kind in PRINTED), "rms difference / rms mcse", "expected"]
    heads += ["mcse/se: median", "largest", "converged, %"]
    return [
        "An error printed from S probes is itself an estimate, with S - 1 degrees of freedom; it is printed so much",
        "larger that 3 of it hold 99.7 % of the differences (Student's t), and the root mean squares below have the",
        f"ratio `expected`. For the log-likelihood there are at least {LOGDET_PROBES} probes.",
        "",
        *table(heads, lines),
    ]


def _fixed_table(done: Sequence[Trial]) -> list[str]:
    lines = []
    for way in (*map(str, PROBES), "default"):
        rows = [abs(row.difference) / row.se for one in done for row in one.beside[way] if row.kind == "fixed effect"]
        cells = [f"{np.quantile(rows, q):.1e}" for q in (0.5, 0.99, 1.0)]
        lines.append([f"{PROBES[0]}, default tolerance" if way == "default" else way, *cells])
    return [
        "Fixed effects have no Monte-Carlo error of their own in the summary: they follow the variances. Their",
        "|difference| / se:",
        "",
        *table(["probes", "median", "99 %", "largest"], lines),
    ]


def _coverage_table(done: Sequence[Trial]) -> list[str]:
    lines = []
    for kind in KINDS[:-1]:
        count = sum(which == kind for one in done for which, _ in one.covered["exact"])
        shares = [f"{100 * coverage(done, solver, kind):.2f}" for solver in ("stochastic", "exact")]
        agree = [
            a == b
            for one in done
            for (which, a), (_, b) in zip(one.covered["stochastic"], one.covered["exact"], strict=True)
            if which == kind
        ]
        lines.append([kind, count, *shares, f"{100 * np.mean(agree):.2f}", f"{100 * np.sqrt(0.95 * 0.05 / count):.2f}"])
    heads = ["kind", "intervals", "stochastic, %", "exact, %", "same verdict, %", "binomial error, %"]
    return ["Coverage of the truth by both solvers, on the same data:", "", *table(heads, lines)]


def _design_table(done: Sequence[Trial]) -> list[str]:
    first, lines = str(PROBES[0]), []
    for design in DESIGNS:
        values = scaled([one for one in done if one.design == design], first, lambda row: True)
        cells = [f"{100 * np.mean(values <= 3):.2f}", f"{values.max():.1f}"]
        hits = [f"{100 * coverage(done, 'stochastic', kind, design):.1f}" for kind in KINDS[:-1]]
        lines.append([design, *cells, *(hit.replace("nan", "") for hit in hits)])
    heads = ["design", "within 3 mcse, %", "largest, mcse", *(f"coverage, {kind}, %" for kind in KINDS[:-1])]
    return [f"By design, {first} probes:", "", *table(heads, lines)]
