"""Values to codes: every batch is encoded by itself, then the batches' distinct values are brought together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ranef.errors import DataError
from ranef.storage import MEMORY, ROWS_A_PIECE, Storage
from ranef.table.arrow import from_numpy, from_texts, to_numpy
from ranef.table.kinds import common_type, describe, family, plain_type, remedy
from ranef.table.levels import labels_of
from ranef.table.source import level_order
from ranef.table.table import MISSING, UNKNOWN, CodeArray, Factor, Levels


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """The distinct values of one batch, which its rows have codes into.

    Attributes
    ----------
    rows : int
    distinct : pyarrow.Array
        Without nulls; in order of appearance, or as the column declares.
    declared, ordered : bool
        As in `Levels`.
    dtype : pyarrow.DataType
        The column's type, for messages.
    """

    rows: int
    distinct: pa.Array
    declared: bool
    ordered: bool
    dtype: pa.DataType


def encode_batch(values: pa.Array, field: pa.Field, row: int = 0) -> tuple[CodeArray, EncodedBatch]:
    """Encode one batch of a column.

    Parameters
    ----------
    values : pyarrow.Array, shape (rows,)
    field : pyarrow.Field
        Name, type and metadata of the column.
    row : int
        Number of the batch's first row, for messages.

    Returns
    -------
    codes : int32 array, shape (rows,)
        MISSING for nulls and NaN.
    batch : EncodedBatch

    Raises
    ------
    DataError
        The type cannot be a factor (lists, structures, bytes).
    """
    dtype, rows = values.type, len(values)
    if pa.types.is_null(dtype):
        return np.full(rows, MISSING, np.int32), EncodedBatch(rows, pa.nulls(0), False, False, field.type)
    if family(dtype) is None:
        raise DataError(
            f"column {field.name!r} holds neither numbers, text, booleans nor dates (its type is "
            f"{describe(plain_type(dtype))}); {remedy(dtype)}",
            column=field.name,
            row=row,
        )
    if pa.types.is_integer(dtype) and values.null_count == 0:
        codes, integers = encode_integers(to_numpy(values))
        return codes, EncodedBatch(rows, from_numpy(integers), False, False, field.type)
    encoded = values if pa.types.is_dictionary(dtype) else values.dictionary_encode()
    codes, distinct = _without_missing(*_parts(encoded))
    return codes, EncodedBatch(rows, distinct, *level_order(field), field.type)


def encode_integers(values: npt.NDArray[np.integer]) -> tuple[CodeArray, npt.NDArray[np.integer]]:
    """Codes and distinct values of integers; a table over their range where that is dense, else hashing."""
    if len(values) == 0:
        return np.empty(0, np.int32), values
    low, high = int(values.min()), int(values.max())
    span = high - low + 1
    if span > 4 * len(values) + 1024:
        encoded = from_numpy(values).dictionary_encode()
        return to_numpy(encoded.indices), to_numpy(encoded.dictionary)
    # piece by piece, so that what is computed on the way stays in the cache
    pieces = [slice(start, start + ROWS_A_PIECE) for start in range(0, len(values), ROWS_A_PIECE)]
    present = np.zeros(span, np.bool_)
    for piece in pieces:
        present[_offsets(values[piece], low, high)] = True
    code_of = np.cumsum(present, dtype=np.int32) - np.int32(1)
    codes = np.empty(len(values), np.int32)
    for piece in pieces:
        np.take(code_of, _offsets(values[piece], low, high), out=codes[piece], mode="clip")
    found = np.flatnonzero(present)
    return codes, (found + low if high < 2**63 else found.astype(np.uint64) + np.uint64(low)).astype(values.dtype)


def _offsets(values: npt.NDArray[np.integer], low: int, high: int) -> npt.NDArray[np.int64]:
    """Distance of integers of any width from the smallest; less than 2^63."""
    wide = values.astype(np.int64) if high < 2**63 else values
    return (wide - wide.dtype.type(low)).astype(np.int64, copy=False)


def merge(
    name: str,
    codes: CodeArray,
    batches: Sequence[EncodedBatch],
    levels: Levels | None = None,
    storage: Storage = MEMORY,
) -> Factor:
    """Bring the batches of one column together.

    Parameters
    ----------
    name : str
        The column, for messages.
    codes : int32 array, shape (rows,)
        The codes of all batches; taken over and overwritten.
    batches : sequence of EncodedBatch
    levels : Levels, optional
        The levels of a fitted model; values not among them become UNKNOWN. Values of one kind are matched by value;
        text is matched with whole numbers and with dates by label, since one odd text among a CSV file's integers or
        dates makes the whole column text. Without, the levels are those of the data: in declared order (further
        dictionaries append what they add), else sorted: numbers by value, text by code point, FALSE before TRUE, dates
        by time.
    storage : Storage
        Where the codes live.

    Raises
    ------
    DataError
        The column changes its type between batches, or has another one than ``levels``.
    """
    # a batch without a value has no say: an all-missing text column is often stored as floats
    filled = [batch for batch in batches if len(batch.distinct)] or list(batches[:1])
    declared = bool(filled) and all(batch.declared for batch in filled)
    values, code_of = _unique([batch.distinct for batch in filled], _type_of_all(name, batches, filled), declared)
    if levels is not None:
        final = _look_up(name, values, levels)
        found = levels
    elif declared:
        final = np.arange(len(values), dtype=np.int32)
        found = Levels(values, ordered=all(batch.ordered for batch in filled), declared=True)
    else:
        order = _order(values)
        final = np.empty(len(values), np.int32)
        final[order] = np.arange(len(values), dtype=np.int32)
        found = Levels(values.take(from_numpy(order)))
    code_of = final[code_of]
    row = start = 0
    for batch in batches:
        # the last entry serves MISSING, which is -1
        own = np.append(code_of[start : start + len(batch.distinct)], np.int32(MISSING))
        mine = codes[row : row + batch.rows]
        for piece in storage.pieces(batch.rows):
            mine[piece] = own[mine[piece]]
        row += batch.rows
        start += len(batch.distinct)
    return Factor(codes, found)


def look_up(column: str, own: Levels, levels: Levels) -> CodeArray:
    """The code of each of ``own`` among other levels, matched as by `merge`; UNKNOWN where these lack it.

    Raises
    ------
    DataError
        The levels are of types that cannot be compared, such as text and booleans.
    """
    return _look_up(column, own.values, levels)


def decode(factor: Factor) -> pa.Array:
    """The value of every row, null where it is missing or unknown; shape (rows,)."""
    return factor.levels.values.take(from_numpy(factor.codes, factor.codes >= 0))


def _parts(encoded: pa.DictionaryArray) -> tuple[CodeArray, pa.Array]:
    return to_numpy(encoded.indices.cast(pa.int32()), MISSING), encoded.dictionary


def _without_missing(codes: CodeArray, distinct: pa.Array) -> tuple[CodeArray, pa.Array]:
    """Drop null and NaN from the distinct values; their rows become MISSING."""
    valid = pc.is_valid(distinct)
    if pa.types.is_floating(distinct.type):
        valid = pc.and_kleene(valid, pc.invert(pc.is_nan(distinct)))
    keep = to_numpy(valid)
    if keep.all():
        return codes, distinct
    code_of = np.append(np.where(keep, np.cumsum(keep) - 1, MISSING), MISSING).astype(np.int32)
    return code_of[codes], distinct.filter(valid)


def _type_of_all(name: str, batches: Sequence[EncodedBatch], filled: Sequence[EncodedBatch]) -> pa.DataType:
    dtypes = [batch.distinct.type for batch in filled]
    if all(pa.types.is_null(dtype) for dtype in dtypes):
        return pa.null()
    dtype = common_type(dtypes)
    if dtype is not None:
        return dtype
    odd = next(batch for batch in filled if common_type([dtypes[0], batch.distinct.type]) is None)
    row = sum(batch.rows for batch in batches[: batches.index(odd)])
    raise DataError(
        f"column {name!r} is {describe(plain_type(filled[0].dtype))} in its first rows and "
        f"{describe(plain_type(odd.dtype))} from row {row}; convert it to one type",
        column=name,
        row=row,
    )


def _unique(parts: Sequence[pa.Array], dtype: pa.DataType, in_order: bool) -> tuple[pa.Array, CodeArray]:
    """The distinct values of all parts, in order of appearance if asked, and the code of every entry of every part."""
    together = pa.concat_arrays([pa.nulls(0, dtype), *(part.cast(dtype, safe=False) for part in parts)])
    if pa.types.is_floating(dtype):
        together = pc.add(together, from_numpy(np.zeros(1)).cast(dtype)[0])  # -0.0 becomes 0.0
    if pa.types.is_integer(dtype) and not in_order:
        codes, integers = encode_integers(to_numpy(together))
        return from_numpy(integers), codes
    encoded = together.dictionary_encode()
    return encoded.dictionary, to_numpy(encoded.indices)


def _order(values: pa.Array) -> npt.NDArray[np.integer]:
    """The places of the values in ascending order; shape (values,)."""
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return np.argsort(to_numpy(values))
    return to_numpy(pc.sort_indices(values))


def _look_up(name: str, values: pa.Array, levels: Levels) -> CodeArray:
    if len(values) == 0 or len(levels) == 0:
        return np.full(len(values), UNKNOWN, np.int32)
    common = common_type([values.type, levels.values.type])
    if common is not None:
        found = pc.index_in(values.cast(common, safe=False), value_set=levels.values.cast(common, safe=False))
    elif _meet_as_text(values, levels.values):
        found = pc.index_in(_texts(labels_of(values)), value_set=_texts(levels.labels))
    else:
        raise DataError(
            f"column {name!r} was {describe(levels.values.type)} when the model was fitted and is "
            f"{describe(values.type)} now; convert it back to {describe(levels.values.type)}",
            column=name,
        )
    return to_numpy(found, UNKNOWN)


def _meet_as_text(values: pa.Array, others: pa.Array) -> bool:
    """Whether one is text and the other whole numbers or dates."""
    kinds = {family(values.type): values, family(others.type): others}
    if "text" not in kinds:
        return False
    return "date" in kinds or ("number" in kinds and _are_whole(kinds["number"]))


def _are_whole(numbers: pa.Array) -> bool:
    if pa.types.is_floating(numbers.type):
        held = to_numpy(numbers)
        return bool(np.isfinite(held).all() and (held == np.floor(held)).all())
    return bool(pa.types.is_integer(numbers.type))


def _texts(labels: Sequence[str]) -> pa.Array:
    """Labels to compare, times in one way of writing: ISO 8601 with a T, midnight as the day alone."""
    texts = pc.replace_substring_regex(from_texts(labels), r"^(\d{4}-\d\d-\d\d) (\d\d:)", r"\1T\2")
    return pc.replace_substring_regex(texts, r"^(\d{4}-\d\d-\d\d)T00:00(:00)?$", r"\1")
