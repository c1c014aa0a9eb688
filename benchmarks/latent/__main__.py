"""``python -m benchmarks.latent [NAME ...]``: runs sections of the page and replaces them there."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from benchmarks.clicks.real import Unavailable
from benchmarks.latent import als, choices, coverage, lists, memory, ratings, samples, stages, times, tutorial, words
from benchmarks.studies.page import Section, write

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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.latent", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SECTIONS)}; default all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "LATENT.md")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    for name in asked.names or SECTIONS:
        begun = time.perf_counter()
        try:
            section = SECTIONS[name]()
        except Unavailable as reason:
            print(f"{name} skipped: {reason}", file=sys.stderr)
            continue
        seconds = time.perf_counter() - begun
        write(asked.out, name, section, 1.0, seconds, tuple(SECTIONS), PREFACE)
        print(f"{name}: {seconds:.0f} s")
        for bar in section.bars:
            print("  " + "  ".join(bar.cells()), flush=True)


if __name__ == "__main__":
    main()
