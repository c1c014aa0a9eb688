"""Commands start quickly: none loads a library that it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ranef.table import write_table

FORMULA = "y ~ x + (1 | g) + (1 | g:h)"
SLOW = ("narwhals", "numba", "pandas", "polars", "scipy", "statistics")
COMMAND = f"""
import sys
from ranef.cli import main
code = main(sys.argv[1:])
print(*(name for name in {SLOW} if name in sys.modules), file=sys.stderr)
sys.exit(code)
"""


def loaded(*words: str) -> set[str]:
    """The slow libraries that a command loads in a process of its own."""
    said = subprocess.run([sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    return set(said.stderr.splitlines()[-1].split())


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(5)
    g, h = rng.integers(0, 12, 240), rng.integers(0, 3, 240)
    x = rng.normal(size=240)
    y = 1 + x + rng.normal(size=12)[g] + rng.normal(size=36)[3 * g + h] + rng.normal(size=240)
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    x[:3] = np.nan
    write_table(path, {"y": y, "x": x, "g": [f"g{level}" for level in g], "h": h})
    return str(path)


@pytest.fixture(scope="module")
def model(rows: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("models") / "model")
    assert loaded("fit", FORMULA, rows, "--out", path) == {"numba", "scipy"}
    return path


def test_fit(model: str) -> None:
    assert (Path(model) / "manifest.json").is_file()  # what the fit loads is asserted where it is made


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_show(model: str, more: list[str]) -> None:
    assert loaded("show", model, *more) == {"scipy"}


def test_predict(model: str, rows: str, tmp_path: Path) -> None:
    for out in ("p.csv", "p.parquet"):
        assert loaded("predict", model, rows, "--keep", "g", "--out", str(tmp_path / out)) == set()
    assert loaded("predict", model, rows, "--interval", "prediction") == {"statistics"}


def test_help_and_version() -> None:
    assert loaded("--version") == set()
    assert loaded("fit", "--help") == set()
