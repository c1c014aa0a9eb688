"""Diamond's comparison: covariances from a sample, by lme4 or by ranef, then all rows with these covariances given."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

import ranef
from benchmarks.clicks.peer import glmer
from benchmarks.clicks.simulated import SD, clicks
from benchmarks.studies.large import parquet
from benchmarks.studies.page import Bar, Section, table
from ranef.result.document import document

# rows, and the seconds that Diamond's author reports for lme4
SAMPLES = {100_000: 75, 500_000: 1_060, 1_000_000: 3_000}
PATIENCE = 300.0
MOST_OFF = 3.0


def run() -> Section:
    """Samples of whole users, and all rows."""
    lines, bars = [], []
    with parquet() as path:
        simulated = clicks(path)
        samples = whole_users(path, list(SAMPLES))
        # compiles
        ranef.fit(simulated.formula, samples[0], family="bernoulli").refit(samples[0], covariance="keep")
        peer: float | None = 0.0
        for (rows, reported), sample in zip(SAMPLES.items(), samples, strict=True):
            # it grows faster than the rows: not begun where a smaller sample shows that it would take too long
            begun = time.perf_counter()
            fit = ranef.fit(simulated.formula, sample, family="bernoulli")
            learned = time.perf_counter() - begun
            begun = time.perf_counter()
            everything = fit.refit(path, covariance="keep")
            given = time.perf_counter() - begun
            theirs = "not run"
            if peer is not None and peer * rows / next(iter(SAMPLES)) < PATIENCE:
                found = glmer(sample, "y", tuple(SD), PATIENCE)
                peer = None if found is None else found.seconds
                theirs = f"over {PATIENCE:.0f}" if found is None else f"{found.seconds:.0f}"
            told = document(fit)
            off = {row["grp"]: (row["vcov"] - SD[row["grp"]] ** 2) / row["se"] for row in told["varcorr"]}
            levels = [f"{told['groups'][group]:,}" for group in SD]
            estimates = [f"{row['vcov']:.4f} ({row['se']:.4f})" for row in told["varcorr"]]
            near = [f"{_correlation(everything, simulated.truth.effects[group][:, 0], group):.4f}" for group in SD]
            cells = [f"{sample.num_rows:,}", *levels, str(reported), theirs, f"{learned:.1f}", told["solver"]]
            lines.append([*cells, *estimates, f"{given:.1f}", f"{everything.history[-1].gradient:.0e}", *near])
            bars.append(
                Bar(
                    f"{rows:,} rows: largest |estimate - truth| / se",
                    max(map(abs, off.values())),
                    -float("inf"),
                    MOST_OFF,
                )
            )
    heads = ["rows", *(f"{group}s" for group in SD), "lme4, Diamond's author", "lme4", "ranef", "solver"]
    heads += [*(f"{group} (se)" for group in SD), "all rows", "gradient", *(f"r, {group}" for group in SD)]
    body = [
        f"`{simulated.formula}`, family bernoulli, Laplace; {simulated.rows:,} simulated rows at the size of",
        "MovieLens-20M, samples of whole users. Times in seconds: lme4's as Diamond's author reports them (another",
        f"machine, other rows), lme4's here, once and where it takes less than {PATIENCE:.0f} s (not run where",
        "a smaller sample shows that it would not), ranef's on the same table in memory. Then all rows, from Parquet,",
        "with the sample's covariances given:",
        '`fit.refit(path, covariance="keep")`; the gradient\'s norm is of that without random effects, `r` the',
        "correlation of all coefficients with the true ones.",
        "",
        *table(heads, lines),
    ]
    return Section("data seed 1, users of the samples by their numbers, probes' seed 0", bars, body)


def whole_users(path: Path, sizes: list[int]) -> list[pa.Table]:
    """The rows of the first users that have at least so many together; which numbers users have is random."""
    user = np.asarray(pq.read_table(path, columns=["user"])["user"])
    total = np.cumsum(np.bincount(user))
    users = [int(np.searchsorted(total, size)) + 1 for size in sizes]
    largest = pq.read_table(path, filters=[("user", "<", users[-1])])
    return [largest.filter(np.asarray(largest["user"]) < count) for count in users]


def _correlation(fit: ranef.Fit, truth: npt.NDArray[np.float64], group: str) -> float:
    effects = fit.ranef(group)
    found = np.asarray(effects[effects.column_names[1]] if isinstance(effects, pa.Table) else effects.iloc[:, 1])
    level = np.asarray(effects["level"])
    return float(np.corrcoef(found, truth[level])[0, 1])
