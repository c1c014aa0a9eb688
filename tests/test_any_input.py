"""Any small table and any formula: a fit with finite numbers, or an error of ranef's own that says why."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ranef


@st.composite
def numbers(draw: st.DrawFn, rows: int, salt: int) -> npt.NDArray[Any]:
    rng = np.random.default_rng([draw(st.integers(0, 999)), salt])
    kind = draw(st.sampled_from(["normal"] * 6 + ["count", "two", "constant", "hole", "infinite", "extreme"]))
    scale = draw(st.sampled_from([1.0] * 6 + [1e-9, 1e-4, 1e4, 1e9]))
    values = (rng.normal(size=rows) + draw(st.sampled_from([0, 0, 1, 1e4]))) * scale
    match kind:
        case "count":
            return rng.integers(0, 5, rows)
        case "two":
            return rng.integers(0, 2, rows) * scale
        case "constant":
            return np.full(rows, scale)
        case "hole":
            return np.where(rng.random(rows) < 0.3, np.nan, values)
        case "infinite":
            return np.where(rng.random(rows) < 0.1, np.inf, values)
        case "extreme":
            return values * draw(st.sampled_from([1e-290, 1e-100, 1e100, 1e290]))
    return values


@st.composite
def labels(draw: st.DrawFn, rows: int, salt: int) -> list[Any]:
    rng = np.random.default_rng([draw(st.integers(0, 999)), salt])
    codes = rng.integers(0, draw(st.sampled_from([1, 2, 3, 5, 5, 8, 8, 100])), rows).tolist()
    as_label: Callable[[int], Any] = draw(
        st.sampled_from(
            [
                str,
                int,
                str,
                int,
                bool,
                lambda code: None if code == 0 else str(code),
                lambda code: (str, int)[code % 2](code),
            ]
        )
    )
    return [as_label(code) for code in codes]


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    rows = draw(st.sampled_from([0, 1, 2, 5, 12, 25, 40, 40, 40, 40]))
    columns = {name: draw(numbers(rows, salt)) for salt, name in enumerate("yxz")}
    return columns | {name: draw(labels(rows, 10 + salt)) for salt, name in enumerate("gh")}


FIXED = (
    *("1", "0", "x", "x + z", "x * z", "g", "x:h", "h * x", "log(x)", "poly(x, 2)", "scale(x)", "I(x^2)", "exp(x)"),
    *("offset(z)", "x + offset(z)", "I(x > 0)", "bs(x, df = 4)", "ns(x, df = 2)", "x / z", "factor(x)"),
)
RANDOM = (
    *("", "(1 | g)", "(x | g)", "(x || g)", "(0 + x | g)", "(1 | g/h)", "(1 | g) + (1 | h)", "(x + z | g)"),
    *("(1 | g:h)", "(1 | x)", "(h | g)", "(x | g) + (z || h)", "homdiag(0 + h | g)"),
)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(tables(), st.sampled_from(FIXED), st.sampled_from(RANDOM), st.sampled_from(["reml", "ml"]))
def test_a_fit_or_an_error_that_says_why(data: dict[str, Any], fixed: str, random: str, method: Any) -> None:
    formula = f"y ~ {fixed}{' + ' if random else ''}{random}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.RanefWarning)  # any other warning is an error
        try:
            fit = ranef.fit(formula, data, method=method, threads=1)
        except ranef.RanefError:
            return
        assert math.isfinite(fit.deviance)
        assert fit.sigma > 0
        assert np.isfinite(fit.fixef()["estimate"]).all()
        for group in fit.model.spec.groups:
            modes = fit.ranef(group.name)
            assert all(np.isfinite(modes[name]).all() for name in modes if name != "level")
        fit.summary()
        fit.confint()


@st.composite
def responses(draw: st.DrawFn, family: str, data: dict[str, Any]) -> npt.NDArray[Any]:
    """A response that suits the family in most draws, and depends on a covariate in some."""
    x, rows = np.nan_to_num(np.asarray(data["x"], float), posinf=0.0, neginf=0.0), len(data["x"])
    rng = np.random.default_rng([draw(st.integers(0, 999)), 30])
    pull = draw(st.sampled_from([0.0, 0.0, 1.0, 100.0]))
    eta = draw(st.sampled_from([0.0, 0.0, -3.0, 3.0])) + rng.normal(size=rows)
    eta += pull * np.sign(x) if draw(st.booleans()) else 0.0
    if draw(st.integers(0, 9)) == 0:
        return np.asarray(data["y"])
    match family:
        case "bernoulli" | "binomial":
            return (eta > 0).astype(draw(st.sampled_from([float, int, bool])))
        case "poisson" | "negative_binomial":
            return rng.poisson(np.exp(np.minimum(eta, 20.0)))
        case "gamma":
            return np.exp(np.clip(eta, -30.0, 30.0)) * rng.gamma(2.0, 0.5, rows)
    return np.digitize(eta, draw(st.sampled_from([[0.0], [-1.0, 1.0], [-2.0, -1.0, 0.0, 1.0]])))


LINKS = {"bernoulli": ["logit", "probit", "cloglog"], "binomial": ["logit"], "ordinal": ["logit", "probit", "cloglog"]}


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    st.data(),
    tables(),
    st.sampled_from(["bernoulli", "binomial", "poisson", "negative_binomial", "gamma", "ordinal"]),
    st.sampled_from(FIXED),
    st.sampled_from(RANDOM),
    st.sampled_from(["laplace", "laplace", "joint"]),
)
def test_other_families(
    draw: st.DataObject, data: dict[str, Any], family: str, fixed: str, random: str, method: Any
) -> None:
    data = data | {"y": draw.draw(responses(family, data))}
    link = draw.draw(st.sampled_from(LINKS.get(family, ["log"])))
    formula = f"y ~ {fixed}{' + ' if random else ''}{random}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.RanefWarning)  # any other warning is an error
        try:
            fit = ranef.fit(formula, data, family=family, link=link, method=method, threads=1)
        except ranef.RanefError:
            return
        assert math.isfinite(fit.deviance)
        assert np.isfinite(fit.fixef()["estimate"]).all()
        assert all(math.isfinite(one.value) for one in fit.model.info.family_parameters)
        for group in fit.model.spec.groups:
            modes = fit.ranef(group.name)
            assert all(np.isfinite(modes[name]).all() for name in modes if name != "level")
        fit.summary()
