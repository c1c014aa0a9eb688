"""The stochastic Laplace score against the exact one, within the Monte-Carlo errors that it reports."""

from __future__ import annotations

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.learn.laplace import evaluate_laplace
from ranef.learn.stochastic_laplace import estimate_laplace, extrapolated, laplace_deviance, laplace_equations
from ranef.prior import Kind
from ranef.solve import order, weighted
from tests.learn.laplace_problems import BAGS, FAMILIES, TERMS, laplace_problem

CASES = [(terms, *member) for terms in TERMS[1:] for member in FAMILIES]
CASES += [(BAGS[1], *FAMILIES[0]), (BAGS[1], *FAMILIES[5])]


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(("terms", "name", "link"), CASES)
def test_the_score_is_the_exact_one_but_for_its_error(terms: str, name: str, link: str, joint: bool) -> None:
    with engine(2) as pool:
        problem, parameters = laplace_problem(terms, name, link, joint, pool)
        exact = evaluate_laplace(problem, parameters, problem.start)
        found = estimate_laplace(laplace_equations(problem, 64, 0), parameters, None, 1e-6)
    for a, b in zip(exact.scores, found.scores, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-4 * np.abs(a).max())
    np.testing.assert_allclose(found.information, exact.information, rtol=1e-4, atol=1e-4 * exact.information.max())
    # 64 probes: a t distribution with 63 degrees of freedom; five errors are never exceeded by chance
    errors = np.sqrt(np.diag(found.gradient_covariance))
    assert np.all(np.abs(found.gradient - exact.gradient) < 5 * errors + 1e-3)
    for a, b, e in zip(exact.slopes, found.slopes, found.slope_errors, strict=True):
        assert np.all(np.abs(b - a) < 5 * e + 1e-3)


def test_the_mean_over_seeds_is_the_exact_score_and_the_errors_are_honest() -> None:
    with engine(1) as pool:
        problem, parameters = laplace_problem("crossed", "bernoulli", "logit", False, pool)
        exact = evaluate_laplace(problem, parameters, problem.start).gradient
        values, errors = [], []
        at = None
        for seed in range(100):
            at = estimate_laplace(laplace_equations(problem, 8, seed), parameters, at, 1e-6)
            values.append(at.gradient - exact)
            errors.append(np.sqrt(np.diag(at.gradient_covariance)))
    spread = np.std(values, axis=0)
    # a mean of 100 is off by more than 4 of its errors once in 10,000 times
    assert np.all(np.abs(np.mean(values, axis=0)) < 4 * spread / 10)
    # the mean square of the reported errors is the variance, up to 14 % for 100 normal draws
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(errors), axis=0)), spread, rtol=0.4)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("kind", ["diagonal", "identity"])
def test_structured_covariances(kind: Kind, joint: bool) -> None:
    with engine(1) as pool:
        problem, parameters = laplace_problem("three crossed", "poisson", "log", joint, pool, kind)
        exact = evaluate_laplace(problem, parameters, problem.start)
        found = estimate_laplace(laplace_equations(problem, 64, 1), parameters, None, 1e-6)
    np.testing.assert_allclose(found.information, exact.information, rtol=1e-4, atol=1e-4 * exact.information.max())
    errors = np.sqrt(np.diag(found.gradient_covariance))
    assert np.all(np.abs(found.gradient - exact.gradient) < 5 * errors + 1e-3)


def test_a_variance_of_zero_is_an_ordinary_point() -> None:
    with engine(1) as pool:
        problem, parameters = laplace_problem("crossed", "bernoulli", "logit", False, pool)
        parameters[problem.layout.slices[1]] = 0.0
        exact = evaluate_laplace(problem, parameters, problem.start)
        found = estimate_laplace(laplace_equations(problem, 64, 0), parameters, None, 1e-6)
    for a, b, e in zip(exact.slopes, found.slopes, found.slope_errors, strict=True):
        assert np.all(np.abs(b - a) < 5 * e + 1e-3)


@pytest.mark.parametrize(("name", "link"), FAMILIES)
def test_the_deviance(name: str, link: str) -> None:
    with engine(1) as pool:
        problem, parameters = laplace_problem("three crossed", name, link, False, pool)
        exact = evaluate_laplace(problem, parameters, problem.start).deviance
        at = estimate_laplace(laplace_equations(problem, 8, 0), parameters, None, 1e-6)
        draws = laplace_deviance(problem, at, "abc", 64, 1)
    error = draws.std() / 8
    assert abs(draws.mean() - exact) < 5 * error + 1e-3
    assert error < 0.5


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "ROWS_A_PARTITION", 20)
    monkeypatch.setattr(weighted, "ROWS_A_RANGE", 64)
    results = []
    for threads in (1, 2, 5):
        with engine(threads) as pool:
            problem, parameters = laplace_problem("nested and crossed", "ordinal", "probit", False, pool)
            found = estimate_laplace(laplace_equations(problem, 8, 0), parameters, None, 1e-4)
            results.append([found.gradient, found.metric, *found.slopes, *found.scores])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_modes_are_extrapolated_to_first_order() -> None:
    with engine(1) as pool:
        problem, parameters = laplace_problem("crossed", "poisson", "log", False, pool)
        equations = laplace_equations(problem, 2, 0)
        at = estimate_laplace(equations, parameters, None, 1e-6)
        direction = np.random.default_rng(0).standard_normal(len(parameters))
        lengths = []
        for step in (0.02, 0.01):
            moved = parameters + step * direction
            guess = extrapolated(problem, at, moved)
            mode = estimate_laplace(equations, moved, at, 1e-6).mode.u
            lengths.append(
                max(np.abs(a - b).max() for a, b in zip(guess.stages, mode.stages, strict=True))
                + np.abs(guess.rest - mode.rest)[: problem.cross.random].max()
            )
    # half the step, a quarter of the error
    assert lengths[1] < 0.3 * lengths[0]
