"""Levels of a factor: their text, and which of them occur."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from ranef.storage import MEMORY, Storage
from ranef.table.arrow import from_numpy, to_numpy
from ranef.table.table import Factor, Levels


def labels_of(values: pa.Array) -> tuple[str, ...]:
    """Values as text, R's way where R has one.

    Booleans are ``TRUE`` and ``FALSE``; integers, also those held as floats, have no point; other floats are the
    shortest text that reads back as the same number; dates and times are ISO 8601, a time without its clock where all
    are midnight, with ``Z`` where the column has a time zone.

    Parameters
    ----------
    values : pyarrow.Array, shape (levels,)
        Without nulls.

    Returns
    -------
    tuple of str, one for each value
    """
    dtype = values.type
    if pa.types.is_boolean(dtype):
        return tuple("TRUE" if value else "FALSE" for value in values.to_pylist())
    if pa.types.is_floating(dtype):
        # through numpy, since the shortest text of a float32 is not that of the same value as float64
        return tuple(_float_label(value) for value in to_numpy(values))
    if pa.types.is_decimal(dtype):
        return tuple(_trimmed(format(value, "f")) for value in values.to_pylist())
    if pa.types.is_date(dtype):
        return tuple(value.isoformat() for value in values.to_pylist())
    if pa.types.is_timestamp(dtype):
        return _time_labels(values)
    return tuple(str(value) for value in values.to_pylist())


def used(factor: Factor, storage: Storage = MEMORY) -> Factor:
    """The factor without the levels that no row has; the order of the others stays."""
    # two more entries serve UNKNOWN and MISSING, which are -2 and -1
    found = np.zeros(len(factor.levels) + 2, np.bool_)
    for piece in storage.pieces(len(factor.codes)):
        found[factor.codes[piece]] = True
    occurs = found[:-2]
    if occurs.all():
        return factor
    code_of = np.append(np.cumsum(occurs, dtype=np.int32) - np.int32(1), np.array([-2, -1], np.int32))
    kept = factor.levels.values.take(from_numpy(np.flatnonzero(occurs)))
    codes = storage.empty(len(factor.codes), np.int32)
    for piece in storage.pieces(len(codes)):
        codes[piece] = code_of[factor.codes[piece]]
    return Factor(codes, Levels(kept, factor.levels.ordered, factor.levels.declared))


def _float_label(value: Any) -> str:
    if np.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else str(value)


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _time_labels(values: pa.Array) -> tuple[str, ...]:
    instants = to_numpy(values.cast(pa.int64())).view(f"datetime64[{values.type.unit}]")
    if values.type.tz is None and (instants == instants.astype("datetime64[D]")).all():
        return tuple(str(day) for day in instants.astype("datetime64[D]"))
    zone = "" if values.type.tz is None else "Z"
    return tuple(_trimmed(str(instant)) + zone for instant in instants)
