"""The command line of a page of sections: runs those that are named and replaces them there."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from benchmarks.clicks.real import Unavailable
from benchmarks.studies.page import Section, write


def run_sections(
    package: str,
    page: str,
    sections: Mapping[str, Callable[[], Section]],
    preface: str,
    by_name_only: Collection[str] = (),
) -> None:
    """Run ``python -m PACKAGE [NAME ...] [--out FILE]``.

    Parameters
    ----------
    package : str
    page : str
        File name beside the packages of benchmarks.
    sections : mapping of str to function
    preface : str
        What the page begins with.
    by_name_only : collection of str
        Sections that run only where they are named.
    """
    usual = [name for name in sections if name not in by_name_only]
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description=__doc__)
    default = f"default all but {', '.join(by_name_only)}" if by_name_only else "default all"
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(sections)}; {default}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / page)
    asked = parser.parse_args()
    unknown = set(asked.names) - set(sections)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(sections)}")
    for name in asked.names or usual:
        begun = time.perf_counter()
        try:
            section = sections[name]()
        except Unavailable as reason:
            print(f"{name} skipped: {reason}", file=sys.stderr)
            continue
        seconds = time.perf_counter() - begun
        write(asked.out, name, section, 1.0, seconds, tuple(sections), preface)
        print(f"{name}: {seconds:.0f} s")
        for bar in section.bars:
            print("  " + "  ".join(bar.cells()), flush=True)
