"""What is fitted: a table, a model and a criterion. Knows nothing of who fits it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ranef import data


@dataclass(frozen=True)
class Problem:
    """A Gaussian mixed model to fit.

    Attributes
    ----------
    name : str
    table : callable
        Makes the rows, an Arrow table; factors are dictionary columns.
    response : str
    fixed : tuple of str
        Columns of the fixed part beside the intercept.
    groups : tuple of str
        Grouping factors, each with a random intercept.
    slopes : mapping of group to tuple of str
        Random slopes, correlated with the intercept.
    method : {"ml", "reml"}
    note : str
        One line for the report.
    skipped : mapping of peer to str
        Peers that would take too long for repeated runs, with what was measured once.
    threads : tuple of int or None
        Numbers of threads to run with; None is all.
    data : str, optional
        The file that the rows are read from, in the folder of real data.
    """

    name: str
    table: Callable[[], pa.Table]
    response: str
    groups: tuple[str, ...]
    method: str
    note: str
    fixed: tuple[str, ...] = ()
    slopes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    threads: tuple[int | None, ...] = (1, None)
    data: str | None = None

    @property
    def missing(self) -> str | None:
        """Why there are no rows here, or None."""
        if self.data is None or (_folder() and (_folder() / self.data).exists()):
            return None
        return f"needs {self.data} in the folder that RANEF_TEST_DATA names"

    @property
    def formula(self) -> str:
        """The model in lme4's syntax."""
        bars = [f"({' + '.join(['1', *self.slopes.get(group, ())])} | {group})" for group in self.groups]
        return f"{self.response} ~ {' + '.join(['1', *self.fixed, *bars])}"


def _crossed(users: int, items: int) -> pa.Table:
    return data.simulate(1e6, {"user": users, "item": items}, sd={"user": 0.36, "item": 0.6}, residual_sd=0.9).data


def _folder() -> Path:
    return Path(os.environ.get("RANEF_TEST_DATA", "absent"))


def _movielens() -> pa.Table:
    return pq.read_table(_folder() / MOVIELENS, columns=["rating", "user_id", "item_id"])


def _large(rows: float, users: int, items: int) -> pa.Table:
    return data.simulate(rows, {"user": users, "item": items}, sd={"user": 0.45, "item": 0.6}, residual_sd=0.87).data


def _nested() -> pa.Table:
    groups = {"pupil": 50_000, "school": 1000}
    nested = {"pupil": "school"}
    sd = {"pupil": 0.5, "school": 0.3}
    return data.simulate(1e6, groups, nested=nested, sd=sd, fixed={"x": 0.2}, activity=0.5).data


MOVIELENS = "ml-1m/ratings.parquet"
_STUDENTS = "73,421 ratings, 2,972 students, 1,128 lecturers"

PROBLEMS: tuple[Problem, ...] = (
    Problem(
        "sleepstudy",
        data.sleepstudy,
        "Reaction",
        ("Subject",),
        "reml",
        "180 rows, 18 subjects, correlated slope",
        fixed=("Days",),
        slopes={"Subject": ("Days",)},
    ),
    Problem("insteval-ml", data.insteval, "y", ("s", "d"), "ml", _STUDENTS),
    Problem("insteval-reml", data.insteval, "y", ("s", "d"), "reml", _STUDENTS),
    Problem(
        "insteval-dept",
        data.insteval,
        "y",
        ("s", "d", "dept"),
        "ml",
        f"{_STUDENTS}, 14 departments",
        fixed=("service",),
    ),
    Problem(
        "nested-1m",
        _nested,
        "y",
        ("school", "pupil"),
        "ml",
        "simulated, 1,000,000 rows, 50,000 pupils in 1,000 schools",
        fixed=("x",),
    ),
    Problem(
        "crossed-1m-small",
        lambda: _crossed(1000, 200),
        "y",
        ("user", "item"),
        "ml",
        "simulated, 1,000,000 rows, 1,000 users, 200 items",
    ),
    Problem(
        "crossed-1m",
        lambda: _crossed(6000, 3700),
        "y",
        ("user", "item"),
        "ml",
        "simulated, 1,000,000 rows, 6,000 users, 3,700 items",
        skipped={"lme4": "98 s when measured once, not repeated"},
    ),
    *(
        Problem(
            f"movielens-1m-{method}",
            _movielens,
            "rating",
            ("user_id", "item_id"),
            method,
            "1,000,209 ratings, 6,040 users, 3,706 items",
            skipped={"lme4": "82 s (REML) when measured once, not repeated"},
            data=MOVIELENS,
        )
        for method in ("reml", "ml")
    ),
    *(
        Problem(
            f"crossed-{name}",
            partial(_large, rows, users, items),
            "y",
            ("user", "item"),
            "ml",
            f"simulated, {rows:,} rows, {users:,} users, {items:,} items",
            skipped={"lme4": "too large", "ranef, stochastic": "the same as ranef"},
            threads=(None,),
        )
        for name, rows, users, items in (("5m", 5_000_000, 32_500, 11_800), ("25m", 25_000_000, 162_541, 59_047))
    ),
)
