"""Latent variables: truncated normals, and working rows that reproduce the likelihood on average."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest, truncnorm

from ranef.errors import DataError, OptionError
from ranef.family import family
from ranef.learn.augment import (
    augmentation_of,
    check_weights,
    normal_rows,
    polya_gamma_rows,
    truncated_normal,
)

INF = np.inf


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        (0, INF),
        (-INF, 0),
        (3, INF),
        (9, INF),
        (40, INF),
        (-INF, -40),
        (-INF, 30),
        (-1, 2),
        (5, 5.1),
        (-0.001, 9),
        (-INF, INF),
    ],
)
def test_truncated_normals(lower: float, upper: float) -> None:
    drawn = truncated_normal(np.full(20_000, float(lower)), np.full(20_000, float(upper)), np.random.default_rng(1))
    assert np.all((drawn >= lower) & (drawn <= upper))
    assert kstest(drawn, truncnorm(lower, upper).cdf).pvalue > 1e-3


def test_truncated_normals_far_out_follow_the_exponential_law() -> None:
    drawn = truncated_normal(np.full(10_000, 1e4), np.full(10_000, INF), np.random.default_rng(1))
    assert kstest((drawn - 1e4) * 1e4, "expon").pvalue > 1e-3
    drawn = truncated_normal(np.full(10_000, 300.0), np.full(10_000, 300.001), np.random.default_rng(1))
    assert kstest(1000 * (drawn - 300), truncnorm.cdf, args=(0, 1, 0, 1)).statistic < 1
    assert np.all((drawn >= 300) & (drawn <= 300.001))


def test_polya_gamma_rows_average_to_the_likelihood() -> None:
    # log of the mean of exp(r eta - w eta^2 / 2) over w ~ PG(n, 0) is the log-likelihood but for its constant
    rng = np.random.default_rng(2)
    y, trials = np.array([1.0, 0.0, 0.25]), np.array([1.0, 1.0, 4.0])
    eta = np.array([0.8, -1.2, 0.5])
    many = np.repeat(np.arange(3), 100_000)
    weight, response = polya_gamma_rows(y[many], np.zeros(len(many)), trials[many], rng)
    terms = np.exp(response * eta[many] - weight * eta[many] ** 2 / 2).reshape(3, -1)
    expected = np.exp(trials * y * eta) / (1 + np.exp(eta)) ** trials * 2.0**trials
    assert np.all(np.abs(terms.mean(axis=1) - expected) < 4 * terms.std(axis=1) / np.sqrt(terms.shape[1]))


def test_a_probit_row_that_counts_thrice_has_three_normals() -> None:
    rng = np.random.default_rng(3)
    count = 50_000
    limits = np.zeros(count), np.full(count, INF)
    eta = np.full(count, 0.4)
    weight, response = normal_rows(*limits, eta, np.full(count, 3.0), rng)
    mean, variance = truncnorm.stats(-0.4, INF)
    assert np.all(weight == 3)
    assert response.mean() == pytest.approx(3 * (0.4 + mean), abs=4 * np.sqrt(3 * variance / count))
    assert response.var() == pytest.approx(3 * variance, rel=0.03)
    one = normal_rows(*limits, eta, None, rng)
    assert np.all(one[0] == 1)
    assert one[1].mean() == pytest.approx(0.4 + mean, abs=4 * np.sqrt(variance / count))


def test_families() -> None:
    assert augmentation_of(family("gaussian")) == "none"
    for name, link in [("bernoulli", "cloglog"), ("poisson", "log"), ("ordinal", "logit"), ("binomial", "probit")]:
        with pytest.raises(OptionError, match="bernoulli with link logit or probit"):
            augmentation_of(family(name, link))


def test_weights_of_probit_rows_are_whole() -> None:
    check_weights(family("bernoulli", "probit"), np.array([1.0, 3.0]))
    check_weights(family("bernoulli", "logit"), np.array([1.5]))
    with pytest.raises(DataError, match=r"whole numbers, how often a row counts; 1 are not, the first in row 1"):
        check_weights(family("bernoulli", "probit"), np.array([1.0, 1.5]))
