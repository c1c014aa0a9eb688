"""ranef alone at the size of a recommender: from a Parquet file to the printed summary, each fit in its own process.

    python -m benchmarks.scale [--out benchmarks/SCALE.md] [--only NAME ...]

Rows are simulated with known truth into a temporary folder; the report tells how far the estimates are from it. Real
data are read from the folder that the environment variable RANEF_TEST_DATA names. Cases that are not run stay as they
are in the page.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.alone import fit_alone
from benchmarks.report import processor
from benchmarks.truth import covariances_of, distances
from ranef import data

CROSSED = {"sd": {"user": 0.45, "item": 0.6}, "residual_sd": 0.87}
CASES: dict[str, dict[str, Any]] = {
    "crossed-1m": {"rows": 1_000_000, "groups": {"user": 6_500, "item": 2_360}, **CROSSED},
    "crossed-5m": {"rows": 5_000_000, "groups": {"user": 32_500, "item": 11_800}, **CROSSED},
    "crossed-25m": {"rows": 25_000_000, "groups": {"user": 162_541, "item": 59_047}, **CROSSED},
    "slope-10m": {
        "rows": 10_000_000,
        "groups": {"user": 100_000, "item": 20_000},
        "sd": {"user": 0.5, "item": 0.6},
        "slopes": {"user": 0.3},
        "correlation": {"user": 0.3},
        "fixed": {"(Intercept)": 1.0, "x": 0.5},
    },
    "three-5m": {
        "rows": 5_000_000,
        "groups": {"a": 100_000, "b": 20_000, "c": 5_000},
        "sd": {"a": 0.5, "b": 0.6, "c": 0.4},
    },
    "nested-3m": {
        "rows": 3_000_000,
        "groups": {"c": 100_000, "b": 10_000, "a": 1_000},
        "nested": {"c": "b", "b": "a"},
        "sd": {"a": 0.5, "b": 0.6, "c": 0.4},
    },
}
# ratings with many rare levels, from the folder of real data
REAL = {
    "goodbooks": ("goodbooks/ratings.parquet", "rating ~ 1 + (1 | user_id) + (1 | item_id)"),
    "book-crossing": ("book-crossing/ratings.parquet", "rating ~ 1 + (1 | user_id) + (1 | item_id)"),
}


def main() -> None:
    """Simulate, fit and report every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("SCALE.md"))
    parser.add_argument("--only", nargs="*", default=[*CASES, *REAL])
    options = parser.parse_args()
    rows = _rows_of(options.out)
    for name in options.only:
        row = _real(name) if name in REAL else _simulated(name)
        if row is not None:
            rows[name] = row
            print(row, flush=True)
    lines = [
        "# ranef at scale",
        "",
        f"Last run {date.today()}, {processor()}. One process a fit: reading Parquet, encoding, fitting, printing;",
        "kernels compiled. Rows are simulated with known truth, but for goodbooks and book-crossing.",
        "",
        "`off` is the largest |estimate - truth| / SE over the covariance parameters, `mcse` the largest Monte-Carlo",
        "error over SE. Made by `python -m benchmarks.scale`.",
        "",
        "| case | rows | formula | levels | solver | steps | seconds | peak MiB | off | mcse | log-likelihood error |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(rows[name] for name in (*CASES, *REAL) if name in rows),
    ]
    options.out.write_text("\n".join(lines) + "\n")


def _rows_of(page: Path) -> dict[str, str]:
    """The rows of an earlier page by case."""
    lines = page.read_text().splitlines() if page.exists() else []
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}
    return {name: row for name, row in rows.items() if name in CASES or name in REAL}


def _real(name: str) -> str | None:
    """The stochastic solver on real data; None where the data are absent."""
    file, formula = REAL[name]
    path = Path(os.environ.get("RANEF_TEST_DATA", "absent")) / file
    if not path.exists():
        print(f"{name} skipped: needs {file} in the folder that RANEF_TEST_DATA names", flush=True)
        return None
    found = fit_alone(formula, path, {"solver": "stochastic"})
    return _cells(name, found, "", max(row["mcse"] / row["se"] for row in found["varcorr"]))


def _simulated(name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        simulated = data.simulate(**CASES[name], seed=1, path=path)
        return _row(name, simulated, fit_alone(simulated.formula, path))


def _row(name: str, simulated: data.Simulated, found: dict[str, Any]) -> str:
    rows = distances(found["varcorr"], covariances_of(simulated.truth))
    return _cells(name, found, f"{max(abs(row.off) for row in rows):.1f}", max(row.noise for row in rows))


def _cells(name: str, found: dict[str, Any], off: str, noise: float) -> str:
    levels = ", ".join(f"{group} {count:,}" for group, count in found["groups"].items())
    cells = [name, f"{found['nobs']:,}", f"`{found['formula']}`", levels, found["solver"], found["iterations"]]
    cells += [f"{found['wall']:.1f}", f"{found['peak']:.0f}", off, f"{noise:.3f}", f"{found['loglik_mcse']:.2f}"]
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
