"""Folding in: how well users predict whom the fit has not seen, and how long it takes."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import ranef
from benchmarks.clicks.real import real
from benchmarks.studies.page import Bar, Section, table
from ranef.result.fit import Fit

USERS, SEED = 1_000, 0
MOST_SECONDS, MOST_LOSS = 0.5, 1.01
MODELS = {
    "mixed": ("rating ~ 1 + (1 | user_id) + (1 | item_id)", {}),
    "latent, vb": ("rating ~ 1 + (1 | user_id) + (1 | item_id) + latent(user_id, item_id, rank=16)", {}),
    "ordinal": ("rating ~ 1 + (1 | user_id) + (1 | item_id)", {"family": "ordinal", "method": "joint"}),
}
REPEATS = 5

MANY, ROWS_EACH, ITEMS, RANK = 100_000, 20, 1_000, 32
KNOWN = 3_000
MOST_SECONDS_MANY = 20.0


def held_out_users() -> Section:
    """MovieLens-1M: users from half of their ratings, beside a fit that had this half."""
    whole = pq.read_table(real("ml-1m/ratings.parquet"), columns=["user_id", "item_id", "rating"])
    random = np.random.default_rng(SEED)
    user = whole["user_id"].to_numpy()
    chosen = np.isin(user, random.choice(np.unique(user), USERS, replace=False))
    half = random.random(len(user)) < 0.5
    first, second = (whole.filter(pa.array(chosen & part)) for part in (half, ~half))
    train = whole.filter(pa.array(~chosen))
    both = whole.filter(pa.array(~chosen | half))
    lines, bars = [], []
    for name, (formula, options) in MODELS.items():
        fit, refit = _fit(formula, train, options), _fit(formula, both, options)
        seconds, folded = _folded(fit, first, REPEATS)
        errors = [_error(one, second) for one in (fit, folded, refit)]
        lines.append([name, f"{seconds:.2f}", f"{refit.seconds:.1f}", *(f"{one:.4f}" for one in errors)])
        bars.append(Bar(f"{name}: seconds", seconds, -float("inf"), MOST_SECONDS))
        bars.append(Bar(f"{name}: RMSE over that of a refit", errors[1] / errors[2], -float("inf"), MOST_LOSS, 4))
    body = [
        f"{USERS:,} users are left out of the fit and folded in from half of their ratings, {first.num_rows:,} rows; "
        f"RMSE on the other half, {second.num_rows:,}",
        f"rows. Seconds: the fastest of {REPEATS} calls of `fold_in`, reading the Arrow table included. A refit has "
        "the first half among its rows; its seconds are its own.",
        "",
        *table(["", "seconds", "refit", "RMSE: population", "folded in", "refit"], lines),
    ]
    return Section(f"seed {SEED}", bars, body)


def many_users() -> Section:
    """Simulated users by the hundred thousand."""
    lines, bars = [], []
    for name, formula, options in (
        (f"latent, rank {RANK}, vb", f"y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank={RANK})", {}),
        ("clicks, (1 + x | user)", "click ~ x + (1 + x | user) + (1 | item)", {"family": "bernoulli"}),
    ):
        rows = _simulated(KNOWN + MANY)
        known = rows.filter(pa.array(rows["user"].to_numpy() < KNOWN))
        new = rows.filter(pa.array(rows["user"].to_numpy() >= KNOWN))
        fit = _fit(formula, known, {**options, "max_iterations": 30})
        seconds, folded = _folded(fit, new, 1)
        field = "click" if "click" in formula else "y"
        scale = np.asarray(folded.predict(new, type="link"))
        found = float(np.corrcoef(scale, new[f"eta_{field}"].to_numpy())[0, 1])
        lines.append([name, field, f"{new.num_rows:,}", f"{seconds:.1f}", f"{found:.3f}"])
        bars.append(Bar(f"{name}: seconds", seconds, -float("inf"), MOST_SECONDS_MANY, 1))
    body = [
        f"{MANY:,} simulated users with {ROWS_EACH} rows each, folded in to a fit of {KNOWN:,} others, {ITEMS:,} "
        "items. Seconds of one call of `fold_in`,",
        "reading included; the last column is the correlation of the linear predictors with the true ones.",
        "",
        *table(["", "response", "rows", "seconds", "correlation"], lines),
    ]
    return Section(f"seed {SEED}", bars, body)


def _fit(formula: str, rows: pa.Table, options: dict[str, Any]) -> Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ranef.fit(formula, rows, **options)


def _folded(fit: Fit, rows: pa.Table, repeats: int) -> tuple[float, Fit]:
    seconds = []
    with warnings.catch_warnings():
        # items that no other user has rated
        warnings.simplefilter("ignore")
        for _ in range(repeats):
            begun = time.perf_counter()
            folded = fit.fold_in(rows)
            seconds.append(time.perf_counter() - begun)
    return min(seconds), folded


def _error(fit: Fit, rows: pa.Table) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fit.predict(rows)
    if isinstance(found, pa.Table):
        # the mean of an ordinal response's categories, which are the ratings
        values = np.array([float(name) for name in found.column_names])
        found = np.column_stack([found[name].to_numpy() for name in found.column_names]) @ values
    return float(np.sqrt(np.mean((np.asarray(found) - rows["rating"].to_numpy()) ** 2)))


def _simulated(users: int) -> pa.Table:
    random = np.random.default_rng(SEED)
    user = np.repeat(np.arange(users), ROWS_EACH)
    item = random.integers(0, ITEMS, len(user))
    p, q = (0.4 * random.standard_normal((n, RANK)).astype(np.float32) for n in (users, ITEMS))
    x, slope = random.standard_normal(len(user)), 0.5 * random.standard_normal(users)
    eta = 0.5 * random.standard_normal(users)[user] + 0.5 * random.standard_normal(ITEMS)[item]
    with_x = eta + (0.3 + slope[user]) * x
    products = np.einsum("nk,nk->n", p[user], q[item])
    return pa.table(
        {
            "user": user,
            "item": item,
            "x": x,
            "eta_y": eta + products,
            "eta_click": with_x,
            "y": eta + products + 0.5 * random.standard_normal(len(user)),
            "click": (with_x + random.logistic(size=len(user)) > 0).astype(np.int8),
        }
    )
