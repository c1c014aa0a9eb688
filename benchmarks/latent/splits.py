"""The fixed splits of ratings: training and test rows, and what is known of users and items.

The splits and their rules are those of the README in the folder ``splits`` of the real data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.clicks.real import real

AGE_STARTS = (1, 18, 25, 35, 45, 50, 56)
YEARS = 5
FOLDS = 5


@dataclass(frozen=True, eq=False)
class Split:
    """One training and test part.

    Attributes
    ----------
    train, test : pyarrow.Table
        ``user_id``, ``item_id``, ``rating``, and ``timestamp`` where the data have it.
    users, items : pyarrow.Table or None
        By ``user_id`` and ``item_id``: the attributes that `user_attributes` and `item_attributes` name, as text;
        ``genres`` joined by ``|``.
    """

    train: pa.Table
    test: pa.Table
    users: pa.Table | None
    items: pa.Table

    @property
    def y(self) -> npt.NDArray[np.float64]:
        """The ratings of the test rows."""
        return np.asarray(self.test["rating"], dtype=np.float64)

    @property
    def user_attributes(self) -> tuple[str, ...]:
        return () if self.users is None else tuple(name for name in self.users.column_names if name != "user_id")

    @property
    def item_attributes(self) -> tuple[str, ...]:
        return tuple(name for name in self.items.column_names if name != "item_id")


def ml100k() -> Iterator[Split]:
    """The official folds u1 to u5."""
    rows = _rows("ml-100k/ratings.parquet")
    users, items = _users("ml-100k"), _movies("ml-100k")
    fold = np.asarray(rows["fold5"])
    for k in range(1, FOLDS + 1):
        yield _split(rows.drop(["fold5"]), fold == k, users, items)


def ml1m(rule: str) -> Iterator[Split]:
    """``"random"``, or ``"time"``: of users with known times the last fifth of each one's ratings."""
    rows = _rows("ml-1m/ratings.parquet")
    is_test = pq.read_table(real(f"splits/ml-1m-{rule}.parquet"))["is_test"]
    rows, test = _used(rows, is_test)
    if rule == "random":  # the times of some rows are not known
        rows = rows.drop(["timestamp"])
    yield _split(rows, test, _users("ml-1m"), _movies("ml-1m"))


def goodbooks() -> Iterator[Split]:
    """A random tenth."""
    rows, test = _used(
        _rows("goodbooks/ratings.parquet"), pq.read_table(real("splits/goodbooks-random.parquet"))["is_test"]
    )
    books = pq.read_table(real("goodbooks/items.parquet"))
    authors = [one.split(",")[0].strip() for one in books["authors"].to_pylist()]
    years = [
        None if one is None else int(one) for one in books["original_publication_year"].cast(pa.int64()).to_pylist()
    ]
    items = pa.table(
        {
            "item_id": books["item_id"],
            "author": authors,
            "period": [_period(year) for year in years],
            "language": [one or "unknown" for one in books["language_code"].to_pylist()],
        }
    )
    yield _split(rows, test, None, items)


def _rows(file: str) -> pa.Table:
    rows = pq.read_table(real(file))
    return rows.set_column(rows.column_names.index("rating"), "rating", rows["rating"].cast(pa.float64()))


def _used(rows: pa.Table, is_test: pa.ChunkedArray) -> tuple[pa.Table, npt.NDArray[np.bool_]]:
    """Without the rows that are in neither part."""
    used = pc.is_valid(is_test)
    return rows.filter(used), np.asarray(is_test.filter(used))


def _split(rows: pa.Table, test: npt.NDArray[np.bool_], users: pa.Table | None, items: pa.Table) -> Split:
    return Split(rows.filter(pa.array(~test)), rows.filter(pa.array(test)), users, items)


def _users(folder: str) -> pa.Table:
    """The codes of ml-1m's age groups are the ages where they begin, so that one rule serves both sets."""
    users = pq.read_table(real(f"{folder}/users.parquet"))
    begins = np.searchsorted(AGE_STARTS, np.asarray(users["age"]), side="right") - 1
    return pa.table(
        {
            "user_id": users["user_id"],
            "age_group": [f"from {AGE_STARTS[max(place, 0)]}" for place in begins],
            "gender": users["gender"].cast(pa.string()),
            "occupation": users["occupation"].cast(pa.string()),
            "zip1": [one[:1].upper() for one in users["zip"].to_pylist()],
        }
    )


def _movies(folder: str) -> pa.Table:
    movies = pq.read_table(real(f"{folder}/items.parquet"))
    found = [re.search(r"\((\d{4})\)\s*$", title) for title in movies["title"].to_pylist()]
    periods = [_period(None if one is None else int(one.group(1))) for one in found]
    return pa.table({"item_id": movies["item_id"], "genres": movies["genres"].cast(pa.string()), "period": periods})


def _period(year: int | None) -> str:
    return "unknown" if year is None else f"from {year // YEARS * YEARS}"
