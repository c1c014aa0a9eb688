"""What a model may keep of the rows it was fitted on: the pairs, and how many rows each level has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ranef.artifact.arrays import Shelf
    from ranef.artifact.latent import LatentModel
    from ranef.artifact.model import GroupModel

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Seen:
    """The distinct pairs of two factors in the rows of a fit.

    Attributes
    ----------
    entity, target : str
        Their columns.
    start : int64 array, shape (entities + 1,)
    place : int32 array, shape (pairs,)
        The targets of entity ``u``, ascending: ``place[start[u]:start[u + 1]]``. Both are counted among the levels of
        the model's columns.
    """

    entity: str
    target: str
    start: IntArray
    place: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Counts:
    """Rows of the fit behind every level; of a bag or history, rows whose list has it.

    Attributes
    ----------
    groups : tuple of int64 arrays (levels,), one for each group
    latent : tuple of tuples of tuples of int64 arrays (levels,)
        For each latent term and side, of each factor.
    """

    groups: tuple[IntArray, ...]
    latent: tuple[tuple[tuple[IntArray, ...], ...], ...]


def seen_arrays(seen: Seen | None, counts: Counts | None) -> dict[str, npt.NDArray[Any]]:
    """What is kept, as arrays by name."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    if seen is not None:
        arrays |= {"seen.start": seen.start, "seen.place": seen.place}
    if counts is not None:
        arrays |= {f"rows.groups.{g}": one for g, one in enumerate(counts.groups)}
        arrays |= {
            f"rows.latent.{t}.{s}.{f}": one
            for t, term in enumerate(counts.latent)
            for s, side in enumerate(term)
            for f, one in enumerate(side)
        }
    return arrays


def seen_of(columns: tuple[str, str] | None, entities: int, shelf: Shelf) -> Seen | None:
    """The pairs, if there are any.

    Raises
    ------
    ModelFileError
    """
    if columns is None:
        return None
    start = shelf.places("seen.start", entities + 1)
    return Seen(*columns, start, shelf.codes("seen.place", int(start[-1])))


def counts_of(groups: Sequence[GroupModel], latent: Sequence[LatentModel], shelf: Shelf) -> Counts | None:
    """The numbers of rows, if they were kept.

    Raises
    ------
    ModelFileError
    """
    names = [f"rows.groups.{g}" for g in range(len(groups))]
    names += [f"rows.latent.{t}.{s}.0" for t, term in enumerate(latent) for s in range(len(term.sides))]
    if not all(name in shelf for name in names):
        return None
    return Counts(
        tuple(shelf.places(f"rows.groups.{g}", len(group.levels)) for g, group in enumerate(groups)),
        tuple(
            tuple(
                tuple(shelf.places(f"rows.latent.{t}.{s}.{f}", len(one.levels)) for f, one in enumerate(side))
                for s, side in enumerate(term.sides)
            )
            for t, term in enumerate(latent)
        ),
    )
