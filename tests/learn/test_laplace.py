"""The Laplace deviance: its gradient against differences of its value, for every kind of term and family."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ranef.engine.threads import engine
from ranef.family import family
from ranef.learn.laplace import Laplace, origin
from ranef.learn.likelihood import likelihood
from ranef.learn.mode import Exact
from ranef.prior import Layout, Structure
from ranef.solve.rows import Block, Rows
from ranef.solve.weighted import weighing

FloatArray = npt.NDArray[np.float64]
ROWS = 300


def _blocks(name: str, x: FloatArray, rng: np.random.Generator) -> list[Block]:
    one, slope = np.ones((ROWS, 1)), np.column_stack([np.ones(ROWS), x])
    codes = [rng.permutation(np.arange(ROWS) % levels).astype(np.int32) for levels in (25, 12, 6)]
    parent = (codes[1] // 3).astype(np.int32)
    return {
        "one factor": [Block(codes[0], 25, slope)],
        "crossed": [Block(codes[0], 25, slope), Block(codes[1], 12, one)],
        "nested and crossed": [Block(codes[1], 12, one), Block(parent, 4, slope), Block(codes[2], 6, one)],
        "three crossed": [Block(codes[0], 25, one), Block(codes[1], 12, slope), Block(codes[2], 6, one)],
    }[name]


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("bernoulli", "logit"),
        ("bernoulli", "cloglog"),
        ("poisson", "log"),
        ("negative_binomial", "log"),
        ("gamma", "log"),
        ("ordinal", "probit"),
    ],
)
@pytest.mark.parametrize("terms", ["one factor", "crossed", "nested and crossed", "three crossed"])
def test_the_gradient_is_that_of_the_deviance(terms: str, name: str, link: str, joint: bool) -> None:
    rng = np.random.default_rng(7)
    x = rng.standard_normal(ROWS)
    blocks = _blocks(terms, x, rng)
    layout = Layout(tuple((Structure("full", block.size),) for block in blocks))
    member, fixed, phi = family(name, link), np.column_stack([np.ones(ROWS), x]), np.zeros(0)
    if name == "ordinal":
        member, fixed, phi = member.with_categories(("a", "b", "c", "d")), fixed[:, 1:], np.array([-1.0, 0.0, 1.1])
    elif member.parameters:
        phi = np.array([0.4])
    y = member.simulate(rng, 0.3 + 0.4 * x + 0.5 * rng.standard_normal(25)[blocks[0].codes % 25], None, phi)
    beta = np.array([0.2, 0.3])[-fixed.shape[1] :]
    theta = layout.project([np.eye(block.size) * 0.4 + 0.1 for block in blocks])
    with engine(2) as pool:
        pattern = weighing(Rows(np.zeros(ROWS), fixed, tuple(blocks)), pool)
        problem = Laplace(
            likelihood(member, pattern, y, None, None), layout, joint, Exact(1e-10), origin(pattern.cross, beta)
        )
        parameters = np.concatenate([theta, np.zeros(0) if joint else beta, phi])
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
