"""What terms of time and attributes add to a mixed model: the last fifth of each user's ratings of MovieLens-1M."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

import ranef
from benchmarks.latent import splits
from benchmarks.latent.score import FloatArray, difference, rmse
from benchmarks.studies.page import Bar, Section, table

BIASES = "rating ~ 1 + (1 | user_id) + (1 | item_id)"
WALK = "(1 | rw(week(timestamp, unit = 's')))"
MONTHS = "(1 | user_id:month(timestamp, unit = 's'))"
MODELS: Mapping[str, str] = {
    "biases": BIASES,
    "attributes": f"{BIASES} + (1 | age_group) + (1 | gender) + (1 | occupation) + (1 | bag(genres)) + (1 | period)",
    "weeks": f"{BIASES} + (1 | week(timestamp, unit = 's'))",
    "walk of weeks": f"{BIASES} + {WALK}",
    "months of a user": f"{BIASES} + {MONTHS}",
    "walk of weeks, months of a user": f"{BIASES} + {WALK} + {MONTHS}",
}
BEST = "walk of weeks, months of a user"
RIDGE = 0.9172  # both penalties from a grid


def run() -> Section:
    """Fit each to the training rows and compare on the test rows."""
    split = next(splits.ml1m("time"))
    tables = {"user_id": split.users, "item_id": split.items}
    predicted: dict[str, FloatArray] = {}
    lines = []
    for name, formula in MODELS.items():
        begun = time.perf_counter()
        fit = ranef.fit(formula, split.train, tables=tables)
        seconds = time.perf_counter() - begun
        predicted[name] = np.asarray(fit.predict(split.test), dtype=np.float64)
        against = "" if name == "biases" else str(difference(split.y, predicted[name], predicted["biases"]))
        lines.append([name, f"`{formula}`", f"{seconds:.1f}", f"{rmse(split.y, predicted[name]):.4f}", against])
    gain = difference(split.y, predicted[BEST], predicted["biases"])
    bars = [
        Bar("clipped RMSE, biases", rmse(split.y, predicted["biases"]), -float("inf"), RIDGE, 4),
        Bar("paired standard errors that time is better by", -gain.value / gain.se, 2.0, float("inf"), 1),
    ]
    body = [
        f"{split.train.num_rows:,} training and {split.test.num_rows:,} test rows, users 1 to 2999; the bar of the",
        "biases is ridge regression with penalties from a grid. Differences are to the biases, with their paired",
        "standard error. Attributes of users and items are read from tables of their own (`tables=`). Test rows are",
        "later than a user's training rows: a month of a user that is new has the effect of an average one.",
        "",
        *table(["", "formula", "seconds", "clipped RMSE", "difference (se)"], lines),
    ]
    return Section("probes' seed 0", bars, body)
