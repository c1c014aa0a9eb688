"""Formulas of stars: biases, vectors from ratings alone, and vectors of histories and attributes too."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import ranef
from benchmarks.latent.peers import kept_folder, rows_sum
from benchmarks.latent.score import FloatArray
from benchmarks.latent.splits import Split

BIASES = "rating ~ 1 + (1 | user_id) + (1 | item_id)"
TIMES = "(1 | rw(week(timestamp, unit = 's'))) + (1 | user_id:month(timestamp, unit = 's'))"


@dataclass(frozen=True)
class Measured:
    """Predictions of the test rows; seconds of the fit, and processor seconds, of all its threads."""

    predicted: FloatArray
    seconds: float
    computed: float


def alone(rank: int) -> str:
    """Vectors of users and items."""
    return f"{BIASES} + latent(user_id, item_id, rank={rank})"


def everything(split: Split, rank: int) -> str:
    """Histories, both ways, and attributes are in the vectors; attributes have biases of their own too."""
    users = list(split.user_attributes)
    items = [_bagged(name) for name in split.item_attributes]
    biases = " + ".join(f"(1 | {one})" for one in (*users, *items))
    left = " + ".join(["user_id", "bag(history(item_id, user_id))", *users])
    right = " + ".join(["item_id", "bag(history(user_id, item_id))", *items])
    return f"{BIASES} + {biases} + latent({left}, {right}, rank={rank})"


def fitted(formula: str, split: Split, options: Mapping[str, Any]) -> ranef.Fit:
    """The fit of the training rows; attributes are read from the split's tables."""
    tables = {key: held for key, held in (("user_id", split.users), ("item_id", split.items)) if held is not None}
    return ranef.fit(formula, split.train, tables=tables, **options)


def predicted(fit: ranef.Fit, split: Split) -> FloatArray:
    """Of the test rows."""
    return np.asarray(fit.predict(split.test), dtype=np.float64)


def measured(formula: str, split: Split, options: Mapping[str, Any]) -> Measured:
    """Fit and predict; kept where RANEF_PEERS_KEEP says, so that a section that was interrupted goes on."""
    keep = kept_folder()
    if keep is None:
        return _measured(formula, split, options)
    told = json.dumps([formula, dict(options), split.train.num_rows, rows_sum(split), _source()])
    folder = keep / f"ranef-{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    if not (folder / "said.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        found = _measured(formula, split, options)
        np.save(folder / "predicted.npy", found.predicted)
        said = {"asked": told, "seconds": found.seconds, "computed": found.computed}
        (folder / "said.json").write_text(json.dumps(said), encoding="utf-8")
    said = json.loads((folder / "said.json").read_text(encoding="utf-8"))
    return Measured(np.load(folder / "predicted.npy"), said["seconds"], said["computed"])


def _measured(formula: str, split: Split, options: Mapping[str, Any]) -> Measured:
    begun, computed = time.perf_counter(), time.process_time()
    fit = fitted(formula, split, options)
    seconds, computed = time.perf_counter() - begun, time.process_time() - computed
    return Measured(predicted(fit, split), seconds, computed)


@cache
def _source() -> str:
    """Tells one state of the library from another."""
    found = hashlib.sha256()
    for file in sorted(Path(ranef.__file__).parent.rglob("*.py")):
        found.update(file.read_bytes())
    return found.hexdigest()


def _bagged(attribute: str) -> str:
    return f"bag({attribute})" if attribute == "genres" else attribute
