"""What the large studies share: their rows go into a folder that lasts as long as their fits."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.scale import CASES
from ranef import data


@contextmanager
def parquet() -> Iterator[Path]:
    """A path for the rows of one data set."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "rows.parquet"


def case(name: str, share: float, seed: int, path: Path) -> data.Simulated:
    """Simulate a case of `benchmarks.scale`, or a share of its rows and levels, into a file."""
    whole: Mapping[str, Any] = CASES[name]
    groups = {group: round(share * levels) for group, levels in whole["groups"].items()}
    return data.simulate(**{**whole, "rows": round(share * whole["rows"]), "groups": groups}, seed=seed, path=path)
