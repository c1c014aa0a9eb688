"""Fitted models for the tests of this folder, each fitted once."""

from __future__ import annotations

from functools import cache

import numpy as np

import ranef.data
from ranef.artifact.model import Model
from ranef.design.build import Design, build_design
from ranef.engine.threads import engine
from ranef.formula import parse
from ranef.learn.gaussian import fit_gaussian
from ranef.table import open_source


@cache
def fitted(data: str, formula: str, method: str = "reml", **options) -> tuple[Design, Model]:
    """A fit to one of the example tables."""
    return fit_rows(ranef.data.load(data), formula, method, **options)


def fit_rows(rows, formula: str, method: str = "reml", weights=None, **options) -> tuple[Design, Model]:
    """A fit to any table."""
    with engine(1) as pool:
        design = build_design(parse(formula), open_source(rows), weights=weights)
        return design, fit_gaussian(design, method, pool, **options)


SLEEP = "Reaction ~ Days + (Days | Subject)"
CAKE = "angle ~ recipe * temperature + (1 | recipe:replicate)"
PENICILLIN = "diameter ~ 1 + (1 | plate) + (1 | sample)"
PASTES = "strength ~ 1 + (1 | batch/cask)"
DYESTUFF = "Yield ~ 1 + (1 | Batch)"


def three_slopes() -> dict[str, np.ndarray]:
    """Twelve groups of twelve rows with three correlated coefficients; no random numbers, so that R makes the same."""
    i = np.arange(1, 145)
    level = np.arange(1, 13)
    group = np.repeat(level, 12)
    x, z = np.sin(i * 1.3), np.cos(i * 0.7)
    u, v, w = (a[group - 1] for a in (np.sin(level * 2.1) * 1.5, np.cos(level * 3.7), np.sin(level * 5.3 + 1)))
    y = 1 + x + u + (v + 0.4 * u) * x + (w - 0.3 * u) * z + np.sin(i * i * 0.37) * 1.2
    return {"y": y, "x": x, "z": z, "g": group, "wt": 1.0 + i % 3}
