"""`ranef demo`: every number it prints is right."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ranef
from ranef.cli import main
from ranef.cli.holdout import averages, hold_out
from ranef.data import pastes, sleepstudy


def number_after(text: str, words: str) -> float:
    found = re.search(re.escape(words) + r"\D*?(-?\d+(?:\.\d+)?)", text)
    assert found, words
    return float(found[1])


def test_the_demo_of_insteval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = tmp_path / "a model"
    assert main(["demo", "--dir", str(where)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert len(out.splitlines()) <= 80
    assert max(map(len, out.replace(str(where), "ranef-demo").splitlines())) <= 100
    assert "\x1b" not in out
    # the reference of tests/golden/insteval-service-dept-ml.json
    assert number_after(out, "-2 log-likelihood: ") == pytest.approx(237721.7687744958, abs=1e-4)
    assert "7,342 random rows" in out
    errors = [number_after(out, words) for words in ("the mean  ", "(dept, d, s)", "  ranef  ")]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] == pytest.approx(1.202, abs=0.001)
    assert "identical to the last bit" in out
    assert ranef.load(where).nobs == 73421


def test_the_demo_of_own_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sleep.parquet"
    reaction = sleepstudy()["Reaction"].to_pylist()
    table = sleepstudy().set_column(0, "Reaction", pa.array([None, *reaction[1:]]))
    pq.write_table(table, path)
    words = ["--data", str(path), "--formula", "log(Reaction) ~ Days + (Days | Subject)"]
    assert main(["demo", *words, "--dir", str(tmp_path / "m")]) == 0
    out, err = capsys.readouterr()
    assert "published" not in out
    assert "179 rows; log(Reaction)" in out
    assert "1 row left out: a value is missing" in out
    assert "18 random rows held out" in out
    assert "fit by REML" in out
    assert "identical to the last bit" in out
    assert f"ranef predict {tmp_path / 'm'} {path}" in out
    assert "warning: 1 of 180 rows were dropped" in err


def test_the_demo_of_a_nested_design(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pastes.parquet"
    pq.write_table(pastes(), path)
    words = ["--data", str(path), "--formula", "strength ~ 1 + (1 | batch/cask)"]
    assert main(["demo", *words, "--dir", str(tmp_path / "m")]) == 0
    assert "6 random rows held out" in capsys.readouterr().out


def test_averages_are_those_of_a_loop() -> None:
    generator = np.random.default_rng(3)
    first, second = generator.integers(0, 7, 60).astype(np.int32), generator.integers(0, 4, 60).astype(np.int32)
    y, held = generator.standard_normal(60), hold_out(60, 0.2, 5)
    assert held.sum() == 12
    mean = y[~held].mean()

    def deviations(values: list[float], codes: list[int]) -> dict[int, float]:
        return {
            level: float(np.mean([v for v, c in zip(values, codes, strict=True) if c == level])) for level in set(codes)
        }

    of_first = deviations(list(y[~held] - mean), list(first[~held]))
    left = [v - mean - of_first[c] for v, c in zip(y[~held], first[~held], strict=True)]
    of_second = deviations(left, list(second[~held]))
    expected = [
        mean + of_first.get(a, 0.0) + of_second.get(b, 0.0) for a, b in zip(first[held], second[held], strict=True)
    ]
    np.testing.assert_allclose(averages(y, [first, second], held), expected, atol=1e-12)
