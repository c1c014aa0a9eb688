"""Small generalized mixed models to try the Laplace likelihood on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.design.membership import Membership
from ranef.engine.threads import Engine
from ranef.family import family
from ranef.learn.laplace import Laplace, origin
from ranef.learn.likelihood import likelihood
from ranef.learn.mode import Exact
from ranef.prior import Kind, Layout, Structure
from ranef.solve.rows import Block, Rows
from ranef.solve.weighted import weighing

FloatArray = npt.NDArray[np.float64]
ROWS = 300
FAMILIES = [
    ("bernoulli", "logit"),
    ("bernoulli", "cloglog"),
    ("poisson", "log"),
    ("negative_binomial", "log"),
    ("gamma", "log"),
    ("ordinal", "probit"),
]
TERMS = ["one factor", "crossed", "nested and crossed", "three crossed"]
BAGS = ["bag", "bags and crossed"]


def _blocks(name: str, x: FloatArray, rng: np.random.Generator) -> list[Block]:
    one, slope = np.ones((ROWS, 1)), np.column_stack([np.ones(ROWS), x])
    codes = [rng.permutation(np.arange(ROWS) % levels).astype(np.int32) for levels in (25, 12, 6)]
    parent = (codes[1] // 3).astype(np.int32)
    units = np.concatenate([np.arange(9), rng.integers(0, 9, ROWS - 9)]).astype(np.int32) if name in BAGS else codes[2]

    def bag(levels: int) -> Membership:
        """Nine units of three levels each."""
        level = np.sort(np.arange(27).reshape(9, 3) % levels, axis=1).astype(np.int32)
        return Membership(3 * np.arange(10), level.reshape(-1), rng.uniform(0.4, 0.8, 27))

    if name in BAGS:
        crossed = [Block(codes[0], 25, one), Block(codes[2], 6, one)] if name == "bags and crossed" else []
        return [*crossed, Block(units, 7, slope, bag(7)), Block(units[::-1].copy(), 10, one, bag(10))]
    return {
        "one factor": [Block(codes[0], 25, slope)],
        "crossed": [Block(codes[0], 25, slope), Block(codes[1], 12, one)],
        "nested and crossed": [Block(codes[1], 12, one), Block(parent, 4, slope), Block(codes[2], 6, one)],
        "three crossed": [Block(codes[0], 25, one), Block(codes[1], 12, slope), Block(codes[2], 6, one)],
    }[name]


def laplace_problem(
    terms: str, name: str, link: str, joint: bool, pool: Engine, kind: Kind = "full"
) -> tuple[Laplace, FloatArray]:
    """A problem, and parameters to evaluate it at."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal(ROWS)
    blocks = _blocks(terms, x, rng)
    layout = Layout(tuple((Structure(kind, block.size),) for block in blocks))
    member, fixed, phi = family(name, link), np.column_stack([np.ones(ROWS), x]), np.zeros(0)
    if name == "ordinal":
        member, fixed, phi = member.with_categories(("a", "b", "c", "d")), fixed[:, 1:], np.array([-1.0, 0.0, 1.1])
    elif member.parameters:
        phi = np.array([0.4])
    y = member.simulate(rng, 0.3 + 0.4 * x + 0.5 * rng.standard_normal(25)[blocks[0].codes % 25], None, phi)
    beta = np.array([0.2, 0.3])[-fixed.shape[1] :]
    theta = layout.project([np.eye(block.size) * 0.4 + 0.1 for block in blocks])
    pattern = weighing(Rows(np.zeros(ROWS), fixed, tuple(blocks)), pool)
    problem = Laplace(
        likelihood(member, pattern, y, None, None), layout, joint, Exact(1e-10), origin(pattern.cross, beta)
    )
    return problem, np.concatenate([theta, np.zeros(0) if joint else beta, phi])
