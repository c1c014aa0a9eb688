"""25 million rows at rank 64: seconds and the peak of memory of one fit in a process of its own."""

from __future__ import annotations

from benchmarks.alone import fit_alone
from benchmarks.studies.large import parquet
from benchmarks.studies.page import Bar, Section, table
from ranef import data

ROWS = 25_000_000
GROUPS = {"user": 162_000, "item": 58_000}
RANK = 64
MOST_BYTES = 4e9


def run() -> Section:
    """Simulate a mixed model, whose factors are noise: what they cost is the same."""
    with parquet() as path:
        made = data.simulate(ROWS, GROUPS, seed=1, path=path)
        formula = f"{made.formula} + latent(user, item, rank={RANK})"
        found = fit_alone(formula, path, {"method": "vb"})
    peak = found["peak"] * 2**20
    bars = [Bar("peak, GB", peak / 1e9, -float("inf"), MOST_BYTES / 1e9)]
    body = [
        f"`{formula}`, vb; {ROWS:,} rows, {', '.join(f'{count:,} {name}s' for name, count in GROUPS.items())}.",
        "",
        *table(
            ["seconds", "sweeps", "peak MiB"], [[f"{found['wall']:.0f}", found["iterations"], f"{found['peak']:.0f}"]]
        ),
    ]
    return Section("data seed 1, fit's seed 0", bars, body)
