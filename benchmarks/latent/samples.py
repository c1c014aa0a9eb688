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
FEW, MANY = 12, 42
LEAST_FACTOR = 5.0


def run() -> Section:
    """Seconds of many draws less those of few are those of the draws between them, without reading and starting; they
    are those that each process computed, over its threads, so that others on the machine do not count."""
    split = next(splits.ml1m("random"))
    ours, theirs = {}, {}
    fitted(FORMULA, split, _options(FEW))  # compiled once
    for draws in (FEW, MANY):
        begun = time.process_time()
        fit = fitted(FORMULA, split, _options(draws))
        ours[draws] = time.process_time() - begun
        theirs[draws] = peers.myfm(split, ("ids",), RANK, draws, _kept(draws))
    found = predicted(fit, split)
    rate = (MANY - FEW) / (ours[MANY] - ours[FEW])
    rate_of_peer = (MANY - FEW) / (theirs[MANY].computed - theirs[FEW].computed)
    errors = rmse(split.y, found), rmse(split.y, theirs[MANY].predicted)
    against = difference(split.y, found, theirs[MANY].predicted)
    bars = [
        Bar("draws a computed second, of myFM's", rate / rate_of_peer, LEAST_FACTOR, float("inf"), 1),
        Bar("clipped RMSE", errors[0], -float("inf"), errors[1], 4),
    ]
    lines = [
        ["ranef", f"{rate:.2f}", f"{ours[MANY]:.1f}", f"{errors[0]:.4f}"],
        ["myFM", f"{rate_of_peer:.2f}", f"{theirs[MANY].computed:.1f}", f"{errors[1]:.4f}"],
    ]
    body = [
        f"`{FORMULA}`; one chain. {MANY} draws, the last third kept. Seconds are those computed, over all threads:",
        "ranef has as many as there are cores, myFM one.",
        f"Difference of the RMSE {against}, with its paired standard error.",
        "",
        *table(["", "draws a second", f"computed seconds of {MANY} draws", "clipped RMSE"], lines),
    ]
    return Section("seed 0", bars, body)


def _options(draws: int) -> Mapping[str, Any]:
    return {"method": "gibbs", "chains": 1, "warmup": draws - _kept(draws), "draws": _kept(draws)}


def _kept(draws: int) -> int:
    return max(8, draws // 3)
