"""``python -m benchmarks.latent [NAME ...]``: runs sections of the page and replaces them there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.latent import als, choices, coverage, lists, memory, ratings, samples, stages, times, tutorial, words
from benchmarks.studies.page import Section
from benchmarks.studies.sections import run_sections

SECTIONS: Mapping[str, Callable[[], Section]] = {
    **{name: partial(ratings.run, name) for name in ratings.PROBLEMS},
    **{f"{name}-choices": partial(choices.run, name) for name in choices.CANDIDATES},
    **{name: partial(lists.run, name) for name in lists.PROBLEMS},
    "times": times.run,
    "tutorial": tutorial.run,
    "tutorial-ranks": tutorial.ranks,
    "two-stages": stages.run,
    "words": words.run,
    "coverage": coverage.run,
    "samples": samples.run,
    **{f"als-{rank}": partial(als.run, rank) for rank in als.LEAST},
    "memory": memory.run,
}
PREFACE = """\
# Latent factors

Made by `python -m benchmarks.latent`; not edited by hand. Every section was run when it says. Real data and the fixed
splits are read from the folder that the environment variable RANEF_TEST_DATA names; peers run in the interpreter that
RANEF_PEERS_PYTHON names, and where RANEF_PEERS_KEEP names a folder predictions, ranef's too, and simulated data are
kept there: an interrupted run goes on.
Ranks and other choices are from the training rows, or from what was published on them.
"""

if __name__ == "__main__":
    run_sections("benchmarks.latent", "LATENT.md", SECTIONS, PREFACE)
