"""What was learned about latent terms: vectors of levels, as frozen arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ranef.artifact.manifest import FieldEntry
from ranef.design.membership import Membership
from ranef.design.spec import LatentSpec
from ranef.table import Combination, Levels

if TYPE_CHECKING:
    from ranef.artifact.arrays import Shelf

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FieldDraws:
    """Draws from the posterior of one factor's vectors; those of all factors of a term belong together.

    Attributes
    ----------
    vectors : float32 array, shape (kept, levels, rank)
    means, variances : float64 array, shape (kept, rank)
        Of the vectors over the levels: what is known of a new level. Of a walk, of its steps over one unit of time.
    """

    vectors: SingleArray
    means: FloatArray
    variances: FloatArray


@dataclass(frozen=True, eq=False)
class FieldModel:
    """One factor of a latent term's side.

    Attributes
    ----------
    levels : Levels
    combination : Combination or None
        For a product of columns.
    owners : Levels or None
        Of a history: whose histories ``membership`` has.
    membership : Membership or None
        Of a history: the levels of each owner in the rows of the fit.
    vectors : float32 array, shape (levels, rank)
    spread : float32 array, shape (levels, rank (rank + 1) / 2) or (levels, rank)
        Posterior covariance of each vector: its lower triangle by rows, or its diagonal alone.
    covariance : float64 array, shape (rank, rank)
        Of the vectors over the levels; of a walk, of its steps over one unit of time.
    draws : FieldDraws or None
        Of a Bayesian fit. ``vectors`` are then means of draws that were turned to agree as well as they can, ``spread``
        variances around these.
    """

    levels: Levels
    combination: Combination | None
    owners: Levels | None
    membership: Membership | None
    vectors: SingleArray
    spread: SingleArray
    covariance: FloatArray
    draws: FieldDraws | None = None


@dataclass(frozen=True, eq=False)
class LatentModel:
    """A latent term: the factors of each of its sides. Products of vectors are in the response's units."""

    sides: tuple[tuple[FieldModel, ...], ...]

    @property
    def rank(self) -> int:
        return len(self.sides[0][0].covariance)


def latent_arrays(latent: Sequence[LatentModel], posterior: bool) -> dict[str, npt.NDArray[Any]]:
    """All arrays of latent terms by name; with no draw of the vectors if the posterior is not wanted."""
    kept = slice(None) if posterior else slice(0)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for t, term in enumerate(latent):
        for s, side in enumerate(term.sides):
            for f, field in enumerate(side):
                name = f"latent.{t}.{s}.{f}"
                arrays[f"{name}.vectors"] = field.vectors
                arrays[f"{name}.spread"] = field.spread
                arrays[f"{name}.covariance"] = field.covariance
                if field.draws is not None:
                    arrays[f"{name}.draws.vectors"] = field.draws.vectors[kept]
                    arrays[f"{name}.draws.means"] = field.draws.means[kept]
                    arrays[f"{name}.draws.variances"] = field.draws.variances[kept]
                if field.combination is not None:
                    arrays[f"{name}.combination"] = field.combination.parts
                if field.membership is not None:
                    arrays[f"{name}.membership.start"] = field.membership.start
                    arrays[f"{name}.membership.level"] = field.membership.level
                    arrays[f"{name}.membership.weight"] = field.membership.weight
    return arrays


def latent_of(
    entries: Sequence[Sequence[Sequence[FieldEntry]]],
    specs: Sequence[LatentSpec],
    levels: Sequence[Levels],
    shelf: Shelf,
) -> tuple[LatentModel, ...]:
    """Latent terms from what the manifest says of them and their arrays.

    Raises
    ------
    ModelFileError
    """
    out = []
    for t, (term, spec) in enumerate(zip(entries, specs, strict=True)):
        sides = []
        for s, (side, fields) in enumerate(zip(term, spec.sides, strict=True)):
            made = []
            for f, (entry, field) in enumerate(zip(side, fields, strict=True)):
                name, own = f"latent.{t}.{s}.{f}", levels[entry.levels]
                n, k = len(own), entry.rank
                parts = shelf.codes(f"{name}.combination", n, len(field.columns)) if entry.combination else None
                owners = None if entry.owners is None else levels[entry.owners]
                made.append(
                    FieldModel(
                        levels=own,
                        combination=None if parts is None else Combination(parts),
                        owners=owners,
                        membership=None if owners is None else _membership(name, len(owners), shelf),
                        vectors=shelf.vectors(f"{name}.vectors", n, k),
                        spread=shelf.vectors(f"{name}.spread", n, -1),
                        covariance=shelf.floats(f"{name}.covariance", k, k),
                        draws=_draws(name, n, k, shelf) if entry.draws else None,
                    )
                )
            sides.append(tuple(made))
        out.append(LatentModel(tuple(sides)))
    return tuple(out)


def _draws(name: str, levels: int, rank: int, shelf: Shelf) -> FieldDraws:
    vectors = shelf.vectors(f"{name}.draws.vectors", -1, levels, rank)
    kept = len(vectors)
    return FieldDraws(
        vectors, shelf.floats(f"{name}.draws.means", kept, rank), shelf.floats(f"{name}.draws.variances", kept, rank)
    )


def _membership(name: str, owners: int, shelf: Shelf) -> Membership:
    start = shelf.places(f"{name}.membership.start", owners + 1)
    count = int(start[-1])
    return Membership(
        start, shelf.codes(f"{name}.membership.level", count), shelf.floats(f"{name}.membership.weight", count)
    )
