"""The embedded example tables, and that the golden files speak of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from ranef import data
from ranef.errors import OptionError

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("*.json"))

# rows, and the number of levels of each factor: the packages' own documentation
SHAPES: dict[Callable[[], pa.Table], tuple[int, dict[str, int]]] = {
    data.bacteria: (220, {"y": 2, "ap": 2, "hilo": 2, "ID": 50, "trt": 3}),
    data.cake: (270, {"replicate": 15, "recipe": 3, "temperature": 6}),
    data.cbpp: (56, {"herd": 15, "period": 4}),
    data.dyestuff: (30, {"Batch": 6}),
    data.dyestuff2: (30, {"Batch": 6}),
    data.epil: (236, {"trt": 2}),
    data.grouseticks: (403, {"INDEX": 403, "BROOD": 118, "YEAR": 3, "LOCATION": 63}),
    data.insteval: (73421, {"s": 2972, "d": 1128, "studage": 4, "lectage": 6, "service": 2, "dept": 14}),
    data.pastes: (60, {"batch": 10, "cask": 3, "sample": 30}),
    data.penicillin: (144, {"plate": 24, "sample": 6}),
    data.salamanders: (644, {"site": 23, "mined": 2, "spp": 7}),
    data.sleepstudy: (180, {"Subject": 18}),
    data.soup: (
        1847,
        {
            "RESP": 185,
            "PROD": 2,
            "PRODID": 6,
            "SURENESS": 6,
            "DAY": 2,
            "SOUPTYPE": 3,
            "SOUPFREQ": 3,
            "COLD": 2,
            "EASY": 10,
            "GENDER": 2,
            "AGEGROUP": 4,
            "LOCATION": 3,
        },
    ),
    data.verbagg: (7584, {"Gender": 2, "item": 24, "resp": 3, "id": 316, "btype": 3, "situ": 2, "mode": 2, "r2": 2}),
    data.wine: (72, {"rating": 5, "temp": 2, "contact": 2, "bottle": 8, "judge": 9}),
}


@pytest.mark.parametrize("table", SHAPES, ids=lambda table: table.__name__)
def test_rows_and_levels(table: Callable[[], pa.Table]) -> None:
    rows, levels = SHAPES[table]
    found = table()
    assert found.num_rows == rows
    factors = {field.name for field in found.schema if pa.types.is_dictionary(field.type)}
    assert factors == set(levels)
    for name, count in levels.items():
        column = found[name].combine_chunks()
        assert len(column.dictionary) == count
        assert column.null_count == 0
        assert set(column.to_pylist()) == set(column.dictionary.to_pylist())  # no empty level


def test_declared_order_survives() -> None:
    evaluations = data.insteval()
    assert evaluations.schema.field("studage").type.ordered
    assert evaluations.schema.field("lectage").type.ordered
    assert not evaluations.schema.field("dept").type.ordered
    # department 15 comes first in R: it is the reference of the treatment contrasts
    assert evaluations["dept"].combine_chunks().dictionary.to_pylist()[:4] == ["15", "5", "10", "12"]
    assert data.cake()["temperature"].combine_chunks().dictionary.to_pylist()[0] == "175"
    assert data.cake().schema.field("temperature").type.ordered


def test_known_values() -> None:
    first = data.sleepstudy().slice(0, 1).to_pylist()[0]
    assert first == {"Reaction": 249.56, "Days": 0.0, "Subject": "308"}
    assert data.dyestuff()["Yield"].to_numpy().mean() == 1527.5


def test_load_by_name() -> None:
    assert data.load("Penicillin").equals(data.penicillin())
    assert {table.__name__ for table in SHAPES} == set(data.NAMES)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"'sleepstudi'.*Did you mean 'sleepstudy'.*bacteria, cake, cbpp"):
        data.load("sleepstudi")


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_file_names_a_table(path: Path) -> None:
    golden = json.loads(path.read_text())
    assert golden["name"] == path.stem
    table = data.load(golden["data"])
    assert table.num_rows == golden["n_rows_in_file"]
    for factor, coding in golden["factor_levels"].items() if golden["factor_levels"] else ():
        column = table[factor].combine_chunks()
        assert column.dictionary.to_pylist() == coding["levels"]
        assert column.type.ordered == coding["ordered"]


def test_only_public_names_are_listed() -> None:
    assert dir(data) == sorted(data.__all__)
