"""The reference fits in tests/golden and the designs they were made on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import ranef
import ranef.data
from ranef.design.build import build_design
from ranef.formula import parse
from ranef.table import open_source

ALL = [json.loads(path.read_text()) for path in sorted((Path(__file__).parent / "golden").glob("*.json"))]
GOLDEN = [one for one in ALL if one["family"] == "gaussian"]
GENERALIZED = [one for one in ALL if one["family"] != "gaussian"]
# as R's packages call them
FAMILIES = {
    "binomial": "binomial",
    "poisson": "poisson",
    "nbinom2": "negative_binomial",
    "ordinal (cumulative)": "ordinal",
}


@cache
def table_of(name: str):
    return ranef.data.load(name)


def fit_of(golden, **options):
    """The fit of a golden file's model, by the front door."""
    return ranef.fit(
        golden["formula"], table_of(golden["data"]), family=FAMILIES[golden["family"]], link=golden["link"], **options
    )


def design_of(golden, kind="number"):
    return build_design(parse(golden["formula"]), open_source(table_of(golden["data"])), kind=kind)
