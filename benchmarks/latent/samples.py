"""Gibbs draws a second on MovieLens-1M at rank 32: ranef beside myFM, and the error of what was drawn."""

from __future__ import annotations

import time

from benchmarks.latent import peers, splits
from benchmarks.latent.models import alone, fitted, predicted
from benchmarks.latent.score import difference, rmse
from benchmarks.studies.page import Bar, Section, table

RANK = 32
FORMULA = alone(RANK)
FEW, MANY = 6, 36
LEAST_FACTOR = 5.0


def run() -> Section:
    """Seconds of many draws less those of few are those of the draws between them, without reading and starting."""
    split = next(splits.ml1m("random"))
    ours, theirs = {}, {}
    for draws in (FEW, MANY):
        begun = time.perf_counter()
        fit = fitted(FORMULA, split, {"method": "gibbs", "warmup": draws - draws // 3, "draws": draws // 3})
        ours[draws] = time.perf_counter() - begun
        theirs[draws] = peers.myfm(split, ("ids",), RANK, draws, draws // 3)
    found = predicted(fit, split)
    rate = (MANY - FEW) / (ours[MANY] - ours[FEW])
    rate_of_peer = (MANY - FEW) / (theirs[MANY].seconds - theirs[FEW].seconds)
    errors = rmse(split.y, found), rmse(split.y, theirs[MANY].predicted)
    against = difference(split.y, found, theirs[MANY].predicted)
    bars = [
        Bar("draws a second, of myFM's", rate / rate_of_peer, LEAST_FACTOR, float("inf"), 1),
        Bar("clipped RMSE", errors[0], -float("inf"), errors[1], 4),
    ]
    lines = [
        ["ranef", f"{rate:.2f}", f"{ours[MANY]:.1f}", f"{errors[0]:.4f}"],
        ["myFM", f"{rate_of_peer:.2f}", f"{theirs[MANY].seconds:.1f}", f"{errors[1]:.4f}"],
    ]
    body = [
        f"`{FORMULA}`; ranef with all threads, one chain; myFM has one thread. {MANY} draws, the last third kept.",
        f"Difference of the RMSE {against}, with its paired standard error.",
        "",
        *table(["", "draws a second", f"seconds of {MANY} draws", "clipped RMSE"], lines),
    ]
    return Section("seed 0", bars, body)
