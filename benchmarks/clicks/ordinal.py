"""MovieLens-1M's stars as an ordinal response, against a Gaussian fit whose density is cut into stars."""

from __future__ import annotations

import statistics

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from scipy import special

import ranef
from benchmarks.alone import fit_alone
from benchmarks.clicks.assistments import LIMIT_95
from benchmarks.clicks.real import real
from benchmarks.studies.page import Bar, Section, table

FloatArray = npt.NDArray[np.float64]

FORMULA = "rating ~ 1 + (1 | user_id) + (1 | item_id)"
STARS = np.arange(1, 6)
REPEATS = 3
MOST_SECONDS = 15.0


def run() -> Section:
    """Fit all rows for the time, and nine tenths of them for the test."""
    path = real("ml-1m/ratings.parquet")
    # the first one compiles
    fits = [fit_alone(FORMULA, path, {"family": "ordinal"}) for _ in range(1 + REPEATS)][1:]
    one, seconds = fits[0], statistics.median(fit["wall"] for fit in fits)
    whole = pq.read_table(path, columns=["rating", "user_id", "item_id"])
    is_test = np.zeros(whole.num_rows, bool)
    is_test[np.random.default_rng(42).permutation(whole.num_rows)[: whole.num_rows // 10]] = True
    train, test = whole.filter(~is_test), whole.filter(is_test)
    y = np.asarray(test["rating"])
    stars = ranef.fit(FORMULA, train, family="ordinal").predict(test, type="probabilities")
    numbers = ranef.fit(FORMULA, train).predict(test, interval="prediction")
    chances = {
        "ordinal": np.column_stack([np.asarray(column) for column in stars.columns]),
        "Gaussian, cut into stars": cut(*(np.asarray(numbers[name]) for name in ("fit", "upr"))),
    }
    shares = np.bincount(np.asarray(train["rating"]), minlength=6)[1:] / train.num_rows
    chances["shares of the stars"] = np.broadcast_to(shares, (len(y), len(STARS)))
    losses = {name: -np.log(p[np.arange(len(y)), y - 1]) for name, p in chances.items()}
    mean = {name: float(loss.mean()) for name, loss in losses.items()}
    lines = []
    for name, p in chances.items():
        expected = p @ STARS
        rmse = float(np.sqrt(np.mean((expected - y) ** 2)))
        lines.append([name, f"{mean[name]:.5f}", f"{rmse:.4f}", f"{float(np.mean(np.argmax(p, axis=1) + 1 == y)):.4f}"])
    difference = losses["ordinal"] - losses["Gaussian, cut into stars"]
    bars = [
        Bar("seconds", seconds, -float("inf"), MOST_SECONDS),
        Bar("test log loss", mean["ordinal"], -float("inf"), mean["Gaussian, cut into stars"], 5),
    ]
    estimates = [[row["threshold"], f"{row['estimate']:.5f}", f"{row['se']:.5f}", ""] for row in one["thresholds"]]
    for row in one["varcorr"]:
        estimates.append([f"variance of {row['grp']}", f"{row['vcov']:.5f}", f"{row['se']:.5f}", f"{row['mcse']:.5f}"])
    body = [
        f"`{FORMULA}`, family ordinal (logit, flexible thresholds), Laplace; {one['nobs']:,} rows,",
        f"{one['solver']} solver, {one['iterations']} evaluations, {one['probes']} probes; median of {REPEATS} "
        f"processes, from the import to the printed summary of the Parquet file; peak {one['peak']:.0f} MiB.",
        "",
        *table(["", "estimate", "se", "mcse"], estimates),
        f"Test: {len(y):,} rows at random, fits from the {train.num_rows:,} others. The Gaussian fit's probability",
        "of k stars is what its predictive normal distribution (that of a new rating) has between k - 1/2 and k + 1/2,",
        "the ends open. The ordinal probabilities are those at the conditional modes. Difference of the log losses "
        f"{difference.mean():+.5f},",
        f"standard error {difference.std() / np.sqrt(len(y)):.5f}.",
        "",
        *table(["", "log loss", "RMSE of the expected stars", "share of exact hits"], lines),
    ]
    return Section("split seed 42, probes' seed 0", bars, body)


def cut(mean: FloatArray, upper: FloatArray) -> FloatArray:
    """Probability of every star, shape (rows, stars), from a normal prediction and its upper 95 % limit."""
    sd = (upper - mean) / LIMIT_95
    below = special.ndtr((STARS[:-1] + 0.5 - mean[:, None]) / sd[:, None])
    return np.diff(below, axis=1, prepend=0.0, append=1.0)
