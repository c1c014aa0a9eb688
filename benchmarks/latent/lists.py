"""Lists for users who were not in the fit: implicit feedback beside EASE, popularity and what was published."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import ranef
from benchmarks.clicks.real import real
from benchmarks.studies.page import Bar, Section, table
from ranef.evaluate import Ease, Popularity, evaluate_ranking, ranking_data

METRICS = ("ndcg@100", "recall@20", "recall@50")
OURS = "ranef"
FORMULA = "1 ~ latent(user_id, item_id, rank = 'auto')"


@dataclass(frozen=True)
class Problem:
    """A data set.

    Attributes
    ----------
    penalty : float
        Of EASE, chosen on the validation users for the publication.
    least : tuple of float
        NDCG@100 and Recall@20 to be reached: those of the best iALS.
    published : mapping of str to tuple of float
        The three metrics of others on the same users.
    remark : str
    """

    penalty: float
    least: tuple[float, float]
    published: Mapping[str, tuple[float, float, float]]
    remark: str = ""


PROBLEMS: Mapping[str, Problem] = {
    "ml-1m-implicit": Problem(
        700.0,
        (0.430, 0.368),
        {
            "irspack iALS, 128 factors": (0.4301, 0.3684, 0.4853),
            "implicit ALS, 64 factors": (0.4238, 0.3555, 0.4822),
        },
    ),
    "citeulike-a-implicit": Problem(
        20.0,
        (0.356, 0.379),
        {
            "implicit ALS, 512 factors": (0.3559, 0.3790, 0.5052),
            "irspack iALS, 512 factors": (0.3531, 0.3743, 0.5011),
        },
        "EASE leads at the head of the list: its weights between items are of full rank, and rank is what lacks here "
        "(the published validation NDCG@100 rose from 0.25 at 64 factors to 0.355 at 512, and was still rising); "
        "further down, in Recall@50, it does not.",
    ),
}


def run(name: str) -> Section:
    """Fit the training users, fold the test users in, rank all items."""
    problem = PROBLEMS[name]
    pairs = pq.read_table(real(f"splits/{name}.parquet"))
    train = _part(pairs, "train")
    data = ranking_data(train, _part(pairs, "test_out"), "user_id", "item_id", _part(pairs, "test_in"))
    begun = time.perf_counter()
    fit = ranef.fit(FORMULA, train, family="implicit")
    seconds = time.perf_counter() - begun
    baselines = (Popularity(), Ease(problem.penalty))
    found = evaluate_ranking({OURS: fit}, data, metrics=METRICS, baselines=baselines, library="dict")
    bars = []
    for metric, least in zip(METRICS, problem.least, strict=False):
        ours = found.estimate(metric, OURS)
        best = max(values[METRICS.index(metric)] for values in problem.published.values())
        bars.append(Bar(f"{metric}, the goal", ours.value, least, float("inf"), 4))
        bars.append(
            Bar(f"{metric}: standard errors behind the best peer", (best - ours.value) / ours.se, -float("inf"), 2.0)
        )
    lines = []
    for model in found.models:
        estimates = [found.estimate(metric, model) for metric in METRICS]
        behind = found.difference("ndcg@100", OURS, model)
        against = "" if model == OURS else f"{behind.value:+.4f} ({behind.se:.4f})"
        lines.append([model, *(f"{one.value:.4f} ({one.se:.4f})" for one in estimates), against])
    lines += [
        [f"{what} (published)", *(f"{one:.4f}" for one in values), ""] for what, values in problem.published.items()
    ]
    body = [
        f"{train.num_rows:,} training pairs; {found.rows:,} test users, folded in from what is known of them;",
        f"all {len(data.items):,} items are ranked. `{FORMULA}`, family implicit, fitted in {seconds:.1f} s:",
        f"it chose on users of its own among the training pairs: rank {fit.rank}, unobserved {fit.unobserved:.4g},",
        f"penalty {fit.penalty:.4g}, exponent {fit.exponent:g}. EASE has the penalty {problem.penalty:g}. Standard",
        "errors are over users; the last column is ranef's NDCG@100 less that of the line, paired. The published",
        "lists are not at hand, so that ranef's own standard error measures how far it is behind.",
        "",
        *table(["", *METRICS, "difference (se)"], lines),
        *([problem.remark] if problem.remark else []),
    ]
    return Section("seed 0", bars, body)


def _part(pairs: pa.Table, name: str) -> pa.Table:
    return pairs.filter(pc.equal(pairs["part"].cast(pa.string()), name)).drop(["part"])
