"""``python -m benchmarks.studies [NAME ...]``: runs studies and replaces their sections of the page."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.studies import clicks, clickstream, exact, families, growth, slopes
from benchmarks.studies.page import Section, write

STUDIES: Mapping[str, Callable[[float], Section]] = {
    "exact": exact.run,
    "families": families.run,
    "clickstream": clickstream.run,
    "slopes": slopes.run,
    "growth": growth.run,
    "clicks": clicks.run,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(STUDIES)}; default all")
    parser.add_argument(
        "--share", type=float, default=1.0, help="part of the full size, such as 0.05 (rows and levels, or data sets)"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "STUDIES.md")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(STUDIES)
    if unknown:
        parser.error(f"no study {', '.join(sorted(unknown))}; there are {', '.join(STUDIES)}")
    if not 0 < asked.share <= 1:
        parser.error("--share must be above 0 and at most 1")
    for name in asked.names or STUDIES:
        begun = time.perf_counter()
        section = STUDIES[name](asked.share)
        seconds = time.perf_counter() - begun
        write(asked.out, name, section, asked.share, seconds, tuple(STUDIES))
        print(f"{name}: {seconds:.0f} s")
        for bar in section.bars:
            print("  " + "  ".join(bar.cells()), flush=True)


if __name__ == "__main__":
    main()
