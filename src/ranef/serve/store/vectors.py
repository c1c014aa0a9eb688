"""The two towers of a model as records: a vector for each user and each item."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ranef.artifact import load
from ranef.artifact.manifest import MANIFEST_FILE
from ranef.errors import OptionError
from ranef.score.towers import Towers, compile_towers
from ranef.serve.ids import Ids
from ranef.serve.store.base import Pair
from ranef.serve.store.keys import record_key

_AT_ONCE = 10_000


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors whose products are the model's linear predictors, float32, little-endian.

    Attributes
    ----------
    path : Path
        The model's directory.
    towers : Towers
    formula : str
    kind : str
    """

    path: Path
    towers: Towers
    formula: str
    kind: str = "vectors"

    @classmethod
    def open(cls, path: Path) -> Vectors:
        """The vectors of a saved model.

        Raises
        ------
        ModelFileError
            It cannot be read.
        OptionError
            It cannot recommend, or pairs have terms of their own, which no two vectors have.
        """
        model = load(path)
        towers = compile_towers(model)
        if towers.pairs is not None:
            raise OptionError(
                f"{model.spec.formula} has effects of single pairs, which are no product of two vectors: push lists, "
                f"ranef recommend {path} --all --out recs.parquet, or serve the model"
            )
        return cls(path, towers, model.spec.formula)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.towers.entity, self.towers.target

    @property
    def about(self) -> dict[str, str]:
        return {"formula": self.formula, "numbers": str(self.towers.width)}

    def fingerprint(self) -> str:
        return hashlib.blake2b((self.path / MANIFEST_FILE).read_bytes(), digest_size=16).hexdigest()

    def pairs(self) -> Iterator[list[Pair]]:
        towers = self.towers
        for column, levels, side in (
            (towers.entity, towers.entities, towers.entity_side[:-1]),
            (towers.target, towers.targets, towers.target_side),
        ):
            ids = Ids.of(column, levels).values
            for first in range(0, len(ids), _AT_ONCE):
                some = slice(first, first + _AT_ONCE)
                rows = np.ascontiguousarray(side[some], "<f4")
                yield [(record_key(column, one), row.tobytes()) for one, row in zip(ids[some], rows, strict=True)]
