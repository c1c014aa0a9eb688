"""Diamond's comparison: variances learned on a sample of the users, then coefficients for everybody on all rows.

    python -m benchmarks.diamond [--out benchmarks/DIAMOND.md] [--rows 2e7] [--samples 1e5 5e5 1e6] [--lme4 1e5]

A sample holds all rows of some users. lme4 fits samples of the sizes that are named, if R has it; it takes minutes from
half a million rows on. Each fit of ranef has its own process, from a Parquet file to the printed summary.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.alone import fit_alone
from benchmarks.report import processor
from ranef import data

USERS, ITEMS, ALL = 138_493, 26_744, 20_000_000
SD = {"user": 0.8, "item": 1.0}
FORMULA = "y ~ 1 + (1 | user) + (1 | item)"
# of the fits that are only told of variances: Newton's method, and Diamond's bound
SOLVERS = ("auto", "bound")


def main() -> None:
    """Simulate, fit samples, fit everything, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("DIAMOND.md"))
    parser.add_argument("--rows", type=float, default=ALL)
    parser.add_argument("--samples", type=float, nargs="*", default=[1e5, 5e5, 1e6])
    parser.add_argument("--lme4", type=float, nargs="*", default=[1e5])
    options = parser.parse_args()
    rows, share = int(options.rows), options.rows / ALL
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        groups = {"user": round(USERS * share), "item": round(ITEMS * share)}
        data.simulate(
            rows, groups, sd=SD, fixed={"(Intercept)": 0.3}, activity={"user": 1.0, "item": 1.5},
            family="bernoulli", seed=1, path=path,
        )  # fmt: skip
        samples = [_sample(path, groups["user"], int(size), size in options.lme4) for size in options.samples]
        given = samples[-1]["varcorr"]
        everything = [_everything(path, given, solver) for solver in SOLVERS]
    options.out.write_text("\n".join(_page(rows, groups, samples, everything)))


def _sample(path: Path, users: int, size: int, with_lme4: bool) -> dict[str, Any]:
    """Learn the variances on the rows of some users."""
    # ids are random, so that the first ones are a sample
    table = pq.read_table(path, filters=pc.field("user") < round(users * size / pq.read_metadata(path).num_rows))
    own = path.with_name(f"sample-{size}.parquet")
    pq.write_table(table, own)
    found = fit_alone(FORMULA, own, {"family": "bernoulli"})
    return {"rows": len(table), **found, "lme4": _lme4(table, own.with_suffix(".csv")) if with_lme4 else None}


def _lme4(table: pa.Table, path: Path) -> tuple[float, dict[str, float]]:
    """Seconds and standard deviations of lme4's glmer."""
    pyarrow.csv.write_csv(table, path)
    command = ["Rscript", str(Path(__file__).with_name("glmer.R")), str(path), FORMULA]
    lines = [
        line.split("\t")
        for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    ]
    seconds = next(float(line[1]) for line in lines if line[0] == "seconds")
    return seconds, {line[1]: float(line[2]) for line in lines if line[0] == "sd"}


def _everything(path: Path, varcorr: list[dict[str, Any]], solver: str) -> dict[str, Any]:
    """All rows, told of the variances."""
    given = {name: [row[name] for row in varcorr] for name in ("grp", "var1", "var2", "vcov")}
    return fit_alone(FORMULA, path, {"family": "bernoulli", "covariance": given, "solver": solver})


def _sds(rows: list[dict[str, Any]]) -> str:
    found = {row["grp"]: row["sdcor"] for row in rows}
    return f"{found['user']:.4f}, {found['item']:.4f}"


def _page(
    rows: int, groups: dict[str, int], samples: list[dict[str, Any]], everything: list[dict[str, Any]]
) -> list[str]:
    levels = " x ".join(f"{count:,}" for count in groups.values())
    lines = [
        "# Diamond's comparison",
        "",
        f"{date.today()}, {processor()}. `{FORMULA}`, logit, {rows:,} simulated rows, {levels} levels; true",
        f"standard deviations {SD['user']} and {SD['item']}. Samples hold all rows of some users. Seconds from Parquet",
        "to the printed summary; lme4's are those of `glmer` alone. Made by `python -m benchmarks.diamond`.",
        "",
        "| variances learned on | ranef, s | sd of users, items | lme4, s | sd of users, items |",
        "|---|---|---|---|---|",
    ]
    for one in samples:
        lme4 = one["lme4"]
        other = f"{lme4[0]:.1f} | {lme4[1]['user']:.4f}, {lme4[1]['item']:.4f}" if lme4 else "- | -"
        lines.append(f"| {one['rows']:,} rows | {one['wall']:.1f} | {_sds(one['varcorr'])} | {other} |")
    lines += [
        "",
        "Diamond's author reports lme4 at 75, 1,060 and 3,000 s for 100 k, 500 k and 1 M rows of his data.",
        "",
        "| coefficients for given variances, all rows | seconds | steps | norm of the gradient | peak MiB |",
        "|---|---|---|---|---|",
    ]
    for name, found in zip(("Newton's method", "Diamond's bound"), everything, strict=True):
        cells = f"{found['wall']:.1f} | {found['iterations']} | {found['gradient']:.1e} | {found['peak']:,.0f}"
        lines.append(f"| {name} | {cells} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
