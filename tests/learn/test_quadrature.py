"""The likelihood by quadrature: against the integrals themselves, differences, and the Laplace approximation."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from scipy.integrate import quad

import ranef
from ranef.design.build import build_design
from ranef.engine.threads import Engine, engine
from ranef.errors import OptionError
from ranef.family import Family, family
from ranef.formula import parse
from ranef.learn.generalized import fit_generalized, prepare_generalized
from ranef.learn.laplace import Laplace, origin
from ranef.learn.likelihood import likelihood
from ranef.learn.mode import Exact
from ranef.learn.quadrature import Quadrature
from ranef.prior import Layout, Structure
from ranef.solve.rows import Block, Rows
from ranef.solve.weighted import weighing
from ranef.table import open_source

FloatArray = npt.NDArray[np.float64]
ROWS, LEVELS = 240, 30
LAYOUT = Layout(((Structure("full", 1),),))
FAMILIES = [
    ("bernoulli", "logit"),
    ("bernoulli", "probit"),
    ("bernoulli", "cloglog"),
    ("binomial", "logit"),
    ("poisson", "log"),
    ("negative_binomial", "log"),
    ("gamma", "log"),
    ("ordinal", "logit"),
]


def _case(name: str, link: str, slope: bool) -> tuple[Family, FloatArray, FloatArray, FloatArray, Rows, FloatArray]:
    """Family, response, weights, offset, rows and ``phi`` of a small simulated model."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal(ROWS)
    # levels of one to many rows
    codes = rng.permutation(np.sort(rng.integers(0, LEVELS, ROWS) * rng.integers(1, 3, ROWS) // 2)).astype(np.int32)
    z = (x if slope else np.ones(ROWS))[:, None]
    member, fixed, phi = family(name, link), np.column_stack([np.ones(ROWS), x]), np.zeros(0)
    if name == "ordinal":
        member, fixed, phi = member.with_categories(("a", "b", "c")), fixed[:, 1:], np.array([-0.7, 0.8])
    elif member.parameters:
        phi = np.array([0.4])
    weights = rng.integers(1, 4, ROWS).astype(float)
    offset = 0.2 * rng.standard_normal(ROWS)
    at = 0.2 + 0.4 * x + offset + z[:, 0] * 0.9 * rng.standard_normal(LEVELS)[codes]
    y = member.simulate(rng, at, weights, phi)
    return member, y, weights, offset, Rows(np.zeros(ROWS), fixed, (Block(codes, LEVELS, z),)), phi


def _problem(pool: Engine, name: str, link: str, slope: bool, nodes: int) -> tuple[Quadrature, FloatArray]:
    member, y, weights, offset, rows, phi = _case(name, link, slope)
    pattern = weighing(rows, pool)
    beta = np.array([0.2, 0.3])[-rows.x.shape[1] :]
    of = likelihood(member, pattern, y, weights, offset)
    problem = Quadrature(of, LAYOUT, False, Exact(1e-10), origin(pattern.cross, beta), nodes=nodes)
    return problem, np.concatenate([[0.8], beta, phi])


@pytest.mark.parametrize("slope", [False, True])
@pytest.mark.parametrize(("name", "link"), FAMILIES)
def test_many_nodes_are_the_integral(name: str, link: str, slope: bool) -> None:
    member, y, weights, offset, rows, phi = _case(name, link, slope)
    with engine(1) as pool:
        problem, parameters = _problem(pool, name, link, slope, 40)
        found = problem.evaluate(parameters)
    lam, beta = parameters[0], parameters[1 : 1 + rows.x.shape[1]]
    fixed, block = rows.x @ beta + offset, rows.blocks[0]
    total = member.constant(y, weights)
    for level in range(LEVELS):
        own = block.codes == level
        z = block.covariates[own, 0]

        def density(u: float, own: npt.NDArray[np.bool_] = own, z: FloatArray = z) -> float:
            value = member.loglik(y[own], fixed[own] + lam * z * u, weights[own], phi).sum()
            return float(np.exp(value - u * u / 2) / np.sqrt(2 * np.pi))

        points = np.linspace(-9, 9, 19)
        total += np.log(sum(quad(density, a, b, epsabs=0, epsrel=1e-10)[0] for a, b in pairwise(points)))
    assert found.deviance == pytest.approx(-2 * total, abs=1e-6)


@pytest.mark.parametrize("name", ["bernoulli", "poisson", "ordinal"])
def test_one_node_is_laplace(name: str) -> None:
    with engine(2) as pool:
        problem, parameters = _problem(pool, name, "log" if name == "poisson" else "logit", True, 1)
        laplace = Laplace(problem.of, problem.layout, False, problem.solver, problem.start).evaluate(parameters)
        found = problem.evaluate(parameters)
    assert found.deviance == pytest.approx(laplace.deviance, abs=1e-8)
    np.testing.assert_allclose(found.gradient, laplace.gradient, atol=1e-7)
    np.testing.assert_allclose(found.slopes[0], laplace.slopes[0], rtol=1e-7)
    np.testing.assert_allclose(found.metric, laplace.metric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("nodes", [2, 7])
@pytest.mark.parametrize("slope", [False, True])
@pytest.mark.parametrize(("name", "link"), FAMILIES)
def test_the_gradient_is_that_of_the_deviance(name: str, link: str, slope: bool, nodes: int) -> None:
    with engine(1) as pool:
        problem, parameters = _problem(pool, name, link, slope, nodes)
        at = problem.evaluate(parameters)
        for j in range(len(parameters)):
            step = np.zeros(len(parameters))
            step[j] = 1e-4
            far, near = (
                problem.evaluate(parameters + k * step, at).deviance
                - problem.evaluate(parameters - k * step, at).deviance
                for k in (2, 1)
            )
            # five-point difference: error of the fourth order in the step
            assert at.gradient[j] == pytest.approx((8 * near - far) / 12e-4, rel=1e-6, abs=1e-6)


def test_at_a_zero_variance_the_slope_is_that_by_the_variance() -> None:
    with engine(1) as pool:
        problem, parameters = _problem(pool, "bernoulli", "logit", False, 9)
        parameters[0] = 0.0
        at = problem.evaluate(parameters)
        small = problem.evaluate(np.concatenate([[1e-3], parameters[1:]]))
    assert at.gradient[0] == 0
    assert (small.deviance - at.deviance) / 1e-6 == pytest.approx(at.slopes[0][0, 0], rel=1e-4)


def test_threads_change_no_bit() -> None:
    out = []
    for threads in (1, 2):
        with engine(threads) as pool:
            problem, parameters = _problem(pool, "bernoulli", "logit", False, 5)
            at = problem.evaluate(parameters)
            out.append((at.deviance, *at.gradient))
    assert out[0] == out[1]


def _binary(levels: int, rows: int, sd: float, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    g, x = np.repeat(np.arange(levels), rows), rng.standard_normal(levels * rows)
    p = 1 / (1 + np.exp(-(-0.5 + 0.7 * x + sd * rng.standard_normal(levels)[g])))
    return pa.table({"y": (rng.random(len(g)) < p).astype(float), "x": x, "g": g, "h": g // 2, "i": rng.permutation(g)})


def test_a_fit_recovers_what_laplace_underestimates() -> None:
    # two rows a level: Laplace's standard deviation is far below the truth
    table = _binary(6_000, 3, 1.5, 5)
    design = build_design(parse("y ~ x + (1 | g)"), open_source(table), kind="binary")
    with engine(2) as pool:
        one, many = (
            fit_generalized(design, family("bernoulli"), "laplace", pool, quadrature=nodes) for nodes in (1, 15)
        )
        prepared = prepare_generalized(design, family("bernoulli"), pool)
    assert prepared.layout.sizes == (1,)
    assert many.info.converged
    sd, se = many.varcorr[0].sdcor, many.varcorr[0].se / (2 * many.varcorr[0].sdcor)
    assert abs(sd - 1.5) < 3 * se
    assert one.varcorr[0].sdcor < sd - 3 * se
    for estimate, error, truth in zip(many.beta, np.sqrt(np.diag(many.vcov)), (-0.5, 0.7), strict=True):
        assert abs(estimate - truth) < 3 * error


def test_a_singular_fit_stays_at_the_boundary() -> None:
    # every level has the same mean: they differ less than chance would make them
    table = pa.table({"y": np.tile([0.0, 1.0], 100), "g": np.repeat(np.arange(100), 2)})
    design = build_design(parse("y ~ 1 + (1 | g)"), open_source(table), kind="binary")
    with engine(1) as pool:
        model = fit_generalized(design, family("bernoulli"), "laplace", pool, quadrature=11)
    assert model.info.singular
    assert model.varcorr[0].vcov == 0


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("y ~ x", "no random term"),
        ("y ~ x + (1 + x | g)", "2 for each level of g"),
        ("y ~ x + (1 | g) + (1 | i)", "random terms on g, i"),
    ],
)
def test_models_without_one_scalar_term_are_refused(formula: str, words: str) -> None:
    design = build_design(parse(formula), open_source(_binary(10, 4, 1.0, 2)), kind="binary")
    with engine(1) as pool, pytest.raises(OptionError, match=words):
        fit_generalized(design, family("bernoulli"), "laplace", pool, quadrature=5)


def test_quadrature_settles_as_nodes_are_added() -> None:
    with engine(1) as pool:
        problem, parameters = _problem(pool, "poisson", "log", False, 3)
        values = [replace(problem, nodes=k).evaluate(parameters).deviance for k in (5, 10, 20, 40, 80)]
    errors = np.abs(np.array(values[:-1]) - values[-1])
    assert errors[0] < 1e-2
    assert errors[1] < 1e-4
    assert np.all(errors[2:] < 1e-7)


def test_the_front_door_takes_quadrature() -> None:
    table = _binary(40, 4, 1.0, 2)
    one, fit = (ranef.fit("y ~ x + (1 | g)", table, family="bernoulli", quadrature=k) for k in (1, 9))
    assert fit.model.info.quadrature == 9
    # the same scale: less than one apart
    assert 0 < abs(one.loglik - fit.loglik) < 1
    assert fit.update(". ~ . - x").model.info.quadrature == 9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quadrature": 0}, "at least 1"),
        ({"quadrature": 101}, "at most 100"),
        ({"quadrature": 5, "method": "joint"}, "method='laplace'"),
        ({"quadrature": 5, "family": "gaussian"}, "the likelihood is exact"),
        ({"nAGQ": 5}, "use quadrature="),
    ],
)
def test_what_quadrature_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        ranef.fit("y ~ x + (1 | g)", _binary(10, 4, 1.0, 2), **{"family": "bernoulli", **options})
