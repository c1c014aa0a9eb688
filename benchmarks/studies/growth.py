"""Does time stay proportional to the rows when the levels grow with them?"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.alone import HERE, fit_alone
from benchmarks.studies.large import case, parquet
from benchmarks.studies.page import Bar, Section, table

CASES = ("crossed-1m", "crossed-5m", "crossed-25m")
REPEATS = 3
SEED = 1
MOST = 1.5


def run(share: float) -> Section:
    """Time every size in one process after a warm-up, and as a process of its own; sizes take turns."""
    with ExitStack() as stack:
        paths = [stack.enter_context(parquet()) for _ in CASES]
        made = [case(name, share, SEED, path) for name, path in zip(CASES, paths, strict=True)]
        rows = [one.rows for one in made]
        formula = made[0].formula
        command = [sys.executable, "-m", "benchmarks.studies.growth", formula, *map(str, paths)]
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)
        inside: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
        alone = [[fit_alone(formula, path, {"solver": "stochastic"}) for path in paths] for _ in range(REPEATS)]
    fit = [statistics.median(turn[i] for turn in inside) for i in range(len(CASES))]
    whole = [statistics.median(turn[i]["process"] for turn in alone) for i in range(len(CASES))]
    found = alone[0]
    lines = []
    for i, count in enumerate(rows):
        levels = ", ".join(f"{group} {size:,}" for group, size in found[i]["groups"].items())
        cells = [f"{count:,}", levels, found[i]["iterations"], found[i]["probes"]]
        cells += [f"{fit[i]:.2f}", f"{1e6 * fit[i] / count:.2f}", f"{whole[i]:.2f}", f"{1e6 * whole[i] / count:.2f}"]
        lines.append([*cells, f"{max(turn[i]['peak'] for turn in alone):.0f}"])
    heads = ["rows", "levels", "evaluations", "probes", "fit, s", "us a row", "process, s", "us a row", "peak MiB"]
    growth = f"time a row, {rows[-1]:,} rows over {rows[0]:,}"
    bars = [
        Bar(f"{growth}: fit", fit[-1] / rows[-1] / (fit[0] / rows[0]), -float("inf"), MOST),
        Bar(f"{growth}: process", whole[-1] / rows[-1] / (whole[0] / rows[0]), -float("inf"), MOST),
    ]
    body = [
        f"`{formula}`, from Parquet. `fit`: `ranef.fit` and its summary in a process that has fitted the smallest size",
        "before; `process`: a new one from its start to its end, kernels compiled before, Python and imports included.",
        f"Medians of {REPEATS}; the sizes take turns.",
        "",
        *table(heads, lines),
    ]
    return Section(f"data seed {SEED}", bars, body)


def _times(formula: str, paths: Sequence[str]) -> list[list[float]]:
    import ranef

    def seconds(path: str) -> float:
        begun = time.perf_counter()
        str(ranef.fit(formula, Path(path), solver="stochastic"))
        return time.perf_counter() - begun

    seconds(paths[0])
    return [[seconds(path) for path in paths] for _ in range(REPEATS)]


if __name__ == "__main__":
    print(json.dumps(_times(sys.argv[1], sys.argv[2:])))
