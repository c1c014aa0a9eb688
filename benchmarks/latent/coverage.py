"""How often 95 % prediction intervals of held-out ratings hold them: simulated with known factors, and real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

import ranef
from benchmarks.clicks.real import Unavailable
from benchmarks.latent import splits
from benchmarks.latent.models import alone
from benchmarks.latent.score import FloatArray
from benchmarks.studies.page import Bar, Section, table

USERS, ITEMS, RANK, ROWS = 2_000, 800, 4, 120_000
SEEDS = range(5)
LOW, HIGH = 0.93, 0.97
FORMULA = "y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank={rank})"
METHODS: Mapping[str, Mapping[str, Any]] = {"vb": {"method": "vb"}, "gibbs": {"method": "gibbs"}}
REAL_RANK = 16


def run() -> Section:
    """Simulated for several seeds, and MovieLens-1M once."""
    shares: dict[str, list[float]] = {method: [] for method in METHODS}
    for seed in SEEDS:
        train, test = simulated(seed)
        for method, options in METHODS.items():
            fit = ranef.fit(FORMULA.format(rank=RANK), train, seed=seed, **options)
            shares[method].append(_share(fit, test, "y"))
    bars = [
        Bar(f"share held, {method}, simulated", float(np.mean(held)), LOW, HIGH, 4) for method, held in shares.items()
    ]
    lines = [
        [method, "simulated", f"{np.mean(held):.4f}", f"{min(held):.4f} to {max(held):.4f}"]
        for method, held in shares.items()
    ]
    try:
        split = next(splits.ml1m("random"))
    except Unavailable as reason:
        print(f"real data skipped: {reason}")
    else:
        for method, options in METHODS.items():
            held = _share(ranef.fit(alone(REAL_RANK), split.train, **options), split.test, "rating")
            lines.append([method, f"ml-1m-random, rank {REAL_RANK}", f"{held:.4f}", ""])
    body = [
        f"Simulated: {ROWS:,} rows, {USERS:,} users, {ITEMS:,} items, rank {RANK}, a tenth of the rows held out;",
        f"{len(SEEDS)} seeds. The rank is known to the fit, and nothing else.",
        "",
        *table(["method", "data", "share held", "least and most"], lines),
    ]
    return Section(f"seeds {SEEDS.start} to {SEEDS.stop - 1}", bars, body)


def simulated(seed: int) -> tuple[pa.Table, pa.Table]:
    """Rows of a factorization with biases; levels are unevenly active."""
    random = np.random.default_rng(seed)
    sizes = {"user": USERS, "item": ITEMS}
    codes = {}
    for name, count in sizes.items():
        weights = np.exp(random.normal(size=count))
        codes[name] = random.choice(count, ROWS, p=weights / weights.sum())
    bias = {name: random.normal(size=count) * 0.4 for name, count in sizes.items()}
    vectors = {name: random.normal(size=(count, RANK)) * 0.6 for name, count in sizes.items()}
    y: FloatArray = 3.0 + random.normal(size=ROWS) * 0.8
    y += sum(bias[name][codes[name]] for name in sizes)
    y += np.einsum("nk,nk->n", *(vectors[name][codes[name]] for name in sizes))
    whole = pa.table({"y": y, **codes})
    held = random.permutation(ROWS) < ROWS // 10
    return whole.filter(pa.array(~held)), whole.filter(pa.array(held))


def _share(fit: ranef.Fit, rows: pa.Table, response: str) -> float:
    limits = fit.predict(rows, interval="prediction")
    y = np.asarray(rows[response], dtype=np.float64)
    return float(np.mean((np.asarray(limits["lwr"]) <= y) & (y <= np.asarray(limits["upr"]))))
