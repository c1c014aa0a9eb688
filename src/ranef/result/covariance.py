"""Covariances that the caller gives: a table in the columns of lme4's VarCorr, or another fit, checked row by row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.model import Model
from ranef.design.spec import DesignSpec, TermSpec
from ranef.errors import DataError, OptionError, nearest
from ranef.family import Family
from ranef.learn.held import Given
from ranef.result.parameters import Parameter
from ranef.result.tables import varcorr_table
from ranef.table import open_source

FloatArray = npt.NDArray[np.float64]
# of a variance (coefficient, None), of a covariance both coefficients
Entry: TypeAlias = tuple[str, str | None]

COLUMNS = ("grp", "var1", "var2", "vcov")
RESIDUAL = "Residual"
# of a covariance matrix's smallest eigenvalue beside its largest
ROUNDING = 1e-10


def given_covariances(value: Any, spec: DesignSpec, family: str) -> Given:
    """The covariances of a table or of another fit's model, for the terms of a design.

    Parameters
    ----------
    value : Model, or any table
        The table has the columns grp, var1, var2 and vcov, as `Fit.varcorr`: ``var2`` is missing in the row of a
        variance, and names the other coefficient in that of a covariance. Other columns are not read.
    spec : DesignSpec
    family : str
        Only a Gaussian model has a residual variance.

    Raises
    ------
    OptionError
        Rows are unknown, missing, given twice, or no covariance matrix; the message names them.
    """
    if isinstance(value, Model):
        if value.info.family != family:
            raise OptionError(
                f"covariance: that fit is of family={value.info.family!r} and its variances are on another scale than "
                f"those of family={family!r}; give a fit of this family, or a table"
            )
        value = varcorr_table(value)
    rows = _read(value)
    terms = dict(_terms(spec))
    known = [*terms, *([RESIDUAL] if family == "gaussian" else [])]
    found: dict[str, dict[Entry, float]] = {}
    for number, (group, first, second, number_given) in enumerate(rows):
        if group not in known:
            raise OptionError(_unknown_group(group, number, known, family))
        entry = _entry(group, first, second, number, terms)
        if entry in found.setdefault(group, {}):
            raise OptionError(f"covariance: row {number} gives {_named(group, entry)} a second time; leave one out")
        if number_given is None or not math.isfinite(number_given):
            raise OptionError(f"covariance: vcov of {_named(group, entry)} (row {number}) is not a finite number")
        found[group][entry] = number_given
    if not found:
        raise OptionError("covariance: the table has no rows; leave covariance= out to learn every variance")
    residual = found.pop(RESIDUAL, None)
    sigma2 = None if residual is None else residual[RESIDUAL, None]
    if sigma2 is not None and not sigma2 > 0:
        raise OptionError(f"covariance: the residual variance is {sigma2:g}; it must be positive")
    covariances = {label: _matrix(label, terms[label], entries) for label, entries in found.items()}
    return Given(
        covariances=tuple(
            tuple(covariances.get(_label(group.name, t)) for t in range(len(group.terms))) for group in spec.groups
        ),
        sigma2=sigma2,
        names=tuple(label for label in known if label in covariances or (label == RESIDUAL and sigma2 is not None)),
    )


def given_of_fit(model: Model) -> Given | None:
    """The covariances that a fit was given; None if it learned all."""
    held = model.info.held
    if not held:
        return None
    return Given(
        covariances=tuple(
            tuple(
                learned.covariance[term.start : term.start + term.size, term.start : term.start + term.size]
                if _label(spec.name, t) in held
                else None
                for t, term in enumerate(spec.terms)
            )
            for spec, learned in zip(model.spec.groups, model.groups, strict=True)
        ),
        sigma2=model.info.sigma**2 if RESIDUAL in held else None,
        names=held,
    )


def is_given(model: Model, one: Parameter) -> bool:
    """Whether a parameter is a given one, or follows from those."""
    if one.kind in ("sd", "cor"):
        return _label(model.spec.groups[one.group].name, one.term) in model.info.held
    return one.kind == "sigma" and RESIDUAL in model.info.held


def _label(group: str, term: int) -> str:
    return group if term == 0 else f"{group}.{term}"


def _terms(spec: DesignSpec) -> Iterator[tuple[str, TermSpec]]:
    for group in spec.groups:
        for t, term in enumerate(group.terms):
            yield _label(group.name, t), term


def _read(value: Any) -> list[tuple[Any, Any, Any, float | None]]:
    """The rows of a table: grp, var1, var2, vcov."""
    try:
        source = open_source(value)
        missing = [name for name in ("grp", "var1", "vcov") if name not in source.columns]
        if missing:
            raise OptionError(
                f"no column {' or '.join(map(repr, missing))} in the table; it has the columns of varcorr(): "
                f"{', '.join(COLUMNS)}"
            )
        names = [name for name in COLUMNS if name in source.columns]
        batches = list(source.batches(names))
    except (OptionError, DataError) as error:
        raise OptionError(f"covariance: {str(error).removeprefix('data: ')}") from error
    if not batches:
        return []
    table = pa.Table.from_batches(batches)
    if not (pa.types.is_integer(table["vcov"].type) or pa.types.is_floating(table["vcov"].type)):
        raise OptionError(f"covariance: the column vcov holds {table['vcov'].type}, not numbers")
    columns = {name: [_present(one) for one in table[name].to_pylist()] for name in names}
    columns.setdefault("var2", [None] * len(table))
    return list(zip(*(columns[name] for name in COLUMNS), strict=True))


def _present(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def _unknown_group(group: Any, number: int, known: Sequence[str], family: str) -> str:
    if group == RESIDUAL:
        return f"covariance: row {number} is of {RESIDUAL}: family={family!r} has no residual variance; leave it out"
    close = nearest(group, known, 1) if isinstance(group, str) else []
    guess = f"; did you mean {close[0]!r}?" if close else "."
    listed = ", ".join(map(repr, known)) or "no random terms"
    return f"covariance: row {number} is of grp {group!r}, which the model does not have{guess} It has {listed}"


def _entry(group: str, first: Any, second: Any, number: int, terms: Mapping[str, TermSpec]) -> Entry:
    """The entry of a term's covariance matrix that a row is of, its coefficients in the term's order."""
    if group == RESIDUAL:
        return RESIDUAL, None
    term = terms[group]
    names = term.effects.names
    for name in (first, *([] if second is None else [second])):
        if name not in names:
            close = nearest(name, names, 1) if isinstance(name, str) else []
            guess = f"; did you mean {close[0]!r}?" if close else "."
            raise OptionError(
                f"covariance: row {number} is of {name!r} of {group!r}, a coefficient that the term does not have"
                f"{guess} It has {', '.join(map(repr, names))}"
            )
    if second is None:
        return first, None
    if first == second:
        raise OptionError(
            f"covariance: row {number} has {first!r} of {group!r} in var1 and in var2; leave var2 empty for a variance"
        )
    one, other = sorted((first, second), key=names.index)
    return one, other


def _named(group: str, entry: Entry) -> str:
    if group == RESIDUAL:
        return RESIDUAL
    return f"({', '.join([group, entry[0], *([] if entry[1] is None else [entry[1]])])})"


def _matrix(label: str, term: TermSpec, entries: Mapping[Entry, float]) -> FloatArray:
    """The covariance matrix of one term.

    Raises
    ------
    OptionError
        Entries are missing, or are not of a covariance matrix of the term's structure.
    """
    names = term.effects.names
    wanted: list[Entry] = [(name, None) for name in names]
    pairs: list[Entry] = [(one, other) for i, one in enumerate(names) for other in names[i + 1 :]]
    wanted += pairs if term.covariance == "full" else []
    missing = [entry for entry in wanted if entry not in entries]
    if missing:
        raise OptionError(
            f"covariance: the rows of {label!r} lack {' and '.join(_named(label, entry) for entry in missing)}; a term "
            "is given as a whole, a covariance of zero too, or left out and learned"
        )
    for entry in pairs:
        if term.covariance != "full" and entries.get(entry, 0.0) != 0.0:
            raise OptionError(
                f"covariance: {_named(label, entry)} is {entries[entry]:g}, but the coefficients of {term.text} are "
                "independent; leave the row out, or use one bar in the formula"
            )
    out = np.zeros((len(names), len(names)))
    for (one, other), number in entries.items():
        i, j = names.index(one), names.index(one if other is None else other)
        out[i, j] = out[j, i] = number
    # correlations decide: covariates may be in any unit
    scale = np.sqrt(np.maximum(np.diag(out), 0.0))
    size = np.where(scale > 0, scale, 1.0)
    lowest = float(np.linalg.eigvalsh(out / np.outer(size, size))[0]) if len(out) else 0.0
    if lowest < -ROUNDING:
        what = "a variance is negative" if np.diag(out).min() < 0 else "its correlations contradict each other"
        raise OptionError(
            f"covariance: that of {label!r} is not positive semi-definite: {what} (as a correlation matrix its "
            f"smallest eigenvalue is {lowest:.2g})"
        )
    if term.covariance == "identity" and not np.allclose(np.diag(out), out[0, 0], rtol=1e-8):
        raise OptionError(
            f"covariance: {term.text} has one variance for all its coefficients, but {label!r} has several"
        )
    return out


def check_bound(given: Given | None, method: str, family: Family) -> None:
    """Whether ``solver="bound"`` has what it needs.

    Raises
    ------
    OptionError
    """
    learned = given is None or not given.complete
    if learned or (family.kind == "number" and given is not None and given.sigma2 is None):
        what = "the residual variance" if not learned else "every covariance"
        raise OptionError(
            f"solver='bound' finds coefficients for given variances, and here {what} is to be learned: give covariance="
        )
    if method == "laplace":
        raise OptionError("solver='bound' finds joint modes: use method='joint', or another solver")
