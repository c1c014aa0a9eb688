"""A model to its directory: written beside it under another name, synced, then renamed."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import save_file

from ranef.artifact.arrays import to_arrays
from ranef.artifact.latent import FieldModel
from ranef.artifact.manifest import (
    ARRAYS_FILE,
    ATTRIBUTES_FOLDER,
    FORMAT,
    LEVELS_FOLDER,
    MANIFEST_FILE,
    SCHEMA,
    DrawsEntry,
    FieldEntry,
    FileEntry,
    GroupEntry,
    Header,
    LevelsEntry,
    Manifest,
    PosteriorEntry,
    SampleEntry,
    StageEntry,
    to_plain,
)
from ranef.artifact.model import GroupModel, Model, Posterior, PosteriorDraws
from ranef.artifact.states import StatesEntry
from ranef.artifact.versions import versions
from ranef.errors import ModelFileError
from ranef.table import Levels


def save(model: Model, path: str | os.PathLike[str], *, posterior: bool = True) -> None:
    """Write a model to a directory.

    Parameters
    ----------
    model : Model
    path : str or path-like
        The directory; folders above it are made. If it holds a model already, the new one takes its place only after
        it is complete on disk.
    posterior : bool
        Whether to keep the joint covariance of the coefficients, which intervals of predictions need; it is the
        largest part where crossed factors have many levels.

    Raises
    ------
    ModelFileError
        ``path`` is a file or a directory of something else, or it cannot be written.
    """
    write_directory(path, lambda folder: _write(model, folder, posterior))


def write_directory(path: str | os.PathLike[str], write: Callable[[Path], None]) -> None:
    """Make a model directory, or replace one, all at once.

    Parameters
    ----------
    path : str or path-like
        As of `save`.
    write : callable
        Writes the files into the new, empty folder that it is given, and syncs them.

    Raises
    ------
    ModelFileError
    """
    target = Path(os.path.realpath(path))
    check_target(target)
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    absent = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        write(beside)
        _replace(target, beside)
    except (OSError, SafetensorError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ModelFileError(
            f"the model cannot be written to {target}: {reason}; make room or choose another place, then save again"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        # where there is no model in the end, of an interrupt say, there are no folders for it either
        for folder in absent:
            with suppress(OSError):
                folder.rmdir()


def check_target(path: str | os.PathLike[str]) -> None:
    """Whether `save` would take this path, to be known before the work and not after.

    Parameters
    ----------
    path : str or path-like
        A new directory, an empty one, or a ranef model to replace.

    Raises
    ------
    ModelFileError
        It is a file, or a directory that holds anything but a model.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise ModelFileError(f"{target} is a file; a model is saved to a directory: choose another name")
    if not target.exists():
        return
    inside = {entry.name for entry in target.iterdir()}
    if not inside:
        return
    try:
        header = msgspec.json.decode((target / MANIFEST_FILE).read_bytes(), type=Header)
    except (OSError, msgspec.MsgspecError):
        header = None
    if header is None or header.format != FORMAT:
        raise ModelFileError(f"{target} holds something else than a ranef model; choose another name or remove it")
    other = sorted(inside - {MANIFEST_FILE, ARRAYS_FILE, LEVELS_FOLDER, ATTRIBUTES_FOLDER})
    if other:
        raise ModelFileError(
            f"{target} holds a model and also {', '.join(other[:3])}{', ...' * (len(other) > 3)}, which would be lost; "
            "move that away, or choose another name"
        )


def _write(model: Model, folder: Path, posterior: bool) -> None:
    (folder / LEVELS_FOLDER).mkdir()
    fields: list[GroupModel | FieldModel] = [*model.groups]
    fields += [field for term in model.latent for side in term.sides for field in side]
    of_fields = [levels for field in fields for levels in (field.levels, field.owners) if levels is not None]
    distinct = _distinct([*model.column_levels.values(), *of_fields])
    entries = write_levels(folder, distinct)
    attributes = {key: f"{ATTRIBUTES_FOLDER}/{number}.parquet" for number, key in enumerate(model.attributes)}
    if attributes:
        (folder / ATTRIBUTES_FOLDER).mkdir()
    for key, file in attributes.items():
        pq.write_table(model.attributes[key], folder / file)
    save_file(to_arrays(model, posterior), folder / ARRAYS_FILE)
    manifest = Manifest(
        format=FORMAT,
        schema=SCHEMA,
        written_by=versions()["ranef"],
        spec=model.spec,
        info=to_plain(msgspec.structs.replace(model.info, history=(), family_parameters=())),
        history=tuple(to_plain(iteration) for iteration in model.info.history),
        fixed_columns=model.fixed_columns,
        varcorr=tuple(to_plain(row) for row in model.varcorr),
        groups=tuple(_group_entry(group, distinct) for group in model.groups),
        levels=entries,
        column_levels={name: _place(levels, distinct) for name, levels in model.column_levels.items()},
        posterior=_posterior_entry(model) if posterior else None,
        draws=_draws_entry(model) if posterior else None,
        family_parameters=tuple(to_plain(one) for one in model.info.family_parameters),
        sample=_sample_entry(model),
        files={
            name: sealed(folder / name)
            for name in [ARRAYS_FILE, *(entry.file for entry in entries), *attributes.values()]
        },
        attributes=attributes,
        latent=tuple(
            tuple(tuple(_field_entry(field, distinct) for field in side) for side in term.sides)
            for term in model.latent
        ),
        seen=None if model.seen is None else (model.seen.entity, model.seen.target),
        states=tuple(StatesEntry(one.factor, one.mean.shape[1]) for one in model.states),
    )
    (folder / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    sealed(folder / MANIFEST_FILE)
    sync_folder(folder / LEVELS_FOLDER)
    if attributes:
        sync_folder(folder / ATTRIBUTES_FOLDER)
    sync_folder(folder)


def write_levels(folder: Path, all_levels: Sequence[Levels]) -> tuple[LevelsEntry, ...]:
    """A Parquet file for each in the folder of levels, which exists; what the manifest says of them."""
    entries = tuple(
        LevelsEntry(f"{LEVELS_FOLDER}/{number}.parquet", len(levels), levels.ordered, levels.declared)
        for number, levels in enumerate(all_levels)
    )
    for entry, levels in zip(entries, all_levels, strict=True):
        pq.write_table(pa.table({"level": levels.values}), folder / entry.file)
    return entries


def _group_entry(group: GroupModel, distinct: list[Levels]) -> GroupEntry:
    owners = None if group.owners is None else _place(group.owners, distinct)
    return GroupEntry(_place(group.levels, distinct), group.combination is not None, owners)


def _distinct(all_levels: Iterable[Levels]) -> list[Levels]:
    """Levels without repetitions: a grouping factor of one column mostly has that column's."""
    found: list[Levels] = []
    for levels in all_levels:
        if not any(_same(levels, other) for other in found):
            found.append(levels)
    return found


def _place(levels: Levels, distinct: list[Levels]) -> int:
    return next(place for place, other in enumerate(distinct) if _same(levels, other))


def _same(a: Levels, b: Levels) -> bool:
    return (a.ordered, a.declared) == (b.ordered, b.declared) and bool(a.values.equals(b.values))


def _posterior_entry(model: Model) -> PosteriorEntry | None:
    posterior = model.posterior
    if not isinstance(posterior, Posterior):
        return None
    return PosteriorEntry(
        stages=tuple(StageEntry(stage.group, len(stage.parents)) for stage in posterior.stages),
        kept=posterior.kept,
        kept_start=posterior.kept_start,
        fixed_start=posterior.fixed_start,
    )


def _draws_entry(model: Model) -> DrawsEntry | None:
    return DrawsEntry(model.posterior.chain) if isinstance(model.posterior, PosteriorDraws) else None


def _field_entry(field: FieldModel, distinct: list[Levels]) -> FieldEntry:
    owners = None if field.owners is None else _place(field.owners, distinct)
    rank = len(field.covariance)
    place = _place(field.levels, distinct)
    return FieldEntry(place, owners, field.combination is not None, rank, field.draws is not None)


def _sample_entry(model: Model) -> SampleEntry | None:
    sample = model.sample
    return None if sample is None else SampleEntry(sample.names, sample.warmup, sample.thin)


def sealed(path: Path) -> FileEntry:
    """Size and checksum of a file that is on the disk now."""
    with path.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
        return FileEntry(file.seek(0, os.SEEK_END), digest)


def sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(target: Path, new: Path) -> None:
    """Rename ``new`` to ``target``; a model that is there steps aside first, and returns if that is not to be."""
    old = new.with_suffix(".old")
    try:
        if target.exists():
            target.rename(old)
        new.rename(target)
        sync_folder(target.parent)
    finally:
        # Ctrl-C may have come anywhere above
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)
