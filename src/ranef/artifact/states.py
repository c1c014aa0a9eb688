"""What is kept of levels that were updated after the fit: the precision of all their coefficients together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ranef.artifact.arrays import Shelf

FloatArray = npt.NDArray[np.float64]


class StatesEntry(msgspec.Struct, frozen=True):
    """The factor, and how many coefficients a level has."""

    factor: str
    size: int


@dataclass(frozen=True, eq=False)
class LevelStates:
    """Normal distributions of some levels of one factor: random terms first, then latent vectors.

    Attributes
    ----------
    factor : str
    levels : int64 array, shape (m,)
        Their codes, ascending.
    mean : float64 array, shape (m, d)
    precision : float64 array, shape (m, d (d + 1) / 2)
        Lower triangles by rows.
    """

    factor: str
    levels: npt.NDArray[np.int64]
    mean: FloatArray
    precision: FloatArray


def states_arrays(states: Sequence[LevelStates]) -> dict[str, npt.NDArray[Any]]:
    """All arrays by name."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, one in enumerate(states):
        arrays |= {f"states.{number}.levels": one.levels, f"states.{number}.mean": one.mean}
        arrays[f"states.{number}.precision"] = one.precision
    return arrays


def states_of(entries: Sequence[StatesEntry], shelf: Shelf) -> tuple[LevelStates, ...]:
    """States from what the manifest says of them and their arrays.

    Raises
    ------
    ModelFileError
    """
    found = []
    for number, entry in enumerate(entries):
        levels = shelf.places(f"states.{number}.levels", -1)
        m, d = len(levels), entry.size
        mean = shelf.floats(f"states.{number}.mean", m, d)
        found.append(
            LevelStates(entry.factor, levels, mean, shelf.floats(f"states.{number}.precision", m, d * (d + 1) // 2))
        )
    return tuple(found)
