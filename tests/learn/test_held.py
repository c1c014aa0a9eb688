"""Held parameters: the gradient over what is free is that of the deviance, whatever is given."""

from __future__ import annotations

import numpy as np
import pytest

from ranef.engine.threads import engine
from ranef.learn.criterion import Criterion, Evaluation
from ranef.learn.held import Given, Held, hold
from ranef.learn.unprofiled import Unprofiled
from ranef.prior import Layout
from ranef.solve.cross_products import cross_products
from tests.oracle import dense, example, some_theta

KINDS = ("slope", "two terms", "identity", "crossed slopes", "chain and crossed")


def given_of(layout: Layout, which: str, sigma2: float | None) -> Given:
    """Covariances of the first term of each factor, of all terms, or of none."""
    rng = np.random.default_rng(3)
    out = []
    for terms in layout.blocks:
        mine = []
        for t, structure in enumerate(terms):
            root = np.eye(structure.size) + 0.3 * np.tril(rng.normal(size=(structure.size,) * 2), -1)
            covariance = {"full": 0.7 * root @ root.T}.get(structure.kind, 0.7 * np.eye(structure.size))
            mine.append(covariance if which == "all" or (which == "first" and t == 0) else None)
        out.append(tuple(mine))
    return Given(tuple(out), sigma2, ())


@pytest.mark.parametrize("sigma2", [None, 0.8])
@pytest.mark.parametrize("which", ["none", "first", "all"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reml", [False, True])
def test_the_gradient_over_what_is_free(kind, which, sigma2, reml):
    rows, layout = example(kind, weighted=True)
    z_back = [np.eye(k) for k in layout.sizes]
    holding = hold(layout, given_of(layout, which, sigma2), z_back, 1.0, 1, gaussian=True)
    with engine(1) as pool:
        criterion = Criterion(cross_products(rows, pool), layout, reml, pool)
        held = Held(Unprofiled[Evaluation](criterion, criterion), holding)
        theta = np.append(some_theta(layout), np.log(1.1))[holding.free]
        at = held.evaluate(theta)
        assert len(at.gradient) == len(theta)
        whole = holding.whole(theta)
        # the deviance by the covariance matrix of all rows
        model, value = dense(rows, layout, whole[:-1]), np.exp(whole[-1])
        n, p = rows.x.shape
        quadratic = rows.y @ model.projection @ rows.y / value
        want = np.linalg.slogdet(model.v)[1] + (n - p * reml) * np.log(2 * np.pi * value) + quadratic
        if reml:
            want += np.linalg.slogdet(rows.x.T @ model.precision @ rows.x)[1]
        assert at.deviance == pytest.approx(want, rel=1e-10)
        for j in range(len(theta)):
            step = np.zeros(len(theta))
            step[j] = 1e-4
            ahead, behind = held.evaluate(theta + step), held.evaluate(theta - step)
            difference = (ahead.deviance - behind.deviance) / 2e-4
            assert at.gradient[j] == pytest.approx(difference, rel=1e-6, abs=1e-5)
        if len(theta):
            assert np.linalg.eigvalsh(at.information)[0] > -1e-8 * np.linalg.eigvalsh(at.information)[-1]


def test_what_was_given_stays_what_it_is_while_sigma_moves():
    _, layout = example("crossed slopes")
    given = given_of(layout, "first", None)
    holding = hold(layout, given, [2 * np.eye(k) for k in layout.sizes], 3.0, 1, gaussian=True)
    for log_sigma2 in (-1.0, 0.0, 2.0):
        whole = holding.whole(np.array([log_sigma2]))
        for factor, (covariance,) in zip(layout.factors(whole[:-1]), given.covariances, strict=True):
            raw = 9.0 * np.exp(log_sigma2) * 4.0 * factor @ factor.T
            np.testing.assert_allclose(raw, covariance, rtol=1e-12)
