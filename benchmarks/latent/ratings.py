"""Stars on the fixed splits: latent models beside the mixed model, what was published, and myFM on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.clicks.real import Unavailable
from benchmarks.latent import peers, splits
from benchmarks.latent.models import BIASES, TIMES, alone, everything, measured
from benchmarks.latent.score import FloatArray, difference, rmse
from benchmarks.latent.splits import Split
from benchmarks.studies.page import Bar, Section, table

VB: Mapping[str, Any] = {"method": "vb"}


@dataclass(frozen=True)
class Bars:
    """Largest clipped RMSE: by Gibbs draws with everything, from ratings alone; the most seconds of each fit."""

    everything: float
    alone: float
    gibbs_seconds: float = 600.0
    vb_seconds: float = 60.0
    vb_behind: float = 0.008


@dataclass(frozen=True)
class Chosen:
    """Rank, as `benchmarks.latent.choices` found it on a slice of the training rows, and how long the chains are."""

    rank: int
    warmup: int
    draws: int
    chains: int = 1

    @property
    def options(self) -> Mapping[str, Any]:
        return {"method": "gibbs", "warmup": self.warmup, "draws": self.draws, "chains": self.chains}


@dataclass(frozen=True)
class Problem:
    """A split, or several whose mean RMSE counts.

    Attributes
    ----------
    parts : callable
    alone, everything : Chosen
        For ratings alone; with history and attributes.
    vb : int
        Rank by variational Bayes.
    bars : Bars
    published : mapping of str to float
        Clipped RMSE of others on the same rows.
    peers : mapping of str to arguments of `peers.myfm` after the split
    times : bool
        Whether the rows have times, whose terms are tried too.
    """

    parts: Callable[[], Iterable[Split]]
    alone: Chosen
    everything: Chosen
    vb: int
    bars: Bars
    published: Mapping[str, float]
    peers: Mapping[str, tuple[Sequence[str], int, int, int]]
    times: bool = False


@dataclass
class Parts:
    """One model on all parts: predictions, seconds, and processor seconds of each."""

    predicted: list[FloatArray] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)

    def add(self, predicted: FloatArray, seconds: float, computed: float) -> None:
        self.predicted.append(predicted)
        self.seconds.append(seconds)
        self.computed.append(computed)


EVERYTHING = ("ids", "history", "attributes")
BEST = "myFM Gibbs, history and attributes"
PROBLEMS: Mapping[str, Problem] = {
    "ml-100k": Problem(
        splits.ml100k,
        Chosen(8, 4, 16, 12),
        Chosen(16, 4, 16, 6),
        8,
        Bars(0.878, 0.897),
        {
            "biases, ridge": 0.9409,
            "Surprise SVD (tuned)": 0.9118,
            "cmfrec (tuned, implicit features)": 0.9007,
            "myFM Gibbs, user + item, rank 8": 0.8976,
            "myFM Gibbs, history and attributes, rank 16": 0.8803,
        },
        {BEST: (EVERYTHING, 16, 300, 250), "myFM Gibbs, user + item": (("ids",), 8, 300, 250)},
    ),
    "ml-1m-random": Problem(
        partial(splits.ml1m, "random"),
        Chosen(32, 4, 16, 24),
        Chosen(32, 4, 16, 8),
        16,
        Bars(0.824, 0.835),
        {
            "biases, ridge": 0.9101,
            "Surprise SVD (tuned)": 0.8486,
            "cmfrec (tuned, implicit + side info)": 0.8371,
            "myFM Gibbs, user + item, rank 32": 0.8363,
            "myFM Gibbs, history and attributes, rank 16": 0.8262,
        },
        {BEST: (EVERYTHING, 16, 300, 250), "myFM Gibbs, user + item": (("ids",), 32, 200, 150)},
    ),
    "ml-1m-time": Problem(
        partial(splits.ml1m, "time"),
        Chosen(32, 4, 16, 12),
        Chosen(32, 4, 16, 8),
        8,
        Bars(0.853, 0.8695),
        {
            "biases, ridge": 0.9172,
            "Surprise SVD (tuned)": 0.8815,
            "cmfrec (tuned, implicit features)": 0.8719,
            "myFM Gibbs, user + item, rank 16": 0.8695,
            "myFM Gibbs, history and attributes, rank 16": 0.8555,
        },
        {BEST: (EVERYTHING, 16, 300, 250), "myFM Gibbs, user + item": (("ids",), 16, 300, 250)},
        times=True,
    ),
    "goodbooks": Problem(
        splits.goodbooks,
        Chosen(16, 4, 16, 12),
        Chosen(8, 4, 16, 6),
        8,
        Bars(0.800, 0.8219),
        {
            "biases, ridge": 0.8337,
            "cmfrec (tuned, implicit + side info)": 0.8210,
            "Surprise SVD (tuned)": 0.8219,
            "myFM Gibbs, history and attributes, rank 16": 0.8017,
        },
        {BEST: (EVERYTHING, 16, 200, 150)},
    ),
}


def run(name: str) -> Section:
    """Fit every model to every part, and compare."""
    problem = PROBLEMS[name]
    parts = list(problem.parts())
    models = _models(problem, parts[0])
    found: dict[str, Parts] = {what: Parts() for what in models}
    for part in parts:
        for what, (formula, options) in models.items():
            one = measured(formula, part, options)
            found[what].add(one.predicted, one.seconds, one.computed)
            print(f"{name}, {what}: {rmse(part.y, one.predicted):.4f}, {one.seconds:.0f} s", flush=True)
    of_peers, missing = _of_peers(problem, parts)
    return _section(problem, parts, models, found, of_peers, missing)


def _models(problem: Problem, part: Split) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """Formula and options by name."""
    of_alone, of_everything = problem.alone, problem.everything
    out: dict[str, tuple[str, Mapping[str, Any]]] = {
        "mixed model": (BIASES, {}),
        "vb, ratings alone": (alone(problem.vb), VB),
        "vb, history and attributes": (everything(part, problem.vb), VB),
        "gibbs, ratings alone": (alone(of_alone.rank), of_alone.options),
        "gibbs, history and attributes": (everything(part, of_everything.rank), of_everything.options),
    }
    if problem.times:
        timed = f"{everything(part, of_everything.rank)} + {TIMES}"
        out["gibbs, everything and time"] = timed, of_everything.options
    return out


def _of_peers(problem: Problem, parts: Sequence[Split]) -> tuple[dict[str, Parts], str]:
    """What the peers say on the same rows, or why they cannot."""
    found: dict[str, Parts] = {}
    try:
        for what, arguments in problem.peers.items():
            found[what] = Parts()
            for part in parts:
                said = peers.myfm(part, *arguments)
                found[what].add(said.predicted, said.seconds, said.computed)
    except Unavailable as reason:
        return {}, f"Peers were not run here: {reason}."
    return found, ""


def _section(
    problem: Problem,
    parts: Sequence[Split],
    models: Mapping[str, tuple[str, Mapping[str, Any]]],
    found: Mapping[str, Parts],
    of_peers: Mapping[str, Parts],
    missing: str,
) -> Section:
    scores = {what: _score(parts, one) for what, one in {**found, **of_peers}.items()}
    low = -float("inf")
    most = {
        kind: max(max(one.computed) for what, one in found.items() if what.startswith(kind)) for kind in ("vb", "gibbs")
    }
    behind = max(
        scores[f"vb, {what}"] - scores[f"gibbs, {what}"] for what in ("ratings alone", "history and attributes")
    )
    bars = [
        Bar(
            "clipped RMSE, gibbs, history and attributes",
            scores["gibbs, history and attributes"],
            low,
            problem.bars.everything,
            4,
        ),
        Bar("clipped RMSE, gibbs, ratings alone", scores["gibbs, ratings alone"], low, problem.bars.alone, 4),
        Bar("processor seconds of the slowest gibbs", most["gibbs"], low, problem.bars.gibbs_seconds, 0),
        Bar("processor seconds of the slowest vb", most["vb"], low, problem.bars.vb_seconds, 0),
        Bar("RMSE of vb, of gibbs's", behind, low, problem.bars.vb_behind, 4),
    ]
    y = np.concatenate([part.y for part in parts])
    best = np.concatenate(of_peers[BEST].predicted) if of_peers else None
    if best is not None:
        behind_peer = difference(y, np.concatenate(found["gibbs, history and attributes"].predicted), best)
        bars.append(Bar("paired standard errors behind the best peer", behind_peer.value / behind_peer.se, low, 2.0))
    lines = []
    for what, one in {**found, **of_peers}.items():
        joined = np.concatenate(one.predicted)
        cells = [f"{np.mean(one.seconds):.1f}", f"{np.mean(one.computed):.1f}", f"{scores[what]:.4f}"]
        against = "" if best is None or joined is best or what == BEST else str(difference(y, joined, best))
        lines.append([what, *cells, against])
    lines += [[f"{what} (published)", "", "", f"{value:.4f}", ""] for what, value in problem.published.items()]
    rows = f"{sum(part.train.num_rows for part in parts):,} training and {len(y):,} test rows"
    body = [
        f"{rows}{f' in {len(parts)} folds: means of their RMSE' if len(parts) > 1 else ''}. Seconds are those of the",
        "fit on a machine that others use too; processor seconds are of all its threads together, no less than a fit",
        "alone takes (myFM has one thread); means over folds. The difference is to myFM with history and attributes,",
        "fitted here, with its paired standard error.",
        *([missing] if missing else []),
        "",
        *table(["", "seconds", "processor seconds", "clipped RMSE", "difference (se)"], lines),
        *[f"- {what}: `{formula}`{_told(options)}" for what, (formula, options) in models.items()],
    ]
    return Section("seed 0", bars, body)


def _score(parts: Sequence[Split], one: Parts) -> float:
    return float(np.mean([rmse(part.y, predicted) for part, predicted in zip(parts, one.predicted, strict=True)]))


def _told(options: Mapping[str, Any]) -> str:
    return f", {', '.join(f'{name}={value!r}' for name, value in options.items())}" if options else ""
