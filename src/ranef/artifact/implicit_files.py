"""A model of implicit feedback as a directory: a manifest of its own, the vectors, the levels of both sides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import save_file

from ranef.artifact.arrays import Shelf
from ranef.artifact.implicit import ImplicitInfo, ImplicitModel
from ranef.artifact.manifest import (
    ARRAYS_FILE,
    FORMAT,
    LEVELS_FOLDER,
    MANIFEST_FILE,
    SCHEMA,
    FileEntry,
    LevelsEntry,
)
from ranef.artifact.save import sealed, sync_folder, write_directory, write_levels
from ranef.artifact.seen import seen_arrays, seen_of
from ranef.artifact.versions import versions
from ranef.design.pairs import PairsSpec
from ranef.table import Levels

IMPLICIT = "implicit"


class ImplicitManifest(msgspec.Struct, frozen=True):
    """A model without its vectors and levels; ``levels`` are those of the users, then of the items."""

    format: str
    schema: int
    written_by: str
    kind: str
    spec: PairsSpec
    info: ImplicitInfo
    rank: int
    levels: tuple[LevelsEntry, ...]
    files: dict[str, FileEntry]


def save_implicit(model: ImplicitModel, path: str | os.PathLike[str]) -> None:
    """Write a model to a directory, as `ranef.artifact.save`.

    Raises
    ------
    ModelFileError
    """
    write_directory(path, partial(_write, model))


def implicit_model(manifest: ImplicitManifest, levels: Sequence[Levels], shelf: Shelf) -> ImplicitModel:
    """The model of a manifest.

    Raises
    ------
    ModelFileError, ValueError
        The parts do not fit together.
    """
    users, items = levels
    columns = (manifest.spec.user, manifest.spec.item) if "seen.start" in shelf else None
    return ImplicitModel(
        spec=manifest.spec,
        info=manifest.info,
        users=users,
        items=items,
        user_vectors=shelf.vectors("users", len(users), manifest.rank),
        item_vectors=shelf.vectors("items", len(items), manifest.rank),
        seen=seen_of(columns, len(users), shelf),
    )


def _write(model: ImplicitModel, folder: Path) -> None:
    (folder / LEVELS_FOLDER).mkdir()
    entries = write_levels(folder, (model.users, model.items))
    arrays: dict[str, Any] = {"users": model.user_vectors, "items": model.item_vectors}
    arrays |= seen_arrays(model.seen, None)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / ARRAYS_FILE)
    manifest = ImplicitManifest(
        format=FORMAT,
        schema=SCHEMA,
        written_by=versions()["ranef"],
        kind=IMPLICIT,
        spec=model.spec,
        info=model.info,
        rank=model.rank,
        levels=entries,
        files={name: sealed(folder / name) for name in [ARRAYS_FILE, *(entry.file for entry in entries)]},
    )
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    sealed(folder / MANIFEST_FILE)
    sync_folder(folder / LEVELS_FOLDER)
    sync_folder(folder)
