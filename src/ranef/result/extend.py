"""Two stages: a mixed model that is fitted, and latent terms for what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from ranef.artifact.model import Model
from ranef.design.build import Design, build_design
from ranef.design.matrix import ModelMatrixSpec
from ranef.engine.compiling import telling_of_compilation
from ranef.engine.threads import engine
from ranef.errors import OptionError
from ranef.formula import parse
from ranef.learn.factor.fit import fit_factors
from ranef.result.habits import with_habits
from ranef.result.options import check_tolerance, check_whole
from ranef.result.progress import compiling, sweeps
from ranef.result.ratings import limits_of
from ranef.result.residuals import check_rows, linear_predictor
from ranef.result.validation import Callback, Validator, after_sweeps, read_callbacks, read_validation
from ranef.result.warn import warn_about_fit
from ranef.storage import storage
from ranef.table import Source

NO_FIXED_PART = ModelMatrixSpec((), (), ())


@dataclass(frozen=True, eq=False)
class Extended:
    """What a fit of two stages is made of; ``options`` fit both parts together."""

    model: Model
    formula: str
    design: Design
    options: dict[str, Any]


def extended_formula(model: Model, formula: str, terms: str) -> str:
    """The formula with latent terms added.

    Raises
    ------
    FormulaError
        With the place in the whole formula.
    OptionError
        The model is of another family, has such terms already, or others are added.
    """
    if model.spec.kind != "number" or model.sample is not None:
        raise OptionError(
            "extend() factorises the residuals of a Gaussian model with method='reml' or 'ml'; fit such a one first"
        )
    if model.latent:
        raise OptionError("the model has latent terms already; update('. ~ . + latent(...)') fits all of them together")
    if not isinstance(terms, str):
        raise OptionError(f"extend() takes terms such as 'latent(user, item, rank=32)', not {type(terms).__name__}")
    text = f"{' '.join(formula.split())} + {terms}"
    before, after = parse(formula), parse(text)
    if not after.latent or replace(after, latent=(), text="") != replace(before, text=""):
        raise OptionError(f"extend() adds latent() and fm() terms, and nothing else: {terms!r}")
    return text


@with_habits({})
def extend(
    model: Model,
    formula: str,
    source: Source,
    terms: str,
    options: dict[str, Any],
    *,
    validation: Any = None,
    callbacks: Callback | Sequence[Callback] | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    max_iterations: int | None = None,
    progress: bool | None = None,
) -> Extended:
    """A model with latent terms for its residuals; arguments as of `ranef.result.fit.Fit.extend`.

    Parameters
    ----------
    model : Model
    formula : str
        Of the model.
    source : Source
        The rows of the fit.
    terms : str
    options : dict
        Of the fit: weights, offset, tables, threads, memory.
    """
    text = extended_formula(model, formula, terms)
    check_whole("seed", seed, 0)
    if max_iterations is not None:
        check_whole("max_iterations", max_iterations, 1)
    check_tolerance(tolerance)
    validator = None
    limits = limits_of(options.get("clip", "auto"), model.info.ratings, True)
    if validation is not None:
        held = read_validation(validation, seed).source
        if held is None:
            raise OptionError(
                f"validation={validation!r}: give a table here, as the mixed model has seen every row of its own"
            )
        validator = Validator(held, None, options.get("tables"), limits)
    called = read_callbacks(callbacks)
    place = storage(options.get("memory", "auto"))
    with engine(options.get("threads"), place) as pool, telling_of_compilation(compiling(progress)):
        design = build_design(
            parse(text),
            source,
            weights=options.get("weights"),
            offset=options.get("offset"),
            storage=place,
            tables=options.get("tables"),
        )
        check_rows(model, design)
        spec = msgspec.structs.replace(design.spec, fixed=NO_FIXED_PART, groups=(), offsets=())
        rest = replace(
            design,
            spec=spec,
            x=np.zeros((len(design.y), 0)),
            groups=(),
            offset=linear_predictor(model, replace(design, latent=())),
        )
        found = fit_factors(
            rest,
            pool,
            seed=seed,
            tolerance=tolerance,
            max_sweeps=max_iterations,
            validate=None if validator is None else _beside(model, design, validator),
            after=after_sweeps(sweeps(progress), called),
        )
    whole = _together(model, design, found, 0 if validator is None else validator.count, limits)
    # of the mixed model everything has been said
    news = msgspec.structs.replace(whole.info, dropped=0, aliased=(), singular=False)
    warn_about_fit(replace(whole, info=news))
    again = {**options, "method": "vb", "solver": "auto", "covariance": None, "seed": seed, "tolerance": tolerance}
    again |= {"max_iterations": max_iterations, "validation": validation, "callbacks": callbacks, "progress": progress}
    return Extended(whole, text, design, again)


def _joined(model: Model, design: Design, latent: Model) -> Model:
    spec = msgspec.structs.replace(
        model.spec, formula=design.spec.formula, periods=design.spec.periods, latent=design.spec.latent
    )
    levels = {**design.column_levels, **model.column_levels}
    attributes = {**model.attributes, **design.attributes}
    return replace(model, spec=spec, column_levels=levels, attributes=attributes, latent=latent.latent)


def _beside(model: Model, design: Design, validator: Validator) -> Callable[[Model], float]:
    def validate(latent: Model) -> float:
        return validator(_joined(model, design, latent))

    return validate


def _together(
    model: Model, design: Design, found: Model, validation_rows: int, clip: tuple[float, float] | None
) -> Model:
    both, own = _joined(model, design, found), found.info
    info = msgspec.structs.replace(
        model.info,
        method="vb",
        two_stage=True,
        sigma=own.sigma,
        deviance=float("nan"),
        deviance_error=0.0,
        deviance_draws=(),
        elbo=own.elbo,
        # both have counted the residual variance
        df=model.info.df + own.df - 1,
        converged=model.info.converged and own.converged,
        stopped=own.stopped,
        dropped_terms=own.dropped_terms,
        iterations=own.iterations,
        history=own.history,
        score=own.score,
        validation_rows=validation_rows,
        clip=clip,
        seconds=model.info.seconds + own.seconds,
    )
    (residual,) = found.varcorr
    varcorr = tuple(residual if row.grp == "Residual" else row for row in model.varcorr)
    return replace(both, info=info, varcorr=varcorr)
