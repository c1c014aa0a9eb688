"""A model as a service holds it: two towers, ids, and what maps scores to the response. It never changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ranef.artifact import load
from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.manifest import MANIFEST_FILE
from ranef.artifact.model import Model
from ranef.errors import ModelFileError, OptionError
from ranef.score.ratings import clipped
from ranef.score.recommend import ranked
from ranef.score.scale import Scaled, on_scale
from ranef.score.topk import Lists, TargetIndex, first_of_each, index_targets
from ranef.score.towers import Towers, compile_towers
from ranef.serve.entity_block import EntityBlock, entity_block, unknown_target
from ranef.serve.factor_part import FactorPart, factor_part, seen_lists
from ranef.serve.ids import Ids

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Served:
    """Use `load_served`.

    Attributes
    ----------
    version : str
        The first digits of the checksum of the model's manifest, which has those of all its files.
    model : Model or ImplicitModel
    towers : Towers
    index : TargetIndex
    entities, targets : Ids
    block : EntityBlock or None
        What events change; None where they cannot, and ``no_events`` says why.
    no_events : str
    unknown_target : float64 array, shape (d,), or None
    factors : FactorPart or None
    seen : pair of int64 array, shape (n + 1,), and int32 array, or None
        Targets that each entity was fitted with, where the model keeps them.
    """

    version: str
    model: Model | ImplicitModel
    towers: Towers
    index: TargetIndex
    entities: Ids
    targets: Ids
    block: EntityBlock | None
    no_events: str
    unknown_target: FloatArray | None
    factors: FactorPart | None
    seen: Lists | None

    def seen_by(self, place: int) -> IntArray:
        """The targets that an entity was fitted with, ascending; none where that is not known."""
        if self.seen is None or place < 0:
            return np.zeros(0, np.int64)
        start = self.seen[0]
        return self.seen[1][start[place] : start[place + 1]].astype(np.int64)

    def row(self, place: int) -> FloatArray:
        """The vector of an entity, shape (d,); of an average one for -1."""
        return np.asarray(self.towers.entity_side[place])

    def scores(self, row: FloatArray, place: int, targets: Sequence[int]) -> FloatArray:
        """Linear predictors of one entity and some targets; for -1 those of a target that is not known.

        Parameters
        ----------
        row : float64 array, shape (d,)
        place : int
            Of the entity, for what pairs have; -1 if it is not known.
        targets : sequence of int
        """
        at = np.array(targets, np.int64)
        sides = self.towers.target_side[at]
        if self.unknown_target is not None:
            sides[at < 0] = self.unknown_target
        found: FloatArray = np.einsum("nd,nd->n", np.broadcast_to(row, sides.shape), sides)
        if self.towers.pairs is not None:
            known = at >= 0
            found[known] += self.towers.pairs.values_of(np.full(int(known.sum()), place), at[known])
        return found

    def best(
        self, row: FloatArray, place: int, k: int, without: IntArray, among: IntArray | None
    ) -> tuple[list[int], FloatArray]:
        """The places of the targets with the highest scores, and these, best first.

        Parameters
        ----------
        row, place
            As of `scores`.
        k : int
        without : int64 array
            Targets that are not to be listed, ascending.
        among : int64 array, optional
            The only ones that may be.
        """
        if among is not None:
            kept = among[~np.isin(among, without)]
            value = self.scores(row, place, kept.tolist())
            kept, value = kept[~np.isnan(value)], value[~np.isnan(value)]
            target, score = first_of_each(np.zeros(len(kept), np.int64), kept, value, 1, k)
        else:
            seen: Lists = (np.array([0, len(without)], np.int64), without.astype(np.int32))
            found = ranked(self.towers, self.index, np.array([place]), k, seen=seen, rows=row[None])
            target, score = found.target, found.score
        listed = target[0] >= 0
        return target[0][listed].tolist(), score[0][listed]

    def response(self, scores: FloatArray) -> list[float | None] | list[list[float]] | None:
        """What linear predictors say of the response, as ``predict(type="response")``; None where they say nothing.

        Of ordered categories a probability for each. Implicit feedback has no response, and that of a Bayesian fit of
        another family than the Gaussian is a mean over draws, which one linear predictor does not have.
        """
        if isinstance(self.model, ImplicitModel):
            return None
        if self.model.spec.kind == "number":
            return _finite(clipped(self.model, Scaled(scores, None, None)).fit)
        if self.model.sample is not None:
            return None
        found = on_scale(self.model, "response", scores, None, None, 0.95, None, np.empty((0, 0))).fit
        return found.tolist() if found.ndim == 2 else _finite(found)


def load_served(path: Path, entity: str | None = None, target: str | None = None) -> Served:
    """The model in a directory, ready to serve.

    Raises
    ------
    ModelFileError
        There is none that can be read.
    OptionError
        It cannot recommend.
    """
    try:
        version = hashlib.sha256((path / MANIFEST_FILE).read_bytes()).hexdigest()[:16]
    except OSError:
        version = ""  # load says what is wrong
    model = load(path)
    if not version:
        raise ModelFileError(f"{path / MANIFEST_FILE} cannot be read")
    towers = compile_towers(model, entity, target)
    block, why, unknown = None, "a model of implicit feedback has no response that an event could report", None
    if isinstance(model, Model):
        unknown = unknown_target(model, towers)
        try:
            block, why = entity_block(model, towers), ""
        except OptionError as error:
            why = str(error)
    return Served(
        version=version,
        model=model,
        towers=towers,
        index=index_targets(towers.target_side),
        entities=Ids.of(towers.entity, towers.entities),
        targets=Ids.of(towers.target, towers.targets),
        block=block,
        no_events=why,
        unknown_target=unknown,
        factors=factor_part(model, towers),
        seen=seen_lists(model, towers),
    )


def _finite(values: FloatArray) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]
