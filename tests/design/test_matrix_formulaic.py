"""Model matrices against formulaic on 200 generated formulas.

formulaic codes a factor by what the terms before span, R by a rule on the terms' names, which may leave redundant
columns. So all column spaces must agree, and the columns themselves wherever R's are independent.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from formulaic import model_matrix as formulaic_matrix
from tabulate import matrix_of

ROWS = 200
FACTORS = {"a": 2, "b": 3, "c": 4}
VARIABLES = ("a", "b", "c", "l", "x", "z")


def frame() -> pd.DataFrame:
    random = np.random.default_rng(8)
    levels = {name: [f"{name}{code}" for code in random.integers(0, count, ROWS)] for name, count in FACTORS.items()}
    numbers = {"x": random.normal(size=ROWS), "z": random.uniform(1, 2, ROWS), "l": random.random(ROWS) < 0.4}
    return pd.DataFrame({**levels, **numbers})


DATA = frame()
THEIRS = DATA.assign(l=np.where(DATA["l"], "TRUE", "FALSE"))  # a number to formulaic, a factor to R
COLUMNS = {name: DATA[name].tolist() for name in DATA}


def formulas(count: int) -> list[str]:
    random = np.random.default_rng(5)
    found: dict[str, None] = {}
    while len(found) < count:
        terms = [
            str(random.choice([":", "*"])).join(
                random.choice(VARIABLES, random.choice([1, 2, 3], p=[0.4, 0.4, 0.2]), False)
            )
            for _ in range(random.integers(1, 4))
        ]
        found[f"{random.choice(['0', '1'])} + {' + '.join(terms)}"] = None
    return list(found)


def same_columns(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether the columns are equal in some order."""
    order = [
        np.flatnonzero(np.isclose(theirs, column[:, None], rtol=1e-12, atol=1e-14).all(axis=0)) for column in ours.T
    ]
    return all(map(len, order)) and len({int(first) for first, *_ in order}) == theirs.shape[1]


@pytest.mark.parametrize("formula", formulas(200))
def test_equal_to_formulaic(formula: str) -> None:
    ours, theirs = matrix_of(f"~ {formula}", COLUMNS), formulaic_matrix(formula, THEIRS).to_numpy(np.float64)
    ranks = [np.linalg.matrix_rank(matrix) for matrix in (ours, theirs, np.hstack([ours, theirs]))]
    assert ranks[0] == ranks[1] == ranks[2]
    if ranks[0] == ours.shape[1]:
        assert same_columns(ours, theirs)
