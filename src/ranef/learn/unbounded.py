"""Parameters without a finite estimate: found after a search ran away, so that a fit can name them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design, Group
from ranef.design.matrix import INTERCEPT
from ranef.errors import FitError
from ranef.family import Family
from ranef.learn.separation import separated

FloatArray = npt.NDArray[np.float64]

# of the linear predictor: a fixed effect's standard error times its column's size, or a random effect's standard
# deviation; odds ratios of e^5 are seldom real
SUSPICIOUS = 5.0
# of the linear predictor: what a column adds
LARGEST = 20.0
# a deviance this near to zero says that every row's category is certain
CERTAIN = 1e-4
# of a count's variance: what a negative binomial adds to that of a Poisson
NOTHING = 1e-5
# a dispersion of rounding
EXACT = 1e-13
# counts from here on leave no digits for the random effects
LARGEST_COUNT = 1e11
# of the linear predictor
LARGEST_OFFSET = 100.0


def checked(design: Design, family: Family, model: Model) -> Model:
    """The model with what has no finite estimate named, and without standard errors that it does not have.

    Raises
    ------
    FitError
        The fixed part separates the responses completely, or the model reproduces them: nothing can be estimated.
    """
    if family.kind == "positive" and model.info.family_parameters[0].value < EXACT:
        raise FitError(_reproduced(design))
    family = family.with_categories(design.spec.response_levels)
    found: tuple[str, ...] = ()
    if _is_suspicious(design, model):
        found = separated(design, model.fixed_columns, family)
        if found and family.kind in ("binary", "ordered") and model.info.deviance < CERTAIN:
            raise FitError(without_maximum(found, family.parameters))
    sds = tuple(_unbounded_sds(design, model))
    own = _own(family, found) | ({"theta"} if _is_poisson(design, model) else set())
    unbounded = tuple(dict.fromkeys([*(name for name in found if name not in family.parameters), *sorted(own), *sds]))
    if not unbounded:
        return model
    lost = np.array([name in found for name in model.fixed_names], np.bool_)
    vcov = model.vcov.copy()
    vcov[lost], vcov[:, lost] = np.nan, np.nan
    parameters = tuple(
        msgspec.structs.replace(one, se=float("nan")) if one.name in own else one
        for one in model.info.family_parameters
    )
    info = msgspec.structs.replace(
        model.info,
        unbounded=unbounded,
        converged=model.info.converged and unbounded == ("theta",),
        family_parameters=parameters,
    )
    return replace(model, info=info, vcov=vcov)


def refuse_improper(
    design: Design,
    family: Family,
    flat: Collection[str],
    model: Model | None = None,
    remedy: str = "Give one: prior={'fixed': 2.5}, say",
) -> None:
    """Refuse draws from a posterior that flat priors leave improper.

    Parameters
    ----------
    flat : collection of str
        Fixed effects and thresholds with a flat prior.
    model : Model, optional
        What was drawn; looked at first, since a search through all rows takes long. Without, they are searched.
    remedy : str
        What to do, for the message.

    Raises
    ------
    FitError
        Responses are separated along one of them.
    """
    if family.kind not in ("binary", "proportion", "ordered", "rating") or not flat:
        return
    if model is not None and not _is_suspicious(design, model):
        return
    family = family.with_categories(design.spec.response_levels)
    columns = range(design.x.shape[1]) if model is None else model.fixed_columns
    found = separated(design, columns, family)
    if set(found) & set(flat):
        shown = _shown(found, family.parameters)
        raise FitError(
            f"the posterior is improper: {shown} can grow without end, as the responses are separated there (all rows "
            "of a level, or on one side of a combination of columns, have the same outcome) and its prior is flat. "
            f"{remedy}"
        )


@contextmanager
def explained(design: Design, family: Family) -> Iterator[None]:
    """Numerics that break down are explained by what in the data makes them do so, where that can be found.

    Raises
    ------
    FitError
    """
    try:
        yield
    except FitError as error:
        raise FitError(_reason(design, family) or str(error)) from error


def breaking_numbers(design: Design, family: Family) -> str | None:
    """Counts or an offset that leave the likelihood no digits, where there are any."""
    label = design.spec.response_label
    counts = design.y if family.kind == "count" else design.weights if family.kind == "proportion" else None
    largest = 0.0 if counts is None else float(counts.max())
    if largest > LARGEST_COUNT:
        return (
            f"the counts of {label} are as large as {largest:.3g}, and their likelihood leaves no digits for the "
            "random effects: fit their logarithm, or that of the odds, with family='gaussian'"
        )
    if design.offset is not None and np.abs(design.offset).max() > LARGEST_OFFSET:
        extreme = float(design.offset[np.argmax(np.abs(design.offset))])
        return (
            f"the offset is as large as {extreme:g} on the scale of the linear predictor, where the likelihood cannot "
            "be computed: is it to be its logarithm?"
        )
    return None


def without_maximum(names: Sequence[str], thresholds: Collection[str] = ()) -> str:
    """What to say where the likelihood has no maximum: who runs away, apart from intercept and thresholds if others do.

    Parameters
    ----------
    names : sequence of str
    thresholds : collection of str
    """
    return (
        f"the likelihood has no maximum: {_shown(names, thresholds)} can grow without end, as the responses are "
        "separated there (all rows of a level, or on one side of a combination of columns, have the same outcome). "
        "Merge levels, leave out columns, or make a factor a random effect"
    )


def _shown(names: Sequence[str], thresholds: Collection[str]) -> str:
    shown = [name for name in names if name != INTERCEPT and name not in thresholds] or list(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def _reason(design: Design, family: Family) -> str | None:
    family = family.with_categories(design.spec.response_levels)
    columns = range(design.x.shape[1])
    found = separated(design, columns, family) if len(columns) < len(design.y) else ()
    if found:
        return without_maximum(found, family.parameters)
    numbers = breaking_numbers(design, family)
    if numbers is not None:
        return numbers
    if family.kind == "positive":
        return _reproduced(design)
    return None


def _reproduced(design: Design) -> str:
    return (
        f"the model reproduces {design.spec.response_label} exactly, so that its dispersion goes to zero and the "
        "likelihood has no maximum: is the response computed from the columns on the right?"
    )


def _own(family: Family, found: Sequence[str]) -> set[str]:
    """Thresholds that are among what was found; all, where they depend on fewer parameters."""
    own = set(found) & set(family.parameters)
    names = set(family.natural(np.zeros(len(family.parameters)))) if own else set()
    return own & names or names


def _is_suspicious(design: Design, model: Model) -> bool:
    """Whether a fixed effect or threshold is so large or uncertain that it may have run away."""
    if design.spec.kind in ("binary", "ordered") and model.info.deviance < CERTAIN:
        return True
    if any(not one.se < SUSPICIOUS for one in model.info.family_parameters if model.info.thresholds is not None):
        return True
    square, rows = np.zeros(len(model.beta)), len(design.y)
    for part in design.storage.pieces(rows):
        square += np.sum(design.x[part][:, model.fixed_columns] ** 2, axis=0) / rows
    # where everything is certain, standard errors have no digits left
    far = ~(np.sqrt(square) * np.abs(model.beta) < LARGEST)
    return bool(np.any(far | ~(np.sqrt(square * np.diag(model.vcov)) < SUSPICIOUS)))


def _unbounded_sds(design: Design, model: Model) -> Iterator[str]:
    """Scalar random terms whose every level has one outcome only, or separates its own rows."""
    if design.spec.kind not in ("binary", "proportion", "ordered"):
        return
    for spec, learned, group in zip(design.spec.groups, model.groups, design.groups, strict=True):
        shared = spec.kind != "factor"  # rows of several levels
        if shared or len(spec.coefficients) > 1 or learned.covariance[0, 0] < SUSPICIOUS**2:
            continue
        if _is_pure(design, group):
            yield f"sd_{spec.coefficients[0]}|{spec.name}"


def _is_pure(design: Design, group: Group) -> bool:
    """Whether in every level going along its coefficient can make all rows more likely."""
    levels, z = len(group.levels), group.covariates[:, 0]
    if design.spec.kind == "ordered":
        if not np.all(z == z[0]):
            return False
        first = np.zeros(levels)
        first[group.codes] = design.y
        return bool(np.all(design.y == first[group.codes]))
    some, not_all = design.y > 0, design.y < 1
    up = np.bincount(group.codes, some & (z > 0) | not_all & (z < 0), levels) > 0
    down = np.bincount(group.codes, some & (z < 0) | not_all & (z > 0), levels) > 0
    return not bool(np.any(up & down))


def _is_poisson(design: Design, model: Model) -> bool:
    if model.info.family != "negative_binomial":
        return False
    return float(design.y.max()) < NOTHING * model.info.family_parameters[0].value
