"""The interaction of factors: the combinations of their levels that occur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from ranef.storage import MEMORY, Storage
from ranef.table.arrow import from_numpy, from_texts, to_numpy
from ranef.table.encode import encode_integers
from ranef.table.table import MISSING, UNKNOWN, CodeArray, Factor, Levels


@dataclass(frozen=True, eq=False)
class Combination:
    """The observed combinations of several factors' levels.

    Attributes
    ----------
    parts : int32 array, shape (combinations, factors)
        Row ``k`` holds the codes that make up level ``k``; rows are distinct, and of a fit sorted, the first factor
        varying slowest. What was added to a fit stands behind.
    """

    parts: CodeArray

    def __len__(self) -> int:
        return len(self.parts)


def interaction(factors: Sequence[Factor], storage: Storage = MEMORY) -> tuple[Factor, Combination]:
    """The factor of the combinations that occur, lme4's ``a:b``.

    Parameters
    ----------
    factors : sequence of Factor, all of one length
    storage : Storage
        Where the codes live.

    Returns
    -------
    factor : Factor
        Levels are texts ``a:b``, ordered by the first factor, then the second, and so on. A row is MISSING if one of
        its parts is, else UNKNOWN if one of its parts is.
    combination : Combination
        To encode new rows, see `encode_combination`.
    """
    codes = np.broadcast_to(np.int32(0), factors[0].codes.shape)
    parts = np.empty((1, 0), np.int64)
    for factor in factors:
        size = max(len(factor.levels), 1)
        codes, distinct = _combined(codes, factor.codes, size, storage)
        parts = np.column_stack([parts[distinct // size], distinct % size])
    columns = [np.array(factor.levels.labels, object)[part] for factor, part in zip(factors, parts.T, strict=True)]
    texts = [":".join(labels) for labels in zip(*columns, strict=True)]
    return Factor(codes, Levels(from_texts(texts))), Combination(parts.astype(np.int32))


def _combined(
    first: CodeArray, second: CodeArray, size: int, storage: Storage
) -> tuple[CodeArray, npt.NDArray[np.int64]]:
    """Codes of the pairs that occur, and the pairs as ``first * size + second``, ascending."""
    codes = storage.empty(len(first), np.int32)
    found: list[npt.NDArray[np.int64]] = []
    for piece in storage.pieces(len(first)):
        one, other = first[piece], second[piece]
        seen = (one >= 0) & (other >= 0)
        codes[piece] = np.where((one == MISSING) | (other == MISSING), MISSING, UNKNOWN)
        codes[piece][seen], distinct = _dense(one[seen].astype(np.int64) * size + other[seen])
        found.append(distinct)
    code_of, together = _dense(np.concatenate([np.empty(0, np.int64), *found]))
    start = 0
    for piece, distinct in zip(storage.pieces(len(first)), found, strict=True):
        # two more entries serve UNKNOWN and MISSING, which are -2 and -1
        own = np.append(code_of[start : start + len(distinct)], [UNKNOWN, MISSING]).astype(np.int32)
        codes[piece] = own[codes[piece]]
        start += len(distinct)
    return codes, together


def encode_combination(codes: Sequence[CodeArray], combination: Combination) -> CodeArray:
    """Codes of new rows into the combinations of a fitted model.

    Parameters
    ----------
    codes : sequence of int32 array, shape (rows,)
        One for each factor, into the levels that the factor had in `interaction`.
    combination : Combination

    Returns
    -------
    int32 array, shape (rows,)
        MISSING if a part is, else UNKNOWN if a part is or the combination was not observed.
    """
    missing, unknown = _holes(codes)
    seen = np.flatnonzero(~(missing | unknown))
    known = np.zeros(len(combination), np.int64)
    new = np.zeros(len(seen), np.int64)
    for part, code in zip(combination.parts.T, codes, strict=True):
        size = int(part.max(initial=0)) + 1
        inside = code[seen] < size
        seen = seen[inside]
        known, distinct = _dense(known * size + part)
        new = _find(new[inside] * size + code[seen], distinct)
        seen, new = seen[new >= 0], new[new >= 0]
    found = np.where(missing, np.int32(MISSING), np.int32(UNKNOWN))
    number = np.empty(len(known), np.int32)
    number[known] = np.arange(len(known))
    found[seen] = number[new]
    return found


def _holes(codes: Sequence[CodeArray]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Rows with a missing part, and rows with an unknown part."""
    missing = np.zeros(len(codes[0]), np.bool_)
    unknown = np.zeros(len(codes[0]), np.bool_)
    for code in codes:
        missing |= code == MISSING
        unknown |= code == UNKNOWN
    return missing, unknown


def _dense(keys: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The sorted distinct keys, and every key's place among them. Keys stay below 2^62: places times a level count."""
    codes, distinct = encode_integers(keys)
    order = np.argsort(distinct)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[codes], distinct[order].astype(np.int64)


def _find(keys: npt.NDArray[np.int64], distinct: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    found = pc.index_in(from_numpy(keys), value_set=from_numpy(distinct))
    return to_numpy(found, -1).astype(np.int64)
