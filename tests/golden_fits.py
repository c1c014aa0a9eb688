"""The reference fits in tests/golden and the designs they were made on."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import ranef.data
from ranef.design.build import build_design
from ranef.formula import parse
from ranef.table import open_source

GOLDEN = [json.loads(path.read_text()) for path in sorted((Path(__file__).parent / "golden").glob("*.json"))]


@cache
def table_of(name: str):
    return ranef.data.load(name)


def design_of(golden):
    return build_design(parse(golden["formula"]), open_source(table_of(golden["data"])))
