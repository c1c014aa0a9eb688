"""Ten million rows with a random slope: the truth, the seconds and the memory of three data sets."""

from __future__ import annotations

from benchmarks.alone import fit_alone
from benchmarks.studies.large import case, parquet
from benchmarks.studies.page import Bar, Section, table
from benchmarks.truth import covariances_of, distances

SEEDS = (1, 2, 3)


def run(share: float) -> Section:
    """Simulate and fit each seed."""
    lines, far, seconds, peaks = [], [], [], []
    formula = ""
    for seed in SEEDS:
        with parquet() as path:
            made = case("slope-10m", share, seed, path)
            found = fit_alone(made.formula, path, {"solver": "stochastic"})
        formula = made.formula
        rows = distances(found["varcorr"], covariances_of(made.truth))
        fixed = [(one["estimate"] - made.truth.beta[one["term"]]) / one["se"] for one in found["fixef"]]
        far += [abs(row.off) for row in rows] + [abs(value) for value in fixed]
        seconds.append(found["wall"])
        peaks.append(found["peak"])
        parts = [f"{row.off:+.2f}" for row in rows] + [f"{value:+.2f}" for value in fixed]
        noise = max(row.noise for row in rows)
        state = "yes" if found["converged"] else "no"
        lines.append(
            [seed, *parts, f"{noise:.4f}", state, found["iterations"], f"{seconds[-1]:.1f}", f"{peaks[-1]:.0f}"]
        )
    names = [row.name for row in rows] + [one["term"] for one in found["fixef"]]
    heads = ["seed", *names, "largest mcse/se", "converged", "evaluations", "seconds", "peak MiB"]
    bars = [
        Bar("largest |estimate - truth| / se", max(far), -float("inf"), 3.0),
        Bar("seconds, slowest", max(seconds), -float("inf"), 30.0, 1),
        Bar("peak GiB, largest", max(peaks) / 1024, -float("inf"), 3.0),
    ]
    levels = ", ".join(f"{count:,} of `{group}`" for group, count in found["groups"].items())
    body = [
        f"`{formula}`, {found['nobs']:,} rows, {levels}; from Parquet to the printed summary.",
        "Entries below a parameter are (estimate - truth) / se.",
        "",
        *table(heads, lines),
    ]
    return Section(f"data seeds {SEEDS[0]} to {SEEDS[-1]}", bars, body)
