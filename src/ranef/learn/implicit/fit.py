"""A fit of implicit feedback: choose what was not given, sweep, and put the users at their minimum."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from ranef.artifact.implicit import ImplicitInfo, ImplicitModel, SweepRecord, TrialRecord, Weights
from ranef.artifact.versions import versions
from ranef.design.pairs import PairsDesign
from ranef.engine.threads import Engine
from ranef.errors import FitError, OptionError
from ranef.learn.implicit.choose import Trial, choose
from ranef.learn.implicit.pairs import Pairs, ordered_pairs
from ranef.learn.implicit.sweeps import Factors, Sweep, finished, minimise, start_factors
from ranef.learn.implicit.validate import FEWEST, LEAST, SHARE, Validation, validation_users

# sweeps at most, and the relative fall of the objective that ends them, where no validation users say how many
SWEEPS, TOLERANCE = 100, 1e-4


def fit_implicit(
    design: PairsDesign,
    engine: Engine,
    *,
    unobserved: float | None = None,
    penalty: float | None = None,
    exponent: float = 1.0,
    seed: int = 0,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    report: Callable[[Sweep], None] | None = None,
    report_trial: Callable[[Trial], None] | None = None,
) -> ImplicitModel:
    """Fit a design.

    Parameters
    ----------
    design : PairsDesign
    engine : Engine
    unobserved, penalty : float, optional
        Chosen on validation users if not given, as a rank that is None.
    exponent : float
    seed : int
        Of the start and of the validation users.
    tolerance : float, optional
        Sweeps end when one lowers the objective by less than this, relative. Default: after ``max_iterations``, or as
        many as the validation users wanted; 1e-4 where there is neither.
    max_iterations : int, optional
        Sweeps; at most, with ``tolerance``.
    report, report_trial : callable, optional
        Given every sweep of the fit, and every setting that was tried.

    Raises
    ------
    OptionError
        There are too few users to choose on.
    FitError
        The vectors overflow.
    """
    begun = time.perf_counter()
    shape = (len(design.users), len(design.items))
    pairs = ordered_pairs(design.user_codes, design.item_codes, design.confidence, shape)
    best, trials, validation = None, list[Trial](), None
    wanted: Mapping[str, Any] = {"unobserved": unobserved, "penalty": penalty, "rank": design.rank}
    chosen = tuple(name for name, value in wanted.items() if value is None)
    if chosen:
        validation = _validation(pairs, chosen, seed)
        best, trials = choose(
            validation,
            engine,
            rank=design.rank,
            unobserved=unobserved,
            penalty=penalty,
            exponent=exponent,
            seed=seed,
            report=report_trial,
        )
    if best is not None:
        rank, weights = best.setting.rank, best.setting.weights
    else:
        rank, weights = cast(int, design.rank), Weights(cast(float, unobserved), cast(float, penalty), exponent)
    wanted_sweeps = max_iterations if best is None or max_iterations is not None else best.sweeps
    if tolerance is not None:
        most, enough = max_iterations or SWEEPS, tolerance
    else:
        most, enough = wanted_sweeps or SWEEPS, 0.0 if wanted_sweeps else TOLERANCE
    done: list[Sweep] = []
    factors = start_factors(pairs, rank, seed)

    def told(sweep: Sweep, after: Factors) -> bool:
        nonlocal factors
        done.append(sweep)
        factors = after
        if report is not None:
            report(sweep)
        if not np.isfinite(sweep.objective):
            raise FitError(
                f"the objective is {sweep.objective} after {sweep.number} sweeps: numbers are too large for "
                "float32, those of the confidences or the penalties; divide confidences by a constant, or take their "
                "logarithm, and keep exponent= at 1 or below"
            )
        return False

    try:
        minimise(pairs, weights, factors, engine, sweeps=most, tolerance=enough, report=told)
    except KeyboardInterrupt:
        # the last whole sweep is a result; the warning of one that did not converge says what it is
        if not done:
            raise
    factors, objective = finished(pairs, weights, factors, engine)
    falls = len(done) > 1 and done[-2].objective - done[-1].objective < enough * done[-1].objective
    info = ImplicitInfo(
        nobs=len(design.user_codes),
        pairs=pairs.count,
        dropped=design.dropped.rows,
        dropped_missing=dict(design.dropped.missing),
        dropped_zero=design.dropped.zero_weight,
        weights=weights,
        objective=objective,
        converged=falls or len(done) == wanted_sweeps,
        seconds=time.perf_counter() - begun,
        history=tuple(SweepRecord(one.number, one.objective, one.seconds) for one in done),
        chosen=chosen,
        trials=tuple(map(_record, trials)),
        validation_users=0 if validation is None else validation.users,
        versions=versions(),
    )
    return ImplicitModel(design.spec, info, design.users, design.items, factors.users, factors.items)


def _validation(pairs: Pairs, chosen: tuple[str, ...], seed: int) -> Validation:
    validation = validation_users(pairs, seed)
    if validation is None:
        raise OptionError(
            f"{', '.join(chosen)} cannot be chosen: that takes {FEWEST} validation users, {SHARE:.0%} of those with "
            f"{LEAST} items or more, and the data have too few; give unobserved=, penalty= and the rank"
        )
    return validation


def _record(trial: Trial) -> TrialRecord:
    weights = trial.setting.weights
    return TrialRecord(
        rank=trial.setting.rank,
        unobserved=weights.unobserved,
        penalty=weights.penalty,
        exponent=weights.exponent,
        iterations=trial.sweeps,
        ndcg=trial.score.mean,
        se=trial.score.error,
        seconds=trial.seconds,
    )
