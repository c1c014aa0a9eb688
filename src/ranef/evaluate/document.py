"""An evaluation as one JSON document, for programs: what ``ranef evaluate --json`` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ranef.errors import OptionError
from ranef.evaluate.evaluation import Evaluation


def document(found: Evaluation, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An evaluation as plain dicts, lists, text and numbers; what is not finite is None.

    Parameters
    ----------
    found : Evaluation
    about : mapping, optional
        What else to put in, first.

    Returns
    -------
    dict
        ``about``, and the keys ``rows`` (rows, or users of rankings, that were judged), ``dropped``, ``by``, ``units``,
        ``replicates``, ``level``, ``seed``, ``models``, ``metrics`` (rows of `Evaluation.table`), ``differences`` (rows
        of `Evaluation.comparison`), ``calibration`` (bins by model; empty where a response has no probability) and
        ``notes``.
    """
    return {
        **(about or {}),
        "rows": found.rows,
        "dropped": found.dropped,
        "by": found.by,
        "units": found.units,
        "replicates": found.sampling.replicates,
        "level": found.sampling.level,
        "seed": found.sampling.seed,
        "models": list(found.models),
        "metrics": _plain(found.records()),
        "differences": _plain(found.differences()),
        "calibration": {model: _bins(found, model) for model in found.models if _has_bins(found, model)},
        "notes": list(found.notes),
    }


def to_json(found: Evaluation, about: Mapping[str, Any] | None = None) -> str:
    """`document` as indented JSON text."""
    return msgspec.json.format(msgspec.json.encode(document(found, about)), indent=2).decode()


def _has_bins(found: Evaluation, model: str) -> bool:
    try:
        found.calibration(model)
    except OptionError:
        return False
    return True


def _bins(found: Evaluation, model: str) -> list[dict[str, Any]]:
    columns = found.calibration(model).columns()
    return _plain([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def _plain(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: _number(value) for name, value in row.items()} for row in rows]


def _number(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value
