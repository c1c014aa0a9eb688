"""Bags: columns of lists, or of text that lists its parts, as one text a row, and their distinct lists split again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ranef.errors import DataError
from ranef.table.arrow import from_numpy, from_texts, to_numpy
from ranef.table.kinds import describe, is_text, plain_type

# Between the parts of a bag's text: the unit separator, which no one types.
BETWEEN = "\x1f"


def bag_column(values: pa.Array, column: str, separator: str, operation: str, row: int = 0) -> pa.DictionaryArray:
    """The bag of every row as text: its parts sorted, without spaces around them, joined by ``BETWEEN``.

    Parameters
    ----------
    values : pyarrow.Array, shape (rows,)
        Lists of text or integers, or text.
    column : str
        For messages.
    separator : str
        What stands between the parts of a text.
    operation : str
        As the formula writes it, for messages.
    row : int
        Number of the first row, for messages.

    Returns
    -------
    pyarrow.DictionaryArray, shape (rows,)
        Null where the value is missing; a missing part of a list is left out.

    Raises
    ------
    DataError
        The column is neither.
    """
    dtype = values.type
    if pa.types.is_null(dtype):
        return pa.nulls(len(values), pa.large_string()).dictionary_encode()
    if is_text(plain_type(dtype)):
        encoded = values if pa.types.is_dictionary(dtype) else values.dictionary_encode()
    elif pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype):
        separator = BETWEEN
        encoded = _joined(values, column, operation, row).dictionary_encode()
    else:
        raise DataError(
            f"column {column!r} is {describe(dtype)}, and {operation} takes lists of levels, or text that lists them; "
            f"for one level a row leave {operation.partition('(')[0]}() out",
            column=column,
        )
    missing = ~to_numpy(pc.is_valid(values))
    texts = [None if text is None else _normal(text, separator) for text in encoded.dictionary.to_pylist()]
    found = list(dict.fromkeys(text for text in texts if text is not None))
    place = {text: code for code, text in enumerate(found)}
    code_of = np.array([-1 if text is None else place[text] for text in texts] + [-1], np.int32)
    codes = np.where(missing, -1, code_of[to_numpy(encoded.indices.cast(pa.int32()), -1)]).astype(np.int32)
    return pa.DictionaryArray.from_arrays(from_numpy(codes, codes >= 0), from_texts(found))


def split_bags(texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], pa.Array]:
    """The parts of bags.

    Parameters
    ----------
    texts : sequence of str
        As `bag_column` writes them.

    Returns
    -------
    start : int64 array, shape (bags + 1,)
    part : int32 array, shape (parts of all bags,)
        Those of bag ``i``, ascending, are ``part[start[i]:start[i + 1]]``; one that is there twice stands twice.
    parts : pyarrow.Array
        The distinct parts, sorted.
    """
    bags = [text.split(BETWEEN) if text else [] for text in texts]
    distinct = sorted({part for bag in bags for part in bag})
    place = {part: code for code, part in enumerate(distinct)}
    start = np.cumsum([0, *map(len, bags)], dtype=np.int64)
    codes = np.array([place[part] for bag in bags for part in bag], np.int32)
    return start, codes, from_texts(distinct)


def _normal(text: str, separator: str) -> str:
    return BETWEEN.join(sorted(part for one in text.split(separator) if (part := one.strip())))


def _joined(values: pa.Array, column: str, operation: str, row: int) -> pa.Array:
    """Lists as text, empty where there is no list."""
    parts = pc.list_flatten(values)
    dtype = plain_type(parts.type)
    if not (is_text(dtype) or pa.types.is_integer(dtype) or pa.types.is_null(dtype)):
        raise DataError(
            f"column {column!r} holds lists of {describe(dtype)} values, and {operation} takes lists of text or "
            "integers; convert them",
            column=column,
        )
    parts = parts.cast(dtype).cast(pa.string())
    owner = to_numpy(pc.list_parent_indices(values)).astype(np.int64)
    present = to_numpy(pc.is_valid(parts))
    parts, owner = parts.filter(pc.is_valid(parts)), owner[present]
    odd = pc.index(pc.match_substring(parts, BETWEEN), True).as_py() if len(parts) else -1
    if odd >= 0:
        raise DataError(
            f"row {row + int(owner[odd])} of column {column!r} holds the control character U+001F; remove it",
            column=column,
            row=row + int(owner[odd]),
        )
    ends = np.cumsum(np.bincount(owner, minlength=len(values)), dtype=np.int32)
    lists = pa.ListArray.from_arrays(from_numpy(np.concatenate([np.zeros(1, np.int32), ends])), parts)
    return pc.binary_join(lists, BETWEEN)
