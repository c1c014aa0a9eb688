"""Predictions of more rows than need to be in memory: some at a time, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pyarrow as pa

from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.model import Model
from ranef.errors import RanefError
from ranef.result.fit import Fit
from ranef.result.predictions import prediction_result
from ranef.result.warn import warn_about_rows
from ranef.score import Prediction, predict
from ranef.score.categories import as_categories, categories_of
from ranef.score.rows import Unknown
from ranef.table import Source

ROWS = 1 << 18
THREADS = 2


def prediction_parts(
    fit: Fit, source: Source, keep: Sequence[str] = (), kind: str = "response", **options: Any
) -> Iterator[tuple[dict[str, Any], int]]:
    """What ``fit.predict`` gives as columns by name, after the columns to keep, for some rows at a time.

    Parameters
    ----------
    fit : Fit
    source : Source
    keep : sequence of str
        Columns of the data.
    kind : str
        ``type`` of `Fit.predict`, of which ``options`` are the others.

    Yields
    ------
    columns : dict of str to array
    missing : int
        Rows of these without a prediction.

    Raises
    ------
    As `Fit.predict`; with the place in the whole data.
    """
    model = cast("Model | ImplicitModel", fit.model)
    # draws of new responses go on from row to row, and a model of vectors alone has its own way
    if isinstance(model, ImplicitModel) or (model.sample is not None and options.get("interval") is not None):
        yield _whole(fit, source, keep, kind, options)
        return
    names = list(dict.fromkeys([*keep, *_columns_read(model, source, kind, options)]))
    missing = rows = 0
    unknown: dict[str, Unknown] = {}
    for piece, found in _in_order(model, source, names, kind, options):
        for name, (count, first, label) in found.unknown.items():
            before = unknown.get(name)
            more = Unknown(count, rows + first, label)
            unknown[name] = more if before is None else before._replace(rows=before.rows + count)
        rows, missing = rows + piece.num_rows, missing + found.missing
        kept = {name: _plain(piece.column(name)) for name in keep}
        yield {**kept, **_columns(model, kind, found)}, found.missing
    if not rows:
        yield _whole(fit, source, keep, kind, options)
    warn_about_rows(missing, rows, unknown)


def _in_order(
    model: Model, source: Source, names: Sequence[str], kind: str, options: Mapping[str, Any]
) -> Iterator[tuple[pa.RecordBatch, Prediction]]:
    """Pieces and their predictions; the next ones are worked on meanwhile."""

    def work(piece: pa.RecordBatch) -> Prediction:
        return predict(model, _source_of(source, piece), kind=cast(Any, kind), **options)

    with ThreadPoolExecutor(THREADS) as pool:
        ahead: deque[tuple[pa.RecordBatch, Future[Prediction]]] = deque()
        try:
            for batch in source.batches(names or list(source.columns)[:1]):
                for start in range(0, batch.num_rows, ROWS):
                    piece = batch.slice(start, ROWS)
                    ahead.append((piece, pool.submit(work, piece)))
                    if len(ahead) > THREADS:
                        first, found = ahead.popleft()
                        yield first, found.result()
            for first, found in ahead:
                yield first, found.result()
        except RanefError:
            for _, found in ahead:
                found.cancel()
            # the same error, with the row and the count in the whole data
            predict(model, source, kind=cast(Any, kind), **options)
            raise


def _columns_read(model: Model, source: Source, kind: str, options: Mapping[str, Any]) -> list[str]:
    """The columns that predictions ask of the data, found out on a few rows of all columns."""
    asked: list[str] = []
    first = next((batch for batch in source.batches(source.columns) if batch.num_rows), None)
    if first is None:
        return list(source.columns)
    few = first.slice(0, 1)

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        asked.extend(names)
        return iter([few])

    # what is wrong with these rows is told in its place
    with suppress(RanefError):
        predict(model, replace(source, rows=few.num_rows, read=read), kind=cast(Any, kind), **options)
    return [name for name in dict.fromkeys(asked) if name in source.columns]


def _source_of(source: Source, piece: pa.RecordBatch) -> Source:
    return replace(source, rows=piece.num_rows, read=lambda names: iter([piece]))


def _whole(
    fit: Fit, source: Source, keep: Sequence[str], kind: str, options: Mapping[str, Any]
) -> tuple[dict[str, Any], int]:
    """All rows at once."""
    found = fit.predict(replace(source, library="dict"), type=cast(Any, kind), **options)
    predicted = found if isinstance(found, dict) else {"fit": found}
    kept: dict[str, Any] = {}
    if keep:
        batches = list(source.batches(keep))
        kept = {name: pa.chunked_array([_plain(batch.column(name)) for batch in batches]) for name in keep}
    first = next(iter(predicted.values()))
    missing = int(np.sum(np.isnan(first))) if first.dtype.kind == "f" else sum(one is None for one in first.tolist())
    return {**kept, **predicted}, missing


def _columns(model: Model, kind: str, found: Prediction) -> dict[str, Any]:
    if kind == "class":
        return {"fit": as_categories(found.fit, categories_of(model))}
    columns = prediction_result(model, kind, found, "dict")
    return columns if isinstance(columns, dict) else {"fit": columns}


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
