"""Co-occurrence beside a loop over all pairs of places."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranef.data import cooccurrence, pairs
from ranef.data import sequences as reading
from ranef.design.build import build_design
from ranef.errors import DataError, OptionError
from ranef.formula import parse
from ranef.table import open_source

TEXT = ["the cat sat on the mat", "", "the  dog\tsat", "a a a b"]


def naive(
    sequences: Sequence[Sequence[str]], window: int | None, weighting: str, symmetric: bool, min_count: int
) -> dict[tuple[str, str], float]:
    often = Counter(token for one in sequences for token in one)
    found: Counter[tuple[str, str]] = Counter()
    for one in sequences:
        left = [token for token in one if often[token] >= min_count]
        if window is None:
            found.update((a, b) for a in set(left) for b in set(left) if a != b)
            continue
        for i, token in enumerate(left):
            for j in range(i - window if symmetric else i + 1, i + window + 1):
                if j != i and 0 <= j < len(left):
                    found[token, left[j]] += 1 if weighting == "flat" else 1 / abs(i - j)
    return dict(found)


def as_dict(table, value: str = "count") -> dict[tuple[str, str], float]:
    return dict(zip(zip(table["token"], table["context"], strict=True), table[value], strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abcdefg"), max_size=12), min_size=1, max_size=8),
    st.sampled_from([None, 1, 2, 5, 20]),
    st.sampled_from(["flat", "harmonic"]),
    st.booleans(),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 7, 1 << 20]),
)
def test_counts_are_those_of_a_loop(sequences, window, weighting, symmetric, min_count, at_a_time) -> None:
    if window is None:
        weighting, symmetric = "flat", True
    wanted = naive(sequences, window, weighting, symmetric, min_count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "_PAIRS", at_a_time)
        patch.setattr(reading, "_TOKENS", 3)
        patch.setattr(reading, "_SEQUENCES", 2)
        if not wanted:
            with pytest.raises(DataError, match=r"no token|no two tokens"):
                cooccurrence(sequences, window, weighting=weighting, symmetric=symmetric, min_count=min_count)
            return
        found = cooccurrence(sequences, window, weighting=weighting, symmetric=symmetric, min_count=min_count)
    counts = as_dict(found)
    assert counts.keys() == wanted.keys()
    np.testing.assert_allclose([counts[pair] for pair in wanted], list(wanted.values()), rtol=1e-12)
    assert list(counts) == sorted(counts)


@pytest.mark.parametrize("options", [{}, {"smoothing": 0.75, "shift": math.log(5)}, {"positive": True, "shift": 0.3}])
def test_mutual_information_by_its_definition(options: dict) -> None:
    table = cooccurrence(TEXT, 2, symmetric=False, **options)
    counts = as_dict(table)
    total = sum(counts.values())
    p, q = Counter(), Counter()
    for (token, context), count in counts.items():
        p[token] += count / total
        q[context] += count
    power = {context: count ** options.get("smoothing", 1.0) for context, count in q.items()}
    q = {context: value / sum(power.values()) for context, value in power.items()}
    for (token, context), value in as_dict(table, "pmi").items():
        wanted = math.log(counts[token, context] / total / p[token] / q[context]) - options.get("shift", 0.0)
        assert value == pytest.approx(max(wanted, 0.0) if options.get("positive") else wanted, abs=1e-12)


def test_every_input_is_the_same(tmp_path: Path) -> None:
    lists = [one.split() for one in TEXT]
    wanted = as_dict(cooccurrence(lists))
    path = tmp_path / "corpus.txt"
    path.write_text("\r\n".join(TEXT))
    packed = tmp_path / "corpus.txt.gz"
    packed.write_bytes(gzip.compress("\n".join(TEXT).encode()))
    for data in (
        path,
        str(packed),
        TEXT,
        iter(lists),
        (set(one) if len(set(one)) == len(one) else tuple(one) for one in lists),
        pd.Series(TEXT),
        pd.Series(lists),
        pl.Series([*lists, None]),
        pl.Series(TEXT),
    ):
        assert as_dict(cooccurrence(data)) == wanted
    of_arrow = cooccurrence(pa.chunked_array([pa.array(lists[:2]), pa.array(lists[2:])]))
    assert isinstance(of_arrow, pa.Table)
    assert as_dict(of_arrow.to_pandas()) == wanted
    assert isinstance(cooccurrence(pl.Series(TEXT)), pl.DataFrame)
    assert as_dict(cooccurrence(pd.Series(TEXT).astype("category"))) == wanted


@pytest.mark.parametrize("block", [1, 4, 9, 1 << 20])
@pytest.mark.parametrize("text", ["a b c\nd e\n\nf", "one long line without an end " * 5, "caf\u00e9 \u00fc x\ny"])
def test_a_text_file_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, block: int) -> None:
    monkeypatch.setattr(reading, "_BLOCK", block)
    path = tmp_path / "text"
    path.write_text(text, encoding="utf-8")
    assert as_dict(cooccurrence(path)) == naive([line.split() for line in text.split("\n")], 5, "flat", True, 1)


def test_tokens_between_commas_and_in_lower_case(tmp_path: Path) -> None:
    path = tmp_path / "baskets.csv"
    path.write_text("Citrus fruit, tea ,citrus fruit\nTea,,jam\n")
    found = as_dict(cooccurrence(path, None, sep=",", lowercase=True))
    assert found == {pair: 1 for a, b in [("citrus fruit", "tea"), ("jam", "tea")] for pair in [(a, b), (b, a)]}


def test_numbers_stay_numbers_and_missing_tokens_do_not_count() -> None:
    table = cooccurrence([[3, None, 1], np.array([1, 3]), []])
    assert table["token"].tolist() == [1, 3]
    assert table["count"].tolist() == [2, 2]
    assert table["count"].dtype == np.int64


def test_the_table_goes_into_a_formula() -> None:
    design = build_design(parse("pmi ~ 1 + (1 | token) + (1 | context)"), open_source(cooccurrence(TEXT)))
    assert [len(group.levels) for group in design.groups] == [8, 8]


@pytest.mark.parametrize(
    ("data", "options", "error", "said"),
    [
        (TEXT, {"window": 0}, OptionError, "window=0"),
        (TEXT, {"window": None, "symmetric": False}, OptionError, "have no order"),
        (TEXT, {"window": None, "weighting": "harmonic"}, OptionError, "have no order"),
        (TEXT, {"weighting": "linear"}, OptionError, "'flat' and 'harmonic'"),
        (TEXT, {"smoothing": 0}, OptionError, "smoothing=0"),
        (TEXT, {"shift": float("inf")}, OptionError, "shift=inf"),
        (TEXT, {"min_count": 0}, OptionError, "min_count=0"),
        (TEXT, {"min_count": 9}, DataError, "the most frequent of them 3 times; min_count is 9"),
        (TEXT, {"sep": ""}, OptionError, "sep=''"),
        ([[1, 2]], {"lowercase": True}, OptionError, "no texts"),
        ("nowhere.txt", {}, OptionError, "no file nowhere.txt"),
        (7, {}, OptionError, "int is not a path"),
        (pd.DataFrame({"a": TEXT}), {}, OptionError, "one of its columns"),
        (pl.Series([1, 2]), {}, OptionError, "holds no sequences"),
        ([1, 2], {}, DataError, "sequence 0 is int"),
        ([["a"], b"x"], {}, DataError, "sequence 1 is bytes"),
        ([["a", 1]], {}, DataError, "not all lists"),
        ([["a"], ["b"]], {}, DataError, "no two tokens"),
        ([[None], []], {}, DataError, "hold no token"),
        ([], {}, DataError, "hold no token"),
        ([[{"a": 1}]], {}, DataError, "texts or numbers"),
        ([range(100_000)], {"window": None}, DataError, "basket 0 has 100,000 tokens"),
    ],
)
def test_what_is_wrong_is_said(data, options: dict, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        cooccurrence(data, **options)


def test_tokens_that_change_their_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_SEQUENCES", 1)
    with pytest.raises(DataError, match="text at first and integer from sequence 1 on"):
        cooccurrence([["a", "b"], [1, 2]])


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a \xff b\n")
    with pytest.raises(DataError, match="UTF-8"):
        cooccurrence(path)
