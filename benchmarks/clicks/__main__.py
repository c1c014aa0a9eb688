"""``python -m benchmarks.clicks [NAME ...]``: runs sections of the page and replaces them there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.clicks import assistments, binary20m, movielens, ordinal, peers100k
from benchmarks.studies.page import Section
from benchmarks.studies.sections import run_sections

SECTIONS: Mapping[str, Callable[[], Section]] = {
    "movielens": movielens.run,
    "peers100k": peers100k.run,
    "assistments": assistments.run,
    "ordinal": ordinal.run,
    "binary20m": binary20m.run,
}
PREFACE = """\
# Clicks and star ratings

Made by `python -m benchmarks.clicks`; not edited by hand. Every section was run when it says. Real data are read from
the folder that the environment variable RANEF_TEST_DATA names. Kernels are compiled; times of ranef begin with the
import of the library or with its call, as told, times of peers with the rows in memory, as they like them best.
`se` is a standard error, `mcse` the Monte-Carlo standard error that the fit prints.
"""

if __name__ == "__main__":
    run_sections("benchmarks.clicks", "CLICKS.md", SECTIONS, PREFACE)
