"""Fits of every family for the tests of this folder, each made once."""

from __future__ import annotations

from functools import cache

import numpy as np

import ranef

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
WINE = "rating ~ temp + contact + (1 | judge)"
BACTERIA = "y ~ trt + I(week > 2) + (1 | ID)"
SALAMANDERS = "count ~ spp + mined + (1 | site)"
EPIL = "y ~ lbase * trt + lage + V4 + (1 | subject)"

EXAMPLES = {
    "bernoulli": ("bacteria", BACTERIA, {}),
    "binomial": ("cbpp", CBPP, {}),
    "poisson": ("epil", EPIL, {}),
    "negative_binomial": ("salamanders", SALAMANDERS, {}),
    "gamma": ("positive", "y ~ x + (x | g)", {}),
    "ordinal": ("wine", WINE, {}),
}


@cache
def positive() -> dict[str, np.ndarray]:
    """Gamma responses with a random slope, 30 groups of 10."""
    rng = np.random.default_rng(11)
    g, x = np.repeat(np.arange(30), 10), rng.standard_normal(300)
    effects = rng.standard_normal((30, 2)) @ np.array([[0.5, 0.1], [0.0, 0.3]])
    eta = 1.0 + 0.4 * x + effects[g, 0] + effects[g, 1] * x
    return {"y": rng.gamma(4.0, 0.25, 300) * np.exp(eta), "x": x, "g": g}


@cache
def data_of(family: str):
    name = EXAMPLES[family][0]
    return positive() if name == "positive" else ranef.data.load(name)


@cache
def fit_of(family: str, **options) -> ranef.Fit:
    """The fit of a family's example."""
    _, formula, own = EXAMPLES[family]
    return ranef.fit(formula, data_of(family), family=family, **{**own, **options})
