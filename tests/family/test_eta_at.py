"""The linear predictor of a given cumulative probability."""

import numpy as np
import pytest

from ranef.family import bernoulli, binomial, gamma, gaussian, negative_binomial, ordinal, poisson

LINKS = ("logit", "probit", "cloglog")
ORDINAL = [ordinal(link).with_categories(("a", "b", "c")) for link in LINKS]
CASES = [
    *((binomial(link), np.array([0.0, 0.25, 0.75]), np.full(3, 20.0), ()) for link in LINKS),
    *((bernoulli(link), np.zeros(3), None, ()) for link in LINKS),
    (poisson(), np.array([0.0, 3.0, 2000.0]), None, ()),
    (negative_binomial(), np.array([0.0, 3.0, 2000.0]), None, (-1.0,)),
    (negative_binomial(), np.array([0.0, 3.0, 2000.0]), None, (5.0,)),
    (gamma(), np.array([1e-3, 1.0, 1e4]), None, (-2.0,)),
    (gaussian(), np.array([-1.0, 0.0, 30.0]), np.array([1.0, 2.0, 3.0]), (0.4,)),
    *((family, np.array([0.0, 1.0, 0.0]), None, (-0.5, 1.2)) for family in ORDINAL),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].name}-{case[0].link}-{case[3]}")
@pytest.mark.parametrize("probability", [1e-10, 0.03, 0.5, 0.9, 1 - 1e-8])
def test_it_solves_the_distribution_function(case, probability):
    family, y, weights, phi = case
    phi = np.array(phi)
    eta = family.eta_at(y, np.full(3, probability), weights, phi)
    _, upper = family.cdf(y, eta, weights, phi)
    np.testing.assert_allclose(upper, probability, rtol=1e-6)


def test_the_last_response_has_no_such_predictor():
    half, none = np.array([0.5]), np.zeros(0)
    assert bernoulli().eta_at(np.ones(1), half, None, none) == np.inf
    assert binomial().eta_at(np.ones(1), half, np.array([7.0]), none) == np.inf
    assert ORDINAL[0].eta_at(np.array([2.0]), half, None, np.array([0.0, 1.0])) == np.inf
