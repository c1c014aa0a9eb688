"""`ranef.fit` of implicit feedback: pairs that are observed or not.

``fit("1 ~ latent(user, item, rank=64)", pairs, family="implicit")`` gives every pair of the data the confidence 1,
``fit("plays ~ latent(user, item, rank=64)", ...)`` that of a column; a pair that stands in several rows has their sum.
Observed pairs should score 1, all others 0, with the weights ``unobserved + confidence`` and ``unobserved``; the
objective is in `ranef.learn.implicit.sweeps`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import msgspec
import numpy as np

from ranef.design.pairs import pairs_design
from ranef.design.rows import Missing
from ranef.engine.threads import engine
from ranef.errors import ConvergenceWarning, DroppedRowsWarning, OptionError, counted
from ranef.formula import parse
from ranef.learn.implicit.choose import Trial
from ranef.learn.implicit.fit import fit_implicit
from ranef.learn.implicit.sweeps import Sweep
from ranef.result.implicit_fit import ImplicitFit
from ranef.result.options import check_whole, choice
from ranef.result.warn import warn
from ranef.table import open_source

IMPLICIT = "implicit"
MISSING = ("drop", "raise")
SECONDS = 1.0


def fit_pairs(
    formula: str,
    data: Any,
    others: Mapping[str, Any],
    *,
    method: str | None,
    missing: str,
    seed: int,
    tolerance: float | None,
    max_iterations: int | None,
    threads: int | None,
    progress: bool | None,
    unobserved: float | None,
    penalty: float | None,
    exponent: float | None,
) -> ImplicitFit:
    """Fit implicit feedback; arguments as of `ranef.fit`.

    Parameters
    ----------
    others : mapping of str to object
        The options that this family does not have; None where they were not given.

    Raises
    ------
    FormulaError, DataError, OptionError, FitError
    """
    begun = time.perf_counter()
    if method is not None:
        choice("method", method, ("map",), " for family='implicit'")
    for name, value in others.items():
        if value is not None:
            raise OptionError(f"{name}= has no meaning for family='implicit'; leave it out")
    check_whole("seed", seed, 0)
    missing = choice("missing", missing, MISSING)
    _check_number("unobserved", unobserved, zero=False)
    _check_number("penalty", penalty, zero=False)
    _check_number("exponent", exponent, zero=True)
    if tolerance is not None and not (isinstance(tolerance, int | float | np.floating) and 0 < tolerance < 1):
        raise OptionError(f"tolerance={tolerance!r}: give a number between 0 and 1, such as 1e-4")
    if max_iterations is not None:
        check_whole("max_iterations", max_iterations, 1)
    parsed = parse(formula)
    source = open_source(data)
    design = pairs_design(parsed, source, cast(Missing, missing))
    if design.rank is not None and design.rank > min(len(design.users), len(design.items)):
        raise OptionError(
            f"rank={design.rank} is more than the data can tell apart: there are {counted(len(design.users), 'user')} "
            f"and {counted(len(design.items), 'item')}; give a lower one"
        )
    report, report_trial = _reports(progress)
    with engine(threads) as pool:
        model = fit_implicit(
            design,
            pool,
            unobserved=None if unobserved is None else float(unobserved),
            penalty=None if penalty is None else float(penalty),
            exponent=1.0 if exponent is None else float(exponent),
            seed=seed,
            tolerance=tolerance,
            max_iterations=max_iterations,
            report=report,
            report_trial=report_trial,
        )
    # reading included
    info = msgspec.structs.replace(model.info, seconds=time.perf_counter() - begun)
    if info.dropped:
        warn(
            f"{counted(info.dropped, 'row')} left out: a value is missing or the confidence is zero", DroppedRowsWarning
        )
    if not info.converged:
        warn(
            f"the objective still fell after {counted(len(info.history), 'sweep')}; raise max_iterations=",
            ConvergenceWarning,
        )
    options: dict[str, Any] = {"family": IMPLICIT, "method": method, "missing": missing, "seed": seed}
    options |= {"tolerance": tolerance, "max_iterations": max_iterations, "threads": threads, "progress": progress}
    options |= {"unobserved": unobserved, "penalty": penalty, "exponent": exponent}
    return ImplicitFit(replace(model, info=info), formula, source.library, design, data, options)


def _check_number(name: str, value: Any, zero: bool) -> None:
    if value is None:
        return
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))
    if not number or value < 0 or (value == 0 and not zero):
        least = "0 or more" if zero else "above 0, or leave it out to have it chosen"
        raise OptionError(f"{name}={value!r}: give a number {least}")


def _reports(progress: bool | None) -> tuple[Callable[[Sweep], None] | None, Callable[[Trial], None] | None]:
    """What is called at every sweep and at every setting tried; as `ranef.result.progress.steps`."""
    if progress is False or (progress is None and not sys.stderr.isatty()):
        return None, None
    begun = time.perf_counter()

    def write(text: str) -> None:
        if progress or time.perf_counter() - begun >= SECONDS:
            sys.stderr.write(text)
            sys.stderr.flush()

    def sweep(one: Sweep) -> None:
        write(f"sweep {one.number}: objective {one.objective:.8g}, {one.seconds:.1f} s\n")

    def trial(one: Trial) -> None:
        weights = one.setting.weights
        write(
            f"validation: rank {one.setting.rank}, unobserved {weights.unobserved:.4g}, penalty {weights.penalty:.4g}: "
            f"NDCG@100 {one.score.mean:.4f} (se {one.score.error:.4f}) after {one.sweeps} sweeps, {one.seconds:.1f} s\n"
        )

    return sweep, trial
