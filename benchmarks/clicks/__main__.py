"""``python -m benchmarks.clicks [NAME ...]``: runs sections of the page and replaces them there."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.clicks import assistments, binary20m, movielens, ordinal, peers100k
from benchmarks.clicks.real import Unavailable
from benchmarks.studies.page import Section, write

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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clicks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SECTIONS)}; default all")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "CLICKS.md")
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
