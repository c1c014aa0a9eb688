"""Gibbs draws a second on MovieLens-1M at rank 32: ranef beside myFM, and the error of what was drawn."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from benchmarks.latent import peers, splits
from benchmarks.latent.models import alone, fitted, predicted
from benchmarks.latent.score import difference, rmse
from benchmarks.studies.page import Bar, Section, table

RANK = 32
FORMULA = alone(RANK)
WARMUP, DRAWS = 4, 16
# of ranef; a chain is a sweep so many times
FEW, MANY = 2, 10
# of myFM, whose chain is one: all draws, and those that are kept
FEW_OF_PEER, MANY_OF_PEER = (12, 8), (200, 150)
LEAST_FACTOR = 5.0


def run() -> Section:
    """Seconds of many draws less those of few are those of the draws between them, without reading and starting."""
    split = next(splits.ml1m("random"))
    fitted(FORMULA, split, {**_options(1), "draws": 8})  # compiled once
    seconds, computed, theirs = {}, {}, {}
    for chains in (FEW, MANY):
        begun, at = time.perf_counter(), time.process_time()
        fit = fitted(FORMULA, split, _options(chains))
        seconds[chains], computed[chains] = time.perf_counter() - begun, time.process_time() - at
    for draws in (FEW_OF_PEER, MANY_OF_PEER):
        theirs[draws] = peers.myfm(split, ("ids",), RANK, *draws)
    found = predicted(fit, split)
    draws = (MANY - FEW) * (WARMUP + DRAWS)
    rate, rate_computed = draws / (seconds[MANY] - seconds[FEW]), draws / (computed[MANY] - computed[FEW])
    of_peer = theirs[MANY_OF_PEER]
    rate_of_peer = (MANY_OF_PEER[0] - FEW_OF_PEER[0]) / (of_peer.computed - theirs[FEW_OF_PEER].computed)
    errors = rmse(split.y, found), rmse(split.y, of_peer.predicted)
    against = difference(split.y, found, of_peer.predicted)
    bars = [
        Bar("draws a second, of myFM's", rate / rate_of_peer, LEAST_FACTOR, float("inf"), 1),
        Bar("clipped RMSE", errors[0], -float("inf"), errors[1], 4),
    ]
    lines = [
        [f"ranef, {MANY} chains", MANY * (WARMUP + DRAWS), f"{rate:.2f}", f"{rate_computed:.2f}", f"{errors[0]:.4f}"],
        ["myFM", MANY_OF_PEER[0], f"{rate_of_peer:.2f}", f"{rate_of_peer:.2f}", f"{errors[1]:.4f}"],
    ]
    body = [
        f"`{FORMULA}`. Draws are sweeps, those of the warm-up too: of ranef {WARMUP} + {DRAWS} a chain,"
        " of myFM's chain",
        f"the last {MANY_OF_PEER[1]} are kept. ranef has as many threads as there are cores, myFM one, whose seconds",
        "are those that it computed, as on a machine of its own; a processor second is one of all threads together.",
        f"Difference of the RMSE {against}, with its paired standard error.",
        "",
        *table(["", "draws", "draws a second", "draws a processor second", "clipped RMSE"], lines),
    ]
    return Section("seed 0", bars, body)


def _options(chains: int) -> Mapping[str, Any]:
    return {"method": "gibbs", "chains": chains, "warmup": WARMUP, "draws": DRAWS}
