"""A model from its directory, every part checked before it is used."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file

from ranef.artifact.arrays import Shelf, draws_of, groups_of, posterior_of, sample_of, thresholds_of
from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.implicit_files import IMPLICIT, ImplicitManifest, implicit_model
from ranef.artifact.latent import latent_of
from ranef.artifact.manifest import (
    ARRAYS_FILE,
    FORMAT,
    MANIFEST_FILE,
    SCHEMA,
    FileEntry,
    Header,
    LevelsEntry,
    Manifest,
    from_plain,
    upgraded,
)
from ranef.artifact.model import FamilyParameter, FitInfo, Iteration, Model, Posterior, PosteriorDraws, VarianceRow
from ranef.artifact.seen import counts_of, seen_of
from ranef.artifact.states import states_of
from ranef.artifact.versions import versions
from ranef.errors import ModelFileError, nearest
from ranef.table import Levels


def load(path: str | os.PathLike[str]) -> Model | ImplicitModel:
    """Read a model that `save` wrote.

    Parameters
    ----------
    path : str or path-like
        The directory.

    Returns
    -------
    Model or ImplicitModel
        Predicts the same numbers as the one that was saved, bit by bit.

    Raises
    ------
    ModelFileError
        There is no such directory, it is no ranef model, a newer ranef wrote it, or a part is absent or damaged.
    """
    folder = Path(path)
    try:
        _check_folder(folder)
        manifest = _read_manifest(folder)
        if isinstance(manifest, ImplicitManifest):
            for name in [ARRAYS_FILE, *(entry.file for entry in manifest.levels)]:
                _check_file(folder / name, manifest.files[name])
            levels = [_read_levels(folder / entry.file, entry) for entry in manifest.levels]
            return implicit_model(manifest, levels, Shelf(load_file(folder / ARRAYS_FILE), str(folder / ARRAYS_FILE)))
        for name in [ARRAYS_FILE, *(entry.file for entry in manifest.levels), *manifest.attributes.values()]:
            _check_file(folder / name, manifest.files[name])
        levels = [_read_levels(folder / entry.file, entry) for entry in manifest.levels]
        attributes = {key: _read_attributes(folder / file, key) for key, file in manifest.attributes.items()}
        shelf = Shelf(load_file(folder / ARRAYS_FILE), str(folder / ARRAYS_FILE))
        return _model(manifest, levels, attributes, shelf)
    except ModelFileError:
        raise
    except OSError as error:
        raise ModelFileError(f"the model in {folder} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise _damaged(folder / ARRAYS_FILE, f"cannot be read ({error})") from error
    except (msgspec.MsgspecError, ValueError, IndexError, KeyError) as error:
        raise _damaged(folder / MANIFEST_FILE, f"does not fit together ({error!r})") from error


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise ModelFileError(f"{folder} is a file; a model is a directory that holds {MANIFEST_FILE}: give its name")
    if not folder.parent.is_dir():
        raise ModelFileError(f"there is no directory {folder}, nor {folder.parent}; check the path")
    beside = [entry.name for entry in folder.parent.iterdir() if (entry / MANIFEST_FILE).is_file()]
    close = nearest(folder.name, beside) or sorted(beside)[:5]
    hint = f"models there are {', '.join(map(repr, close))}" if close else "no models are there"
    raise ModelFileError(f"there is no directory {folder.name!r} in {folder.parent.resolve()}; {hint}")


def _read_manifest(folder: Path) -> Manifest | ImplicitManifest:
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ModelFileError(
            f"{folder} is not a ranef model: it has no {MANIFEST_FILE}; give a directory that save made"
        )
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        whole = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _damaged(path, f"is not JSON, or cut short ({error})") from error
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise ModelFileError(f"{folder} is not a ranef model: its {MANIFEST_FILE} does not say {FORMAT!r}")
    try:
        header = msgspec.convert(whole, Header)
        if header.schema > SCHEMA:
            raise ModelFileError(
                f"{folder} was written by ranef {header.written_by} in format {header.schema}; this ranef, "
                f"{versions()['ranef']}, reads formats up to {SCHEMA}: install ranef {header.written_by} or newer"
            )
        if whole.get("kind") == IMPLICIT:
            return msgspec.convert(whole, ImplicitManifest)
        return msgspec.convert(upgraded(whole), Manifest)
    except msgspec.MsgspecError as error:
        raise _damaged(path, f"has another content than a manifest ({error})") from error


def _check_file(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise _damaged(path, "is not there")
    size = path.stat().st_size
    if size != entry.bytes:
        raise _damaged(path, f"has {size:,} bytes where {entry.bytes:,} were written")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != entry.sha256:
        raise _damaged(path, "is not what was written: its checksum differs from the manifest's")


def _read_levels(path: Path, entry: LevelsEntry) -> Levels:
    try:
        file = pq.ParquetFile(pa.BufferReader(path.read_bytes()))
        # Parquet lacks some of Arrow's types (times in seconds), but the file says what the column was
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(file.metadata.metadata[b"ARROW:schema"])))
        values = file.read().column("level").combine_chunks().cast(schema.field("level").type)
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise _damaged(path, f"cannot be read ({error})") from error
    if len(values) != entry.count or values.null_count:
        raise _damaged(path, f"has {len(values):,} levels, {values.null_count:,} of them null, not {entry.count:,}")
    return Levels(values, ordered=entry.ordered, declared=entry.declared)


def _read_attributes(path: Path, key: str) -> pa.Table:
    try:
        table = pq.ParquetFile(pa.BufferReader(path.read_bytes())).read().combine_chunks()
    except (pa.ArrowException, ValueError) as error:
        raise _damaged(path, f"cannot be read ({error})") from error
    if table.column_names[:1] != [key]:
        raise _damaged(path, f"does not begin with the column {key!r}")
    return table


def _model(manifest: Manifest, levels: Sequence[Levels], attributes: Mapping[str, pa.Table], shelf: Shelf) -> Model:
    groups = groups_of(manifest, levels, shelf)
    p, m = len(manifest.fixed_columns), len(shelf.floats("parameter_vcov", -1, -1))
    posterior: Posterior | PosteriorDraws | None = None
    if manifest.posterior is not None:
        posterior = posterior_of(manifest.posterior, groups, p, shelf)
    elif manifest.draws is not None:
        posterior = draws_of(manifest.draws, groups, p, shelf)
    info = msgspec.structs.replace(
        from_plain(FitInfo, manifest.info),
        history=tuple(from_plain(Iteration, one) for one in manifest.history),
        family_parameters=tuple(from_plain(FamilyParameter, one) for one in manifest.family_parameters),
    )
    gaussian = info.family == "gaussian"
    phi = np.zeros(0) if gaussian else shelf.floats("phi", -1)
    sample = None
    if manifest.sample is not None:
        sample = sample_of(manifest.sample, groups, 1 if gaussian else len(phi), shelf)
    latent = latent_of(manifest.latent, manifest.spec.latent, levels, shelf)
    column_levels = {name: levels[place] for name, place in manifest.column_levels.items()}
    entities = 0 if manifest.seen is None else len(column_levels[manifest.seen[0]])
    return Model(
        spec=manifest.spec,
        info=info,
        fixed_columns=manifest.fixed_columns,
        beta=shelf.floats("beta", p),
        vcov=shelf.floats("vcov", p, p),
        varcorr=tuple(from_plain(VarianceRow, row) for row in manifest.varcorr),
        groups=groups,
        column_levels=column_levels,
        parameter_vcov=shelf.floats("parameter_vcov", m, m),
        vcov_gradient=shelf.floats("vcov_gradient", m if gaussian else 0, p, p),
        posterior=posterior,
        phi=phi,
        sample=sample,
        thresholds=thresholds_of(groups, p, len(phi), shelf),
        attributes=attributes,
        latent=latent,
        seen=seen_of(manifest.seen, entities, shelf),
        states=states_of(manifest.states, shelf),
        counts=counts_of(groups, latent, shelf),
    )


def _damaged(path: Path, what: str) -> ModelFileError:
    return ModelFileError(f"{path} {what}: the model is damaged; save it again, or take it from a backup")
