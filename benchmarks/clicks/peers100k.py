"""100,000 binary rows: ranef's solvers beside lme4's glmer."""

from __future__ import annotations

import statistics
import time
from typing import Any

import ranef
from benchmarks.clicks.peer import glmer
from benchmarks.studies.page import Bar, Section, table
from ranef.result.document import document

ROWS = 100_000
GROUPS = {"user": 2_000, "item": 800}
TRUTH = {"sd": {"user": 0.8, "item": 1.0}, "fixed": {"(Intercept)": 0.3}}
SOLVERS = ("auto", "exact", "stochastic")
REPEATS = 7
PEER_REPEATS = 3
LEAST_FACTOR, MOST_OFF = 80.0, 0.05
PATIENCE = 100.0


def run() -> Section:
    """Fit with both, in this process and in R."""
    simulated = ranef.data.simulate(ROWS, GROUPS, family="bernoulli", seed=1, **TRUTH)
    # one run of lme4 may take half as long again as another
    runs = [glmer(simulated.data, "y", tuple(GROUPS), PATIENCE) for _ in range(PEER_REPEATS)]
    done = sorted((run for run in runs if run is not None), key=lambda run: run.seconds)
    if len(done) < PEER_REPEATS:
        raise RuntimeError(f"lme4 took over {PATIENCE:.0f} s for {ROWS:,} rows")
    peer = done[PEER_REPEATS // 2]
    theirs = {"(Intercept)": peer.intercept, **peer.variances}
    lines = [["lme4", f"{peer.seconds:.2f}", "", f"{peer.m2loglik:.3f}", *(f"{x:.6f}" for x in theirs.values()), ""]]
    bars = []
    for solver in SOLVERS:
        fit, seconds = _timed(simulated, solver)
        estimate, se = _parameters(document(fit))
        off = max(abs(estimate[name] - theirs[name]) / se[name] for name in theirs)
        cells = [f"{seconds:.3f}", f"{peer.seconds / seconds:.0f}", f"{fit.deviance:.3f}"]
        lines.append([f"ranef, {solver}", *cells, *(f"{estimate[name]:.6f}" for name in theirs), f"{off:.4f}"])
        bars.append(Bar(f"{solver}: lme4's seconds / ranef's", peer.seconds / seconds, LEAST_FACTOR, float("inf"), 0))
        bars.append(Bar(f"{solver}: largest distance to lme4's, in se", off, -float("inf"), MOST_OFF, 4))
        if solver == "exact":
            lines.append(["se (exact)", "", "", "", *(f"{se[name]:.6f}" for name in theirs), ""])
    groups = document(fit)["groups"]
    body = [
        f"`{simulated.formula}`, family bernoulli, Laplace (`nAGQ = 1`); {ROWS:,} simulated rows,",
        f"{groups['user']:,} users, {groups['item']:,} items. lme4: only `glmer` timed, median of "
        f"{PEER_REPEATS} processes ({done[0].seconds:.1f} to {done[-1].seconds:.1f} s);",
        f"ranef from the table in memory to the estimates, median of {REPEATS} after one to warm up.",
        "`off`: the largest distance to lme4's, in standard errors of the fit itself.",
        "",
        *table(["", "seconds", "times", "-2 log L", *theirs, "off"], lines),
    ]
    return Section("data seed 1, probes' seed 0", bars, body)


def _timed(simulated: ranef.data.Simulated, solver: str) -> tuple[Any, float]:
    """The fit and the median of its times, after one to warm up."""
    taken = []
    for _ in range(1 + REPEATS):
        begun = time.perf_counter()
        fit = ranef.fit(simulated.formula, simulated.data, family="bernoulli", solver=solver)
        taken.append(time.perf_counter() - begun)
    return fit, statistics.median(taken[1:])


def _parameters(found: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Estimates and standard errors by name: intercept, variances."""
    rows = [(row["term"], row["estimate"], row["se"]) for row in found["fixef"]]
    rows += [(row["grp"], row["vcov"], row["se"]) for row in found["varcorr"]]
    return {name: estimate for name, estimate, _ in rows}, {name: se for name, _, se in rows}
