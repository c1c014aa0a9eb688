"""What a model directory holds: ``manifest.json``, ``arrays.safetensors``, and Parquet files of levels and attributes.

The manifest is plain data. Its floats are exact: JSON carries the shortest text that reads back as the same number,
and numbers that JSON lacks (NaN, infinities) are written as text. All other numbers are in the arrays' file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from ranef.artifact.states import StatesEntry
from ranef.design.spec import DesignSpec

FORMAT = "ranef model"
SCHEMA = 4

MANIFEST_FILE = "manifest.json"
ARRAYS_FILE = "arrays.safetensors"
LEVELS_FOLDER = "levels"
ATTRIBUTES_FOLDER = "attributes"

S = TypeVar("S", bound=msgspec.Struct)


class Header(msgspec.Struct, frozen=True):
    """What every version of the format begins with.

    Attributes
    ----------
    format : str
        ``FORMAT``.
    schema : int
        Raised when an older ranef can no longer read what a newer one writes.
    written_by : str
        Version of ranef.
    """

    format: str
    schema: int
    written_by: str


class FileEntry(msgspec.Struct, frozen=True):
    """A file of the directory: its size in bytes and its SHA-256."""

    bytes: int
    sha256: str


class LevelsEntry(msgspec.Struct, frozen=True):
    """Levels of a factor, in order, in the column ``level`` of a Parquet file."""

    file: str
    count: int
    ordered: bool
    declared: bool


class GroupEntry(msgspec.Struct, frozen=True):
    """A grouping factor: which of the manifest's levels, whether it is a product of columns, and of a history the
    levels of its owners."""

    levels: int
    combination: bool
    owners: int | None = None


class StageEntry(msgspec.Struct, frozen=True):
    """A stage of the posterior: the group, and how many later stages it is nested in."""

    group: int
    parents: int


class PosteriorEntry(msgspec.Struct, frozen=True):
    """The structure of the posterior; its numbers are arrays."""

    stages: tuple[StageEntry, ...]
    kept: tuple[int, ...]
    kept_start: tuple[int, ...]
    fixed_start: int


class DrawsEntry(msgspec.Struct, frozen=True):
    """The structure of a posterior that is kept as draws; its numbers are arrays.

    Attributes
    ----------
    chain : tuple of int
        As in `PosteriorDraws`; empty in the first models, which name its first group alone.
    group : int
        The first group of those models.
    """

    chain: tuple[int, ...] = ()
    group: int = -1


class SampleEntry(msgspec.Struct, frozen=True):
    """The draws of a Bayesian fit without their numbers, as in `Sample`."""

    names: tuple[str, ...]
    warmup: int
    thin: int


class FieldEntry(msgspec.Struct, frozen=True):
    """A factor of a latent term's side.

    Attributes
    ----------
    levels : int
        Which of the manifest's levels.
    owners : int or None
        Of a history, likewise.
    combination : bool
        Whether it is a product of columns.
    rank : int
        Numbers of a vector.
    draws : bool
        Whether there are draws of the vectors.
    """

    levels: int
    owners: int | None
    combination: bool
    rank: int
    draws: bool = False


class Manifest(msgspec.Struct, frozen=True):
    """A model without its arrays and levels.

    Attributes
    ----------
    info, history, varcorr, family_parameters : mappings
        A `FitInfo` without its history and family parameters, the `Iteration`, `VarianceRow` and `FamilyParameter`
        records, by `to_plain`.
    levels : tuple of LevelsEntry
        Groups and columns with the same levels share an entry.
    column_levels : mapping of str to int
        Column to its entry in ``levels``.
    files : mapping of str to FileEntry
        Every other file, by its path in the directory.
    attributes : mapping of str to str
        From the key of a table of attributes to its Parquet file.
    latent : tuple of tuples of tuples of FieldEntry
        For each latent term and side, its factors.
    seen : pair of str or None
        The columns of entities and targets whose pairs are kept.
    """

    format: str
    schema: int
    written_by: str
    spec: DesignSpec
    info: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    fixed_columns: tuple[int, ...]
    varcorr: tuple[dict[str, Any], ...]
    groups: tuple[GroupEntry, ...]
    levels: tuple[LevelsEntry, ...]
    column_levels: dict[str, int]
    posterior: PosteriorEntry | None
    files: dict[str, FileEntry]
    draws: DrawsEntry | None = None
    family_parameters: tuple[dict[str, Any], ...] = ()
    sample: SampleEntry | None = None
    attributes: dict[str, str] = {}
    latent: tuple[tuple[tuple[FieldEntry, ...], ...], ...] = ()
    seen: tuple[str, str] | None = None
    states: tuple[StatesEntry, ...] = ()


def upgraded(plain: dict[str, Any]) -> dict[str, Any]:
    """A manifest of an older schema as one of this schema; anything else as it is.

    Schema 1 knew numeric responses only: an operation and its label. Schema 2 knew Gaussian models only, and schema 3
    neither latent terms, bags, walks and periods nor implicit feedback: what they knew is as in schema 4.
    """
    spec = plain.get("spec")
    if plain.get("schema") != 1 or not isinstance(spec, dict):
        return plain
    known = {name: value for name, value in spec.items() if name != "response_label"}
    response = {"kind": "number", "label": spec.get("response_label"), "value": spec.get("response")}
    return {**plain, "spec": {**known, "response": {**response, "failures": None, "levels": []}}}


def to_plain(record: msgspec.Struct) -> dict[str, Any]:
    """A record as JSON data; fields that are NaN or infinite become the texts ``nan``, ``inf`` and ``-inf``."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in msgspec.to_builtins(record).items()
    }


def from_plain(kind: type[S], plain: Mapping[str, Any]) -> S:
    """The inverse of `to_plain`.

    Raises
    ------
    msgspec.ValidationError, ValueError
        ``plain`` is no such record.
    """
    texts = {
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if field.type is float and isinstance(plain.get(field.encode_name), str)
    }
    return msgspec.convert({name: float(value) if name in texts else value for name, value in plain.items()}, kind)
