"""Log-likelihoods and their derivatives against fifty digits and more, from the bulk into the tails."""

from typing import NamedTuple

import numpy as np
import pytest

from ranef.family import bernoulli, binomial, gamma, gaussian, negative_binomial, ordinal, poisson
from ranef.family.base import Family
from tests.family import exact

LINKS = ("logit", "probit", "cloglog")
BULK = (-8.0, -6.01, -5.99, -0.3, 0.7, 2.0, 5.0)


class Case(NamedTuple):
    family: Family
    y: tuple[float, ...]
    eta: tuple[float, ...]
    weights: tuple[float, ...] = (2.5,)
    phi: tuple[tuple[float, ...], ...] = ((),)
    jacobian: np.ndarray | None = None


def categories(count):
    return tuple(str(i + 1) for i in range(count))


def ordinal_case(link, tau):
    family = ordinal(link).with_categories(categories(len(tau) + 1))
    far = (-40.0, -20.0, *BULK) if link == "cloglog" else (-300.0, -20.0, *BULK, 20.0, 300.0)
    return Case(family, tuple(range(len(tau) + 1)), far, (1.0,), (tau,))


CASES = [
    *(Case(bernoulli(link), (0.0, 1.0), (-300.0, -30.0, *BULK)) for link in LINKS),
    *(Case(bernoulli(link), (0.0, 1.0), (30.0, 300.0)) for link in ("logit", "probit")),
    *(Case(binomial(link), (0.0, 0.25, 0.5, 1.0), (-20.0, *BULK), (4.0, 1e8)) for link in LINKS),
    Case(poisson(), (0.0, 1.0, 5.0, 1e3, 1e6, 1e9), (-300.0, -20.0, -1.0, 0.0, 2.0, 7.0, 20.7, 25.0)),
    Case(
        negative_binomial(),
        (0.0, 1.0, 5.0, 1e3, 1e9),
        (-300.0, -1.0, 2.0, 7.0, 20.7, 25.0),
        phi=((-20.0,), (-3.0,), (0.1,), (3.0,), (12.0,), (60.0,)),
    ),
    Case(
        gamma(),
        (1e-30, 1e-3, 1.0, 2.5, 1e8),
        (-100.0, -20.0, -1.0, 0.0, 2.0, 18.0, 100.0),
        phi=((-30.0,), (-15.0,), (-3.0,), (0.1,), (3.0,), (15.0,)),
    ),
    Case(gaussian(), (-3.0, 0.0, 4.5), (-10.0, 0.0, 2.0), phi=((-10.0,), (0.1,), (3.0,))),
    *(ordinal_case(link, (-2.0, -0.5, 0.6, 3.0)) for link in LINKS),
    ordinal_case("cloglog", (0.3,)),
    *(ordinal_case(link, (-0.1, -0.1 + 1e-9, 0.0, 0.05)) for link in LINKS),
    *(ordinal_case(link, (-90.0, -1.0, -1.0 + 1e-12, 80.0)) for link in ("logit", "probit")),
]


def label(case):
    return f"{case.family.name}-{case.family.link}-{len(case.phi[0])}-{case.eta[-1]}"


def rows_of(case):
    """Every combination of response, linear predictor and weight."""
    grid = np.meshgrid(case.y, case.eta, case.weights, indexing="ij")
    y, eta, weights = (g.ravel() for g in grid)
    if case.family.name == "binomial":
        keep = np.abs(y * weights - np.rint(y * weights)) < 1e-9
        y, eta, weights = y[keep], eta[keep], weights[keep]
    return y, eta, weights


@pytest.mark.parametrize("case", CASES, ids=label)
def test_loglik_and_derivatives_by_eta(case):
    y, eta, weights = rows_of(case)
    # 1 - F(eta) of far rows is exp(-300) for the logit
    digits = 150 if case.family.link == "logit" and np.abs(eta).max() > 60 else 50
    for phi in case.phi:
        phi = np.array(phi)
        found = case.family.derivatives(y, eta, weights, phi)
        np.testing.assert_array_equal(found[0], case.family.loglik(y, eta, weights, phi))
        full = found[0] + [case.family.constant(y[i : i + 1], weights[i : i + 1]) for i in range(len(y))]
        args = [(case.family, *row, phi, digits) for row in zip(y, eta, weights, strict=True)]
        # a count's log-likelihood cannot be nearer than its response times the rounding of eta
        scale = weights * np.maximum(y if case.family.kind == "count" else 1.0, 1.0)
        np.testing.assert_array_less(
            np.abs(full - [exact.loglik(*a) for a in args]), 2e-14 * (np.abs(full) + scale), err_msg=str(phi)
        )
        expected = np.array([exact.by_eta(*a) for a in args]).T
        # what rounding of y - mu leaves
        size = weights * (np.exp(-phi[0]) if case.family.name == "gamma" else 1.0)
        for order, values in enumerate(expected):
            np.testing.assert_array_less(
                np.abs(found[order + 1] - values),
                1e-12 * np.abs(values) + (3e-15, 3e-15, 3e-13)[order] * size,
                err_msg=f"order {order + 1}, phi {phi}",
            )


PARAMETER_CASES = [
    Case(
        negative_binomial(),
        (0.0, 1.0, 7.0, 1e4),
        (-3.0, 0.5, 6.0),
        (1.5,),
        ((-6.0,), (-0.5,), (2.0,), (3.0,), (9.0,), (20.0,)),
    ),
    Case(gamma(), (1e-3, 1.0, 30.0), (-1.0, 0.5, 3.0), (1.5,), ((-25.0,), (-4.0,), (-0.3,), (3.0,), (9.0,))),
    Case(gaussian(), (-3.0, 4.5), (-1.0, 2.0), (1.5,), ((-4.0,), (0.3,))),
    *(
        Case(ordinal(link).with_categories(categories(5)), tuple(range(5)), (-20.0, 0.3), (1.5,), (tau,))
        for link in LINKS
        for tau in ((-2.0, -0.5, 0.6, 3.0), (-1.0, -0.99, -0.98, 2.0))
    ),
    *(
        Case(
            ordinal("probit", structure).with_categories(categories(count)),
            tuple(range(count)),
            (-1.5, 0.3),
            (1.5,),
            (alpha,),
            jacobian,
        )
        for structure, count, alpha, jacobian in (
            ("equidistant", 4, (-1.0, 0.7), np.array([[1, 0], [1, 1], [1, 2]])),
            ("symmetric", 4, (0.2, 1.1), np.array([[1, -1], [1, 0], [1, 1]])),
            (
                "symmetric",
                7,
                (-0.2, 0.9, 1.0, 2.5),
                np.array([[1, 0, 0, -1], [1, 0, -1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 1]]),
            ),
        )
    ),
]


@pytest.mark.parametrize("case", PARAMETER_CASES, ids=label)
def test_derivatives_by_parameters(case):
    y, eta, weights = rows_of(case)
    extra = {} if case.jacobian is None else {"jacobian": case.jacobian.tolist()}
    for phi in case.phi:
        phi = np.array(phi)
        found = np.array(case.family.parameter_derivatives(y, eta, weights, phi))
        assert found.shape == (3, len(y), len(case.family.parameters))
        for i in range(len(y)):
            first, second = exact.by_phi(case.family, y[i], eta[i], weights[i], phi, 30, **extra)
            # a theta so large that the family is Poisson moves it by less than the rounding of the counts
            size = max(1.0, np.exp(-phi[0]) if case.family.name == "gamma" else y[i])
            close = {"rtol": 1e-9, "atol": 1e-14 * size, "err_msg": f"y {y[i]}, eta {eta[i]}, phi {phi}"}
            np.testing.assert_allclose(found[:, i], first, **close)
            row = slice(i, i + 1)
            information = case.family.parameter_information(y[row], eta[row], weights[row], phi)
            np.testing.assert_allclose(information, second, **close)
        together = case.family.parameter_information(y, eta, weights, phi)
        alone = sum(
            case.family.parameter_information(y[i : i + 1], eta[i : i + 1], weights[i : i + 1], phi)
            for i in range(len(y))
        )
        np.testing.assert_allclose(together, alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_no_weights_are_weights_of_one(case):
    y, eta, _ = rows_of(case)
    if case.family.name == "binomial":
        y = np.rint(y)
    phi, ones = np.array(case.phi[0]), np.ones(len(y))
    for none, one in (
        (case.family.derivatives(y, eta, None, phi), case.family.derivatives(y, eta, ones, phi)),
        (case.family.parameter_derivatives(y, eta, None, phi), case.family.parameter_derivatives(y, eta, ones, phi)),
        (case.family.cdf(y, eta, None, phi), case.family.cdf(y, eta, ones, phi)),
    ):
        for a, b in zip(none, one, strict=True):
            np.testing.assert_array_equal(a, b)
    assert case.family.constant(y, None) == pytest.approx(case.family.constant(y, ones), rel=1e-14)


@pytest.mark.parametrize("family", [f for f in {c.family for c in CASES} if not f.parameters], ids=str)
def test_families_without_parameters(family):
    y = eta = np.zeros(3)
    assert [d.shape for d in family.parameter_derivatives(y, eta, None, np.zeros(0))] == [(3, 0)] * 3
    assert family.parameter_information(y, eta, None, np.zeros(0)).shape == (0, 0)
    assert family.natural(np.zeros(0)) == {}
    assert family.natural_jacobian(np.zeros(0)).shape == (0, 0)
    assert family.valid(np.zeros(0))
