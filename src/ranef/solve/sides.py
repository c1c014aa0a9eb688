"""What row updates of latent terms need of a design: units, their rows in order, their partners and their levels.

A *side* is a sum of factors whose levels have vectors; what multiplies it, for a row, are the vectors of the row's
units on the other sides of its term. A random term ``(x | g)`` is a side too, whose covariates are columns of the data
alone; where its factor stands in a latent term, it is part of that side, and the effects of a level are updated
together with its vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.design.build import Design, Group
from ranef.design.fields import FieldDesign
from ranef.design.latent import LatentDesign
from ranef.design.membership import Membership
from ranef.design.pieces import FloatColumns, is_constant
from ranef.engine.threads import Range
from ranef.kernel import sort as kernel
from ranef.solve.order import partition

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Member:
    """One factor of a side.

    Attributes
    ----------
    name : str
    levels : int
        Of a walk its increments: the sum of those up to a time is the walk's level.
    group : int or None
        The design's grouping factor whose effects the levels have, beside their vectors.
    columns : int64 array, shape (d,)
        Which of a unit's coefficients the levels add to: those of the vector, if there is one, then the effects.
    start : int64 array, shape (units + 1,); level : int32 array; weight : float64 array
        The levels of each unit, and how much of each.
    pointers : int64 array, shape (levels + 1,); units : int32 array; weights : float64 array
        The units of each level.
    partitions : tuple of (first, last)
        Ranges of levels that have no unit in common: one, where a unit has several levels.
    """

    name: str
    levels: int
    group: int | None
    columns: IntArray
    start: IntArray
    level: CodeArray
    weight: FloatArray
    pointers: IntArray
    units: CodeArray
    weights: FloatArray
    partitions: tuple[Range, ...]


@dataclass(frozen=True, eq=False)
class Side:
    """A sum of factors, and the rows in the order of its units.

    Attributes
    ----------
    term : int or None
        The latent term; None for a random term alone.
    at : int
        Where its units begin among those of the term.
    units : int
        Distinct combinations of the factors' levels.
    pointers : int64 array, shape (units + 1,)
    order : int32 array, shape (rows,)
        The rows of unit ``u`` are ``order[pointers[u]:pointers[u + 1]]``.
    partners : int32 array, shape (rows, other sides)
        In that order, the units on the other sides, counted among those of the term.
    covariates : float64 array, shape (rows or 1, kx)
        Of the effects of all members; one row if all rows are alike.
    partitions : tuple of (first, last)
        Ranges of units of about as many rows.
    members : tuple of Member
    alone : bool
        Whether units are the levels of one factor.
    """

    term: int | None
    at: int
    units: int
    pointers: IntArray
    order: CodeArray
    partners: CodeArray
    covariates: FloatArray
    partitions: tuple[Range, ...]
    members: tuple[Member, ...]
    alone: bool


@dataclass(frozen=True, eq=False)
class Term:
    """A latent term.

    Attributes
    ----------
    rank : int
    sides : tuple of int
        Their places among all sides.
    partners : int32 array, shape (rows, sides)
        The units of each row, counted over all sides.
    units : int
        Of all sides.
    """

    rank: int
    sides: tuple[int, ...]
    partners: CodeArray
    units: int


@dataclass(frozen=True, eq=False)
class Sides:
    """All sides in the order of a sweep: random terms that stand alone, then the latent terms side by side."""

    sides: tuple[Side, ...]
    terms: tuple[Term, ...]


@dataclass(frozen=True, eq=False)
class _Part:
    """A factor before it is placed on a side."""

    name: str
    codes: CodeArray
    levels: int
    membership: Membership | None
    group: int | None
    covariates: FloatArray


def make_sides(design: Design, covariates: Sequence[FloatColumns], ranks: Sequence[int]) -> Sides:
    """The sides of a design.

    Parameters
    ----------
    design : Design
    covariates : sequence of columns, shape (rows, k)
        Of each grouping factor, in the coordinates of the sweeps.
    ranks : sequence of int
        Of each latent term.
    """
    rows = len(design.y)
    names = [spec.name for spec in design.spec.groups]
    merged: set[int] = set()
    latent: list[list[list[_Part]]] = []
    for term in design.latent:
        latent.append([[_part(field, names, design, covariates, merged) for field in side] for side in term.sides])
    sides: list[Side] = []
    for g, (name, group) in enumerate(zip(names, design.groups, strict=True)):
        if g not in merged:
            part = _Part(name, group.codes, len(group.levels), _members(group), g, _stored(covariates[g]))
            sides.append(_side(None, 0, 0, np.zeros((rows, 0), np.int32), *_units([part]), [part]))
    terms = []
    for t, (term, rank, parts) in enumerate(zip(design.latent, ranks, latent, strict=True)):
        terms.append(_term(t, term, rank, parts, sides))
    return Sides(tuple(sides), tuple(terms))


def _part(
    field: FieldDesign, names: Sequence[str], design: Design, covariates: Sequence[FloatColumns], merged: set[int]
) -> _Part:
    """A field, with the effects of the random terms on the same factor the first time it occurs."""
    group, own = None, np.zeros((1, 0))
    if field.spec.name in names and names.index(field.spec.name) not in merged:
        group = names.index(field.spec.name)
        merged.add(group)
        own = _stored(covariates[group])
    return _Part(field.spec.name, field.codes, len(field.levels), _members(field), group, own)


def _members(factor: FieldDesign | Group) -> Membership | None:
    return factor.membership if factor.walk is None else factor.walk.membership


def _term(number: int, term: LatentDesign, rank: int, parts: list[list[_Part]], sides: list[Side]) -> Term:
    """Append the sides of a latent term."""
    units = [_units(side) for side in parts]
    starts = np.concatenate([[0], np.cumsum([count for _, count in units])])
    partners = np.stack([codes + np.int32(at) for (codes, _), at in zip(units, starts, strict=False)], axis=1)
    places = []
    for s, (side, (codes, count)) in enumerate(zip(parts, units, strict=True)):
        others = np.delete(partners, s, axis=1)
        places.append(len(sides))
        sides.append(_side(number, rank, int(starts[s]), others, codes, count, side))
    return Term(rank, tuple(places), np.ascontiguousarray(partners), int(starts[-1]))


def _side(
    term: int | None,
    rank: int,
    at: int,
    partners: CodeArray,
    codes: CodeArray,
    units: int,
    parts: Sequence[_Part],
) -> Side:
    order, pointers = kernel.counting_order(codes, units)
    # one row of each unit: every unit occurs
    example = order[pointers[:-1]]
    members, column = [], rank
    for part in parts:
        columns = np.concatenate([np.arange(rank), column + np.arange(part.covariates.shape[1])]).astype(np.int64)
        column += part.covariates.shape[1]
        members.append(_member(part, part.codes[example], columns))
    return Side(
        term=term,
        at=at,
        units=units,
        pointers=pointers,
        order=order,
        partners=np.ascontiguousarray(partners[order]),
        covariates=_side_by_side([part.covariates for part in parts], len(codes)),
        partitions=tuple(partition(pointers)),
        members=tuple(members),
        alone=len(parts) == 1 and parts[0].membership is None,
    )


def _member(part: _Part, codes: CodeArray, columns: IntArray) -> Member:
    """``codes`` are those of the side's units."""
    units = len(codes)
    membership = part.membership
    if membership is None:
        start, level, weight = np.arange(units + 1), codes, np.ones(units)
    else:
        counts = np.diff(membership.start)[codes]
        start = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        members = np.arange(start[-1]) - np.repeat(start[:-1] - membership.start[codes], counts)
        level, weight = membership.level[members], membership.weight[members]
    order, pointers = kernel.counting_order(level, part.levels)
    unit = np.repeat(np.arange(units, dtype=np.int32), np.diff(start))
    several = bool(np.any(np.diff(start) > 1))
    return Member(
        name=part.name,
        levels=part.levels,
        group=part.group,
        columns=columns,
        start=start,
        level=np.ascontiguousarray(level),
        weight=weight,
        pointers=pointers,
        units=unit[order],
        weights=weight[order],
        partitions=((0, part.levels),) if several else tuple(partition(pointers)),
    )


def _units(parts: Sequence[_Part]) -> tuple[CodeArray, int]:
    """Codes of the combinations that occur, and how many there are."""
    codes = parts[0].codes
    count = parts[0].levels if parts[0].membership is None else parts[0].membership.units
    if len(parts) == 1 and parts[0].membership is None:
        return codes, count
    for part in parts[1:]:
        width = part.levels if part.membership is None else part.membership.units
        pairs = codes.astype(np.int64) * width + part.codes
        found, inverse = np.unique(pairs, return_inverse=True)
        codes, count = inverse.reshape(-1).astype(np.int32), len(found)
    return codes, count


def _side_by_side(parts: Iterable[FloatArray], rows: int) -> FloatArray:
    own = [part for part in parts if part.shape[1]]
    if not own:
        return np.zeros((1, 0))
    if all(len(part) == 1 for part in own):
        return np.concatenate(own, axis=1)
    return np.concatenate([np.broadcast_to(part, (rows, part.shape[1])) for part in own], axis=1)


def _stored(columns: FloatColumns) -> FloatArray:
    """The columns as an array; one row if all are alike."""
    if is_constant(columns):
        return np.array(columns[0:1])
    return np.ascontiguousarray(columns[0 : len(columns)])
