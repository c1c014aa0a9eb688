"""``python -m benchmarks.serving [NAME ...]``: runs sections of the page and replaces them there."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.clicks.real import Unavailable
from benchmarks.serving import fold_in, service, stores, towers
from benchmarks.studies.page import Section, write

SECTIONS: Mapping[str, Callable[[], Section]] = {
    "topk": towers.all_users,
    "one": towers.one_user,
    "predict": towers.predictions,
    "fold-in": fold_in.held_out_users,
    "fold-in-100k": fold_in.many_users,
    "stores": stores.million,
    "service": service.load,
    "soak": service.soak,
    "soak-short": service.soak_short,
}
# ten minutes: by its name only
LONG = {"soak"}
PREFACE = """\
# From a model to recommendations

Made by `python -m benchmarks.serving`; not edited by hand. Every section was run when it says. Real data are read from
the folder that the environment variable RANEF_TEST_DATA names.
"""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(SECTIONS)}; default all but {', '.join(LONG)}"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "SERVING.md")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(SECTIONS)
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    for name in asked.names or [name for name in SECTIONS if name not in LONG]:
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
