"""Sequences of tokens, read piece by piece from a text file, a column or any iterable, to integer codes."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ranef.errors import DataError, OptionError
from ranef.table import CodeArray, from_numpy, preferred_library, to_numpy
from ranef.table.kinds import common_type, describe, family, is_text

IntArray = npt.NDArray[np.int64]

_BLOCK = 1 << 24  # bytes of a text file
_SEQUENCES = 1 << 14  # of anything else
_TOKENS = 1 << 22
_SPACE = b" \t\n\r\x0b\x0c"
_ACCEPTED = "a path to a text file with a sequence a line, a column of lists or of texts, or an iterable of them"


@dataclass(frozen=True, eq=False)
class Sequences:
    """Sequences one after the other.

    Attributes
    ----------
    codes : int32 array, shape (tokens,)
        Into ``values``.
    start : int64 array, shape (sequences + 1,)
    values : pyarrow.Array, shape (vocabulary,)
        The distinct tokens, sorted.
    library : {"pandas", "polars", "pyarrow"}
        The library of the tables to give back.
    """

    codes: CodeArray
    start: IntArray
    values: pa.Array
    library: str


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some sequences, at least one: their tokens, null for none; how many each has; whether the first goes on from the
    piece before."""

    tokens: pa.Array
    lengths: IntArray
    goes_on: bool = False


def read_sequences(data: Any, min_count: int, sep: str | None, lowercase: bool) -> Sequences:
    """The tokens of all sequences as codes; those that are rare, missing or empty are taken out.

    Parameters
    ----------
    data : path, column, or iterable
        As :func:`ranef.data.cooccurrence` takes it.
    min_count : int
        Rarer tokens are taken out as if they had not been there.
    sep : str or None
        What stands between the tokens of a text; None for white space.
    lowercase : bool

    Raises
    ------
    OptionError
        ``data`` is neither.
    DataError
        Tokens of several types, text that is not UTF-8, no token left.
    """
    pieces, library = _opened(data, sep)
    code_of: dict[Any, int] = {}
    distinct: list[pa.Array] = []
    codes: list[CodeArray] = []
    ends: list[IntArray] = [np.zeros(1, np.int64)]
    dtype, at = pa.null(), 0
    for piece in pieces:
        own, found = _encoded(piece.tokens, lowercase)
        dtype = _type_of_both(dtype, found, sum(map(len, ends)) - 1)
        known = len(code_of)
        place = np.array([*(code_of.setdefault(one, len(code_of)) for one in found.to_pylist()), -1], np.int32)
        distinct.append(found.take(from_numpy(np.flatnonzero(place >= known))))
        codes.append(place[own])
        if piece.goes_on:
            ends[-1] = ends[-1][:-1]
        ends.append(at + np.cumsum(piece.lengths))
        at += len(own)
    values = pa.concat_arrays([pa.nulls(0, dtype), *(one.cast(dtype) for one in distinct)])
    del distinct, code_of
    together, start = np.concatenate(codes or [np.zeros(0, np.int32)]), np.concatenate(ends)
    return _frequent(together, start, values, min_count, library)


def _frequent(codes: CodeArray, start: IntArray, values: pa.Array, min_count: int, library: str) -> Sequences:
    """Without the rare tokens, the others numbered in the order of their values."""
    counts = np.zeros(len(values) + 1, np.int64)  # the last for none, which is -1
    pieces = [slice(at, at + _TOKENS) for at in range(0, len(codes), _TOKENS)]
    for piece in pieces:
        counts += np.bincount(codes[piece] % np.int32(len(counts)), minlength=len(counts))
    kept = np.flatnonzero(counts[:-1] >= min_count)
    if not len(kept):
        raise DataError(
            f"no token is left: {len(values):,} occur, the most frequent of them {counts[:-1].max():,} times; "
            f"min_count is {min_count:,}"
            if len(values)
            else "the sequences hold no token"
        )
    chosen = values.take(from_numpy(kept))
    order = to_numpy(pc.sort_indices(chosen)).astype(np.int64)
    code_of = np.full(len(counts), -1, np.int32)
    code_of[kept[order]] = np.arange(len(kept), dtype=np.int32)
    out, done, begins = np.empty(int(counts[kept].sum()), np.int32), 0, np.empty_like(start)
    for piece in pieces:
        own = code_of[codes[piece]]
        there = own >= 0
        first, last = np.searchsorted(start, (piece.start, piece.start + len(own)))
        begins[first:last] = done + np.append(0, np.cumsum(there))[start[first:last] - piece.start]
        own = own[there]
        out[done : done + len(own)] = own
        done += len(own)
    begins[np.searchsorted(start, len(codes)) :] = done
    return Sequences(out, begins, chosen.take(from_numpy(order)), library)


def _encoded(tokens: pa.Array, lowercase: bool) -> tuple[CodeArray, pa.Array]:
    """Codes, -1 for missing and empty tokens, and the distinct tokens they mean."""
    if pa.types.is_dictionary(tokens.type):
        tokens = tokens.dictionary_decode()
    if pa.types.is_null(tokens.type):
        return np.full(len(tokens), -1, np.int32), tokens.slice(0, 0)
    if family(tokens.type) is None:
        raise DataError(f"tokens must be texts or numbers, not {describe(tokens.type)}")
    encoded = tokens.dictionary_encode()
    codes, distinct = to_numpy(encoded.indices, -1), encoded.dictionary
    if is_text(tokens.type):
        distinct = pc.utf8_lower(distinct) if lowercase else distinct
        distinct = pc.if_else(pc.equal(distinct, ""), None, distinct)
    elif lowercase:
        raise OptionError(f"lowercase: the tokens are no texts ({describe(tokens.type)}); leave it out")
    # again, since lower case makes some the same, and others are no tokens
    again = distinct.dictionary_encode()
    return np.append(to_numpy(again.indices, -1), np.int32(-1))[codes], again.dictionary


def _type_of_both(known: pa.DataType, found: pa.Array, sequence: int) -> pa.DataType:
    if not len(found):
        return known
    both = found.type if pa.types.is_null(known) else common_type([known, found.type])
    if both is None:
        raise DataError(
            f"the tokens are {describe(known)} at first and {describe(found.type)} from sequence {sequence} on; make "
            "them of one type"
        )
    return cast(pa.DataType, both)


# --- where they come from


def _opened(data: Any, sep: str | None) -> tuple[Iterator[_Piece], str]:
    """The pieces, and the library of the tables to give back."""
    if isinstance(data, str | os.PathLike):
        return _of_file(Path(data).expanduser(), sep), preferred_library()
    if isinstance(data, pa.Array | pa.ChunkedArray):
        return _of_column(data, sep), "pyarrow"
    import narwhals as nw

    native = nw.from_native(data, allow_series=True, pass_through=True)
    if isinstance(native, nw.Series):
        library = "polars" if native.implementation.is_polars() else "pandas"
        return _of_column(native.to_arrow(), sep), library
    if isinstance(native, nw.DataFrame | nw.LazyFrame) or isinstance(data, pa.Table | dict):
        raise OptionError(f"sequences: {type(data).__name__} is a table; pass one of its columns: {_ACCEPTED}")
    if not isinstance(data, Iterable):
        raise OptionError(f"sequences: {type(data).__name__} is not {_ACCEPTED}")
    return _of_iterable(data, sep), preferred_library()


def _of_iterable(data: Iterable[Any], sep: str | None) -> Iterator[_Piece]:
    rest, at = iter(data), 0
    while some := [_plain(one, at + place) for place, one in enumerate(islice(rest, _SEQUENCES))]:
        try:
            array = pa.array(some)
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise DataError(
                f"the sequences from number {at} on are not all lists of texts or of numbers, or all texts ({error})"
            ) from error
        yield from _of_column(array, sep)
        at += len(some)


def _plain(one: Any, number: int) -> Any:
    if one is None or isinstance(one, str):
        return one
    if isinstance(one, bytes) or not isinstance(one, Iterable):
        raise DataError(f"sequence {number} is {type(one).__name__}, not a list of tokens or a text")
    return one if isinstance(one, list | tuple | np.ndarray) else list(one)


def _of_column(column: pa.Array | pa.ChunkedArray, sep: str | None) -> Iterator[_Piece]:
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    for chunk in chunks:
        if pa.types.is_dictionary(chunk.type):
            chunk = chunk.dictionary_decode()
        for at in range(0, len(chunk), _SEQUENCES):
            part = chunk.slice(at, _SEQUENCES)
            if is_text(part.type):
                yield _split(part.cast(pa.large_string()), sep)
            elif any(is_list(part.type) for is_list in (pa.types.is_list, pa.types.is_large_list)):
                yield _of_lists(part)
            elif pa.types.is_fixed_size_list(part.type):
                yield _of_lists(part.cast(pa.large_list(part.type.value_type)))
            elif pa.types.is_null(part.type):
                yield _Piece(pa.nulls(0), np.zeros(len(part), np.int64))
            else:
                raise OptionError(f"sequences: a column of the type {part.type} holds no sequences; pass {_ACCEPTED}")


def _of_lists(lists: pa.Array) -> _Piece:
    lengths = to_numpy(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)
    return _Piece(lists.flatten(), lengths)


def _split(texts: pa.Array, sep: str | None) -> _Piece:
    if sep is None:
        return _of_lists(pc.utf8_split_whitespace(texts))
    piece = _of_lists(pc.split_pattern(texts, sep))
    return _Piece(pc.utf8_trim_whitespace(piece.tokens), piece.lengths)


def _of_file(path: Path, sep: str | None) -> Iterator[_Piece]:
    if not path.is_file():
        raise OptionError(f"sequences: there is no file {path}; pass {_ACCEPTED}")
    return _lines(path, sep)


def _lines(path: Path, sep: str | None) -> Iterator[_Piece]:
    """Blocks of a text file; a line may be longer than a block where white space separates its tokens."""
    cuts = b"\n" if sep is not None else _SPACE
    try:
        with cast(IO[bytes], gzip.open(path) if path.suffix == ".gz" else path.open("rb")) as file:
            kept: list[bytes] = []
            goes_on = False
            for block in chain(iter(lambda: file.read(_BLOCK), b""), [b""]):
                cut = len(block) if not block else max(block.rfind(bytes([one])) for one in cuts) + 1
                if block and not cut:
                    kept.append(block)
                    continue
                content = b"".join([*kept, block[:cut]])
                kept = [block[cut:]]
                if content:
                    piece = _split(_texts(content), sep)
                    yield _Piece(piece.tokens, piece.lengths, goes_on)
                    goes_on = not content.endswith(b"\n")
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as text in UTF-8: {error}") from error


def _texts(content: bytes) -> pa.Array:
    """The lines of a text, each with its line break."""
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) == ord("\n")) + 1
    if not len(ends) or ends[-1] != len(content):
        ends = np.append(ends, len(content))
    bounds = pa.py_buffer(np.append(0, ends).astype(np.int64))
    texts = pa.Array.from_buffers(pa.large_string(), len(ends), [None, bounds, pa.py_buffer(content)])
    texts.validate(full=True)
    return texts
