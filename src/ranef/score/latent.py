"""Latent terms on new rows: the products of their sides' vectors, and how uncertain these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ranef.artifact.latent import FieldModel, LatentModel
from ranef.artifact.model import Model
from ranef.design.fields import bag_membership
from ranef.design.latent import LatentDesign
from ranef.design.membership import Membership
from ranef.design.spec import FieldSpec
from ranef.table import CodeArray, Table

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]

# numbers of covariances that are held at once, and of vectors, which stay in the cache
NUMBERS_A_PIECE = 1 << 22
NUMBERS_IN_CACHE = 1 << 17

LatentUnits: TypeAlias = Mapping[int, Sequence[Sequence[FloatArray | SingleArray]]]


@dataclass(frozen=True, eq=False)
class FieldRows:
    """A factor of a side on new rows.

    Attributes
    ----------
    codes : int32 array, shape (rows,)
        Units, which are the levels where there is no membership; MISSING or UNKNOWN.
    membership : Membership or None
        The levels of each unit; some may be UNKNOWN.
    """

    codes: CodeArray
    membership: Membership | None


TermRows = tuple[tuple[FieldRows, ...], ...]


def latent_columns(model: Model, chosen: Sequence[int]) -> set[str]:
    """The columns that the chosen latent terms read as factors."""
    fields = [field for t in chosen for side in model.spec.latent[t].sides for field in side]
    # of a history, whose it is: its levels are the model's
    return {name for field in fields for name in (field.columns[-1:] if field.kind == "history" else field.columns)}


def field_rows(spec: FieldSpec, field: FieldModel, table: Table, codes: CodeArray) -> FieldRows:
    """A factor on new rows.

    Parameters
    ----------
    table : Table
        With the columns of `latent_columns`.
    codes : int32 array, shape (rows,)
        Of the rows among the levels of the model; of a history among its owners, of a bag unused.
    """
    if spec.kind == "bag":
        bags = table.factors[spec.columns[0]]
        return FieldRows(bags.codes, bag_membership(spec, bags.levels, field.levels)[1])
    return FieldRows(codes, field.membership)


def latent_rows(term: LatentDesign) -> TermRows:
    """A latent term on the rows of the fit."""
    return tuple(tuple(FieldRows(field.codes, field.membership) for field in side) for side in term.sides)


def latent_part(
    model: Model,
    terms: Mapping[int, TermRows],
    rows: npt.NDArray[np.int64],
    *,
    interval: bool,
    prior: bool,
    units: LatentUnits | None = None,
) -> tuple[FloatArray, FloatArray | None]:
    """The sum of latent terms on some rows, and its variance.

    Parameters
    ----------
    terms : mapping of int to TermRows
        By the term's place in the model.
    rows : int64 array, shape (some rows,)
    interval : bool
        Whether the variance is wanted.
    prior : bool
        Whether new levels have the variance between levels, or count as zero.
    units : mapping of int to arrays, optional
        What `latent_units` gives, where pieces of the same rows are asked for one after the other.

    Notes
    -----
    With vectors ``a_s`` of the sides, their sum ``g_s`` but for side s, and covariances ``V_s`` that are independent
    between sides, the mean is ``sum_{s<t} a_s'a_t`` and the variance ``sum_s g_s'V_s g_s + sum_{s<t} tr(V_s V_t)``.
    """
    total = np.zeros(len(rows))
    variance = np.zeros(len(rows)) if interval else None
    units = latent_units(model, terms) if units is None else units
    for place, sides in terms.items():
        term, of_units = model.latent[place], units[place]
        pairs = _pairs(term, sides) if interval else []
        spreads = [[_spreads(one, of, prior) for one, of in zip(side, have, strict=True)] for side, have in pairs]
        size = max(1, NUMBERS_A_PIECE // term.rank**2 if interval else NUMBERS_IN_CACHE // term.rank)
        for start in range(0, len(rows), size):
            piece = slice(start, start + size)
            codes = [[one.codes[rows[piece]] for one in side] for side in sides]
            means = [
                _added([own[code].astype(np.float64, copy=False) for own, code in zip(of, code_of, strict=True)])
                for of, code_of in zip(of_units, codes, strict=True)
            ]
            whole = means[0]
            for mean in means[1:]:
                # with all sides before
                total[piece] += np.einsum("nk,nk->n", whole, mean)
                whole = whole + mean if interval or mean is not means[-1] else whole
            if variance is None:
                continue
            covariances = [
                np.sum([_unpacked(spread[code], term.rank) for spread, code in zip(of, code_of, strict=True)], axis=0)
                for of, code_of in zip(spreads, codes, strict=True)
            ]
            for s, covariance in enumerate(covariances):
                others = whole - means[s]
                variance[piece] += np.einsum("ni,nij,nj->n", others, covariance, others, optimize=True)
                for other in covariances[:s]:
                    variance[piece] += np.einsum("nij,nij->n", covariance, other)
    return total, variance


def latent_units(model: Model, terms: Mapping[int, TermRows]) -> LatentUnits:
    """The vectors of every factor's units, by term and side."""
    return {
        place: [
            [unit_vectors(one, of) if of.membership else _single_units(one) for one, of in zip(*side, strict=True)]
            for side in _pairs(model.latent[place], sides)
        ]
        for place, sides in terms.items()
    }


def _added(parts: Sequence[FloatArray]) -> FloatArray:
    return reduce(np.add, parts)


def _pairs(term: LatentModel, sides: TermRows) -> list[tuple[tuple[FieldModel, ...], tuple[FieldRows, ...]]]:
    return list(zip(term.sides, sides, strict=True))


def _single_units(field: FieldModel) -> SingleArray:
    """As `unit_vectors` where units are levels: in float32, as they are kept."""
    k = field.vectors.shape[1]
    return np.vstack([field.vectors, np.zeros((1, k), np.float32), np.full((1, k), np.nan, np.float32)])


def unit_vectors(field: FieldModel, of: FieldRows) -> FloatArray:
    """Vectors of the units, then zeros for UNKNOWN (-2) and NaN for MISSING (-1)."""
    k = field.vectors.shape[1]
    edge = np.vstack([np.zeros((1, k)), np.full((1, k), np.nan)])
    own = np.vstack([field.vectors.astype(np.float64), edge])
    return own if of.membership is None else np.vstack([of.membership.sums(own), edge])


def _spreads(field: FieldModel, of: FieldRows, prior: bool) -> FloatArray:
    """Packed covariances of the units, then of UNKNOWN and MISSING ones."""
    k, width = field.vectors.shape[1], field.spread.shape[1]
    i, j = (np.arange(k), np.arange(k)) if width == k else np.tril_indices(k)
    new = field.covariance[i, j] if prior else np.zeros(width)
    edge = np.vstack([new, np.zeros(width)])
    own = np.vstack([field.spread.astype(np.float64), edge])
    if of.membership is None:
        return own
    squared = Membership(of.membership.start, of.membership.level, of.membership.weight**2)
    return np.vstack([squared.sums(own), edge])


def _unpacked(spread: FloatArray, k: int) -> FloatArray:
    out = np.zeros((len(spread), k, k))
    i, j = (np.arange(k), np.arange(k)) if spread.shape[1] == k else np.tril_indices(k)
    out[:, i, j] = spread
    out[:, j, i] = spread
    return out
