"""``python -m benchmarks.serving [NAME ...]``: runs sections of the page and replaces them there."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.serving import fold_in, service, stores, towers
from benchmarks.studies.page import Section
from benchmarks.studies.sections import run_sections

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

if __name__ == "__main__":
    run_sections("benchmarks.serving", "SERVING.md", SECTIONS, PREFACE, LONG)
