"""How often tokens stand near one another in sequences, or together in baskets, and their mutual information."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from ranef.data.sequences import Sequences, read_sequences
from ranef.errors import DataError, OptionError
from ranef.table import from_numpy, to_library

Weighting: TypeAlias = Literal["flat", "harmonic"]
FloatArray: TypeAlias = npt.NDArray[np.float64]

_PAIRS = 1 << 23  # that are counted at a time
_MOST_PAIRS = 1 << 31


def cooccurrence(
    sequences: str | os.PathLike[str] | Iterable[Any],
    window: int | None = 5,
    *,
    weighting: Weighting = "flat",
    symmetric: bool = True,
    min_count: int = 1,
    positive: bool = False,
    shift: float = 0.0,
    smoothing: float = 1.0,
    sep: str | None = None,
    lowercase: bool = False,
) -> Any:
    """How often each pair of tokens stands close together, and its pointwise mutual information.

    Parameters
    ----------
    sequences : path, column, or iterable
        A text file with a sequence a line (``.gz`` too); a column of lists or of texts (pandas, polars, Arrow); or an
        iterable of lists of tokens, or of texts. Tokens are texts or numbers; missing and empty ones are passed over.
    window : int or None
        Two tokens of a sequence are a pair where at most so many places apart. None: sequences are baskets, and every
        two different tokens of a basket are a pair, once.
    weighting : {"flat", "harmonic"}
        What a pair counts: 1, or 1 / distance, as in GloVe.
    symmetric : bool
        A token's contexts stand on both sides of it; if False, after it.
    min_count : int
        Tokens that occur less often are taken out of the sequences first, so that others come closer together, as in
        word2vec.
    positive : bool
        Negative mutual information becomes 0.
    shift : float
        Taken from the mutual information (before it is made positive); log(k) for the k negative samples of word2vec.
    smoothing : float
        The contexts' frequencies are raised to this power, at most 1; 0.75 in word2vec. Rare contexts then have less
        mutual information.
    sep : str, optional
        What stands between the tokens of a text; white space around tokens does not count. Default: white space.
    lowercase : bool
        Tokens that are texts are put into lower case.

    Returns
    -------
    table
        ``token`` and ``context`` (categories where they are texts), ``count``, ``pmi``; a row for each pair that
        occurs, sorted by both. In the library of the column that was given, else pandas if installed, else polars, else
        Arrow.

    Raises
    ------
    OptionError
        An argument is wrong.
    DataError
        The sequences cannot be read, or no pair is in them.

    Notes
    -----
    ``pmi`` is log(p(token, context) / (p(token) p(context))), with the probabilities of these counts. word2vec
    factorizes it (O. Levy and Y. Goldberg, Neural word embedding as implicit matrix factorization, NIPS 2014), GloVe
    the logarithm of the count: ``pmi ~ 1 + (1 | token) + (1 | context) + latent(token, context, rank=100)``, or
    ``log(count) ~ ...``. Pairs that do not occur are no rows: their mutual information is minus infinity.

    The tokens are kept as 4 bytes each, the pairs are counted some at a time: memory is that of the tokens and twice
    that of the pairs which occur.

    Examples
    --------
    >>> from ranef.data import cooccurrence
    >>> cooccurrence([["tea", "milk"], ["tea", "milk", "jam"]], window=None)["count"].tolist()
    [1, 1, 1, 2, 1, 2]
    """
    _check(window, weighting, symmetric, min_count, shift, smoothing, sep)
    read = read_sequences(sequences, min_count, sep, lowercase)
    counts = _sum(_baskets(read) if window is None else _windows(read, window, weighting), len(read.values))
    if symmetric and window is not None:
        counts = (counts + counts.T).tocsr()
    if not counts.nnz:
        raise DataError("no two tokens stand together in any sequence: there is nothing to count")
    counts.sort_indices()
    pmi = _mutual_information(counts, smoothing) - shift
    size = np.diff(counts.indptr)
    return to_library(
        {
            "token": _column(read.values, np.repeat(np.arange(len(size), dtype=np.int32), size)),
            "context": _column(read.values, counts.indices),
            "count": counts.data.astype(np.int64) if weighting == "flat" else counts.data,
            "pmi": np.maximum(pmi, 0.0) if positive else pmi,
        },
        read.library,
    )


def _windows(read: Sequences, window: int, weighting: Weighting) -> Iterator[sparse.csr_array]:
    """The contexts that follow each token, some tokens at a time."""
    size, v = max(1, _PAIRS // window), len(read.values)
    for at in range(0, len(read.codes), size):
        stop = min(at + size + window, len(read.codes))
        codes = read.codes[at:stop]
        first = np.searchsorted(read.start, at, side="right") - 1
        last = np.searchsorted(read.start, stop, side="left")
        bounds = np.clip(read.start[first : last + 1], at, stop)
        sequence = np.repeat(np.arange(len(bounds) - 1, dtype=np.int32), np.diff(bounds))
        rows, columns, weights = [], [], []
        for distance in range(1, min(window, len(codes) - 1) + 1):
            here = min(size, len(codes) - distance)
            pairs = np.flatnonzero(sequence[:here] == sequence[distance : here + distance])
            rows.append(codes[pairs])
            columns.append(codes[pairs + distance])
            weights.append(np.full(len(pairs), 1.0 if weighting == "flat" else 1.0 / distance))
        if rows:
            yield _summed(np.concatenate(rows), np.concatenate(columns), np.concatenate(weights), v)


def _baskets(read: Sequences) -> Iterator[sparse.csr_array]:
    """The pairs of different tokens, some baskets at a time."""
    v = len(read.values)
    sizes = np.diff(read.start)
    largest = int(sizes.max(initial=0))
    if largest**2 > _MOST_PAIRS:
        raise DataError(
            f"basket {int(np.argmax(sizes))} has {largest:,} tokens, too many for all their pairs: leave such baskets "
            "out, split them, or give a window"
        )
    ends = np.cumsum(sizes**2)
    basket = 0
    while basket < len(sizes):
        before = ends[basket - 1] if basket else 0
        stop = max(basket + 1, int(np.searchsorted(ends, before + _PAIRS, side="right")))
        tokens = slice(read.start[basket], read.start[stop])
        rows = np.repeat(np.arange(stop - basket, dtype=np.int32), sizes[basket:stop])
        has = sparse.coo_array((np.ones(len(rows)), (rows, read.codes[tokens])), shape=(stop - basket, v)).tocsr()
        has.data[:] = 1.0  # once a basket
        together = (has.T @ has).tocoo()
        apart = together.row != together.col
        yield _summed(together.row[apart], together.col[apart], together.data[apart], v)
        basket = stop


def _summed(rows: npt.NDArray[Any], columns: npt.NDArray[Any], weights: FloatArray, v: int) -> sparse.csr_array:
    found = sparse.coo_array((weights, (rows, columns)), shape=(v, v)).tocsr()
    found.sum_duplicates()
    return found


def _sum(parts: Iterator[sparse.csr_array], v: int) -> sparse.csr_array:
    """The sum, of matrices of about one size at a time: each entry is added a logarithmic number of times."""
    waiting: list[sparse.csr_array] = []
    for part in parts:
        waiting.append(part)
        while len(waiting) > 1 and waiting[-2].nnz < 2 * waiting[-1].nnz:
            part = waiting.pop()
            waiting[-1] = waiting[-1] + part
    total = waiting.pop() if waiting else sparse.csr_array((v, v))
    while waiting:
        total = total + waiting.pop()
    return total


def _mutual_information(counts: sparse.csr_array, smoothing: float) -> FloatArray:
    """Of every pair that is stored, shape (pairs,)."""
    of_token = np.asarray(counts.sum(axis=1), np.float64)
    of_context = np.asarray(counts.sum(axis=0), np.float64) ** smoothing
    with np.errstate(divide="ignore"):  # tokens without a pair
        of_token, of_context = np.log(of_token), np.log(of_context / of_context.sum())
    pmi: FloatArray = np.log(counts.data)
    pmi -= np.repeat(of_token, np.diff(counts.indptr))
    pmi -= of_context[counts.indices]
    return pmi


def _column(values: pa.Array, codes: npt.NDArray[np.integer]) -> pa.Array:
    if pa.types.is_large_string(values.type):
        return pa.DictionaryArray.from_arrays(from_numpy(codes.astype(np.int32, copy=False)), values)
    return values.take(from_numpy(codes))


def _check(window: Any, weighting: Any, symmetric: Any, min_count: Any, shift: Any, smoothing: Any, sep: Any) -> None:
    if window is not None and not _is_whole(window):
        raise OptionError(f"window={window!r}: give a whole number of at least 1, or None for baskets")
    if weighting not in ("flat", "harmonic"):
        raise OptionError(f"weighting={weighting!r}: there are 'flat' and 'harmonic'")
    if window is None and (weighting != "flat" or not symmetric):
        wrong = "weighting='harmonic'" if weighting != "flat" else "symmetric=False"
        raise OptionError(f"{wrong}: the tokens of a basket have no order; give a window")
    if not _is_whole(min_count):
        raise OptionError(f"min_count={min_count!r}: give a whole number of at least 1")
    if isinstance(shift, bool) or not isinstance(shift, int | float) or not math.isfinite(shift):
        raise OptionError(f"shift={shift!r}: give a number, such as math.log(5)")
    if isinstance(smoothing, bool) or not isinstance(smoothing, int | float) or not 0 < smoothing <= 1:
        raise OptionError(f"smoothing={smoothing!r}: give a number above 0 and at most 1")
    if sep is not None and (not isinstance(sep, str) or not sep):
        raise OptionError(f"sep={sep!r}: give the text between two tokens, or None for white space")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1
