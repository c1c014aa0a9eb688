"""The profiled criterion: values and gradients against dense algebra, differences and lme4."""

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.learn.criterion import Criterion, deviance, evaluate
from ranef.learn.gaussian import prepare, theta_of
from ranef.prior import factor_of
from ranef.solve.cross_products import cross_products
from tests.golden_fits import GOLDEN, design_of
from tests.oracle import KINDS, dense, example, some_theta

CASES = [(kind, reml, weighted) for kind in KINDS for reml in (False, True) for weighted in (False, True)]


def criterion_of(rows, layout, reml, pool):
    return Criterion(cross_products(rows, pool), layout, reml, pool)


@pytest.mark.parametrize(("kind", "reml", "weighted"), CASES)
def test_value_gradient_and_information(kind, reml, weighted):
    rows, layout = example(kind, weighted=weighted)
    theta = some_theta(layout)
    with engine(1) as pool:
        criterion = criterion_of(rows, layout, reml, pool)
        at = evaluate(criterion, theta)
        oracle = dense(rows, layout, theta)
        np.testing.assert_allclose(at.deviance, oracle.deviance(reml), rtol=1e-12)
        assert at.deviance == deviance(criterion, theta)
        # central differences of a value near 300 with step 1e-5: error 1e-16 * 300 / 1e-5 and h^2
        for j in range(len(theta)):
            h = np.zeros_like(theta)
            h[j] = 1e-5
            difference = (deviance(criterion, theta + h) - deviance(criterion, theta - h)) / 2e-5
            np.testing.assert_allclose(at.gradient[j], difference, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(at.metric - curvature(layout, at), information(rows, layout, theta, reml), rtol=1e-7)


def curvature(layout, at):
    """The positive part of what the curvature of Sigma(Lambda) adds, by its definition."""
    out = np.zeros((layout.parameters,) * 2)
    for part, basis, slope in zip(layout.slices, layout.basis, at.slopes, strict=True):
        values, vectors = np.linalg.eigh((slope + slope.T) / 2)
        positive = vectors @ np.diag(values.clip(0)) @ vectors.T
        for i, a in enumerate(basis):
            for j, b in enumerate(basis):
                out[part.start + i, part.start + j] = 2 * np.trace(positive @ b @ a.T)
    return out


def information(rows, layout, theta, reml):
    """Average information of the profiled deviance from dense matrices."""
    oracle = dense(rows, layout, theta)
    n, p = rows.x.shape
    nu = n - p if reml else n
    py = oracle.projection @ rows.y
    sigma2 = rows.y @ py / nu
    working = []
    for j in range(len(theta)):
        h = np.zeros_like(theta)
        h[j] = 0.5  # V is quadratic in theta: the central difference is exact
        change = dense(rows, layout, theta + h).v - dense(rows, layout, theta - h).v
        working.append(change @ py)
    f = np.array(working).T
    first = f.T @ py / sigma2
    return f.T @ oracle.projection @ f / sigma2 - np.outer(first, first) / nu


@pytest.mark.parametrize("kind", ["crossed", "slope", "chain"])
def test_at_zero_variances_the_slope_is_the_derivative_by_the_variance(kind):
    rows, layout = example(kind)
    with engine(1) as pool:
        criterion = criterion_of(rows, layout, True, pool)
        zero = np.zeros(layout.parameters)
        at = evaluate(criterion, zero)
        np.testing.assert_array_equal(at.gradient, 0)
        for part, basis, slope in zip(layout.slices, layout.basis, at.slopes, strict=True):
            for j, change in enumerate(basis):
                i = np.argmax(np.abs(change)) // len(change)
                if not change[i, i]:
                    continue
                # forward difference in the variance lambda^2 = 1e-6: relative error about 1e-4
                theta = zero.copy()
                theta[part.start + j] = 1e-3
                difference = (deviance(criterion, theta) - at.deviance) / 1e-6
                np.testing.assert_allclose(np.sum(slope * (change @ change.T)), difference, rtol=2e-3)


def test_dyestuff_at_the_published_point():
    golden = next(g for g in GOLDEN if g["name"] == "dyestuff-ml")
    with engine(1) as pool:
        problem = prepare(design_of(golden), "ml", pool)
        theta = theta_of(problem, {"Batch": np.array([[0.713**2]])})
        assert deviance(problem.criterion, theta) == pytest.approx(327.34216280954615, rel=1e-12)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda g: g["name"])
def test_lme4s_criterion_at_given_theta(golden):
    with engine(2) as pool:
        problem = prepare(design_of(golden), golden["method"].lower(), pool)
        for point in golden["objective_at"]:
            relative = relative_covariances(problem, golden, point["theta"])
            value = deviance(problem.criterion, theta_of(problem, relative))
            # lme4's own value carries rounding of about 1e-10
            assert value == pytest.approx(point["value"], rel=1e-9)


def relative_covariances(problem, golden, theta):
    """lme4's theta: terms by decreasing number of levels (ties in order of the formula), columns of Lambda."""
    theta = list(np.atleast_1d(theta))
    out = {}
    for spec in problem.design.spec.groups:
        k = len(spec.coefficients)
        factor = np.zeros((k, k))
        for term in spec.terms:
            for j in range(term.size):
                for i in range(j, term.size):
                    factor[term.start + i, term.start + j] = theta.pop(0)
        out[spec.name] = factor @ factor.T
    assert not theta
    return out


def test_factor_of_a_singular_covariance():
    for root in ([[1.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 0.0]]):
        covariance = np.array(root) @ np.array(root).T
        np.testing.assert_allclose(factor_of(covariance) @ factor_of(covariance).T, covariance, atol=1e-14)
