"""What is pushed, as records: a table of recommendations read batch by batch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ranef.errors import DataError, OptionError, nearest
from ranef.serve.store.base import Pair
from ranef.serve.store.keys import record_key
from ranef.table.arrow import to_numpy

_PIECE = 1 << 20
_ROWS = 1 << 18


class Records(Protocol):
    """What a push takes, always in the same order."""

    @property
    def kind(self) -> str:
        """``lists`` or ``vectors``."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The column of the keys, and those of a record."""

    @property
    def about(self) -> dict[str, str]:
        """What else there is to say."""

    def fingerprint(self) -> str:
        """The same for the same records, and for no others."""

    def pairs(self) -> Iterator[list[Pair]]:
        """Keys and records, in lists."""


@dataclass(frozen=True, eq=False)
class Lists:
    """The rows of each key as one record: a MessagePack array with an array for each column but the key's.

    Attributes
    ----------
    path : Path
        A Parquet file in which the rows of a key stand together, best first, as ``ranef recommend`` writes it.
    columns : tuple of str
    """

    path: Path
    columns: tuple[str, ...]
    kind: str = "lists"

    @classmethod
    def open(cls, path: Path, key: str | None = None) -> Lists:
        """The lists in a Parquet file.

        Parameters
        ----------
        path : Path
        key : str, optional
            The column whose values are the keys; by default the first.

        Raises
        ------
        OptionError
            There is no such file or column.
        DataError
            It is no Parquet file, or has one column only.
        """
        if not path.is_file():
            raise OptionError(f"no file {path}; push a saved model or a table that ranef recommend --out has written")
        names = _schema(path).names
        chosen = names[0] if key is None and names else key or ""
        if chosen not in names:
            near = nearest(chosen, names) or names
            raise OptionError(f"key={chosen}: no such column in {path}; there is {', '.join(near)}")
        if len(names) < 2:
            raise DataError(f"{path} has the column {chosen} only: lists need another one, such as the items")
        return cls(path, (chosen, *(name for name in names if name != chosen)))

    @property
    def about(self) -> dict[str, str]:
        return {"file": self.path.name}

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(repr(self.columns).encode(), digest_size=16)
        with self.path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        return digest.hexdigest()

    def pairs(self) -> Iterator[list[Pair]]:
        import pyarrow.parquet as pq

        encode = msgspec.msgpack.Encoder().encode
        name = self.columns[0]
        held: tuple[Any, list[list[Any]]] | None = None
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(_ROWS, columns=list(self.columns)):
                if not batch.num_rows:
                    continue
                keys, *columns = (_values(batch.column(column), column) for column in self.columns)
                starts = [0, *_changes(batch.column(name)), len(keys)]
                pairs: list[Pair] = []
                for start, end in pairwise(starts):
                    lists = [column[start:end] for column in columns]
                    if held is not None and held[0] == keys[start]:
                        lists = [before + more for before, more in zip(held[1], lists, strict=True)]
                    elif held is not None:
                        pairs.append((record_key(name, held[0]), encode(held[1])))
                    held = (keys[start], lists)
                yield pairs
        if held is not None:
            yield [(record_key(name, held[0]), encode(held[1]))]


def _schema(path: Path) -> pa.Schema:
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no Parquet file that can be read: {error}") from error


def _values(column: pa.Array, name: str) -> list[Any]:
    """The values of a column as Python has them; a null of a number is NaN."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _values(column.dictionary_decode(), name)
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        if column.null_count == 0:
            return to_numpy(column).tolist()  # type: ignore[no-any-return]
    elif pa.types.is_floating(kind):
        return to_numpy(column, np.nan).tolist()  # type: ignore[no-any-return]
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_date(kind)):
        raise DataError(f"the column {name} is of type {kind}: texts, numbers and dates can be pushed", column=name)
    return column.to_pylist()  # type: ignore[no-any-return]


def _changes(keys: pa.Array) -> list[int]:
    """The rows, but for the first, where another key begins."""
    if pa.types.is_dictionary(keys.type):
        keys = keys.dictionary_decode()
    if keys.null_count:
        raise DataError("the column of the keys has missing values; drop those rows first")
    other = pc.not_equal(keys.slice(1), keys.slice(0, len(keys) - 1))
    return (np.flatnonzero(to_numpy(other)) + 1).tolist()


def records_of(path: str | os.PathLike[str], key: str | None = None) -> Records:
    """What is at a path, as records: of a table of recommendations, or the vectors of a saved model.

    Raises
    ------
    OptionError, DataError, ModelFileError
        There is nothing there that can be pushed.
    """
    if not Path(path).is_dir():
        return Lists.open(Path(path), key)
    if key is not None:
        raise OptionError(f"key={key} is for tables; {path} is a model, whose users and items are the keys")
    from ranef.serve.store.vectors import Vectors

    return Vectors.open(Path(path))
