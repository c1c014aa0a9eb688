"""Dense mixed models by the covariance matrix of all rows: slow, short, independent of ranef's algebra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ranef.design.membership import Membership
from ranef.prior import Layout, Structure
from ranef.solve.rows import Block, Rows


@dataclass(frozen=True)
class Dense:
    """``y ~ N(X beta, sigma^2 V)`` with ``V = W^-1 + Z S Z'``; ``s`` is block-diagonal over all random effects."""

    y: np.ndarray
    x: np.ndarray
    z: np.ndarray
    s: np.ndarray
    v: np.ndarray
    weights: np.ndarray

    @property
    def precision(self):
        return np.linalg.inv(self.v)

    @property
    def projection(self):
        """``P`` of REML."""
        vi = self.precision
        vx = vi @ self.x
        return vi - vx @ np.linalg.solve(self.x.T @ vx, vx.T)

    def beta(self):
        vx = self.precision @ self.x
        return np.linalg.solve(self.x.T @ vx, vx.T @ self.y)

    def modes(self):
        return self.s @ self.z.T @ self.precision @ (self.y - self.x @ self.beta())

    def deviance(self, reml):
        n, p = self.x.shape
        quadratic = self.y @ self.projection @ self.y
        nu = n - p if reml else n
        value = np.linalg.slogdet(self.v)[1] + nu * (1 + np.log(2 * np.pi * quadratic / nu))
        if reml:
            value += np.linalg.slogdet(self.x.T @ self.precision @ self.x)[1]
        return value


def dense(rows: Rows, layout: Layout, theta) -> Dense:
    """The dense model at ``theta``."""
    n = len(rows.y)
    zs, ss = [], []
    for block, factor in zip(rows.blocks, layout.factors(np.asarray(theta, float)), strict=True):
        k = block.size
        z = np.zeros((n, block.units * k))
        for c in range(k):
            z[np.arange(n), block.codes * k + c] = block.covariates[:, c]
        zs.append(z if block.membership is None else z @ np.kron(weights_of(block), np.eye(k)))
        ss.append(np.kron(np.eye(block.levels), factor @ factor.T))
    z = np.concatenate(zs, axis=1)
    s = np.zeros((z.shape[1],) * 2)
    at = 0
    for one in ss:
        s[at : at + len(one), at : at + len(one)] = one
        at += len(one)
    weights = np.ones(n) if rows.weights is None else rows.weights
    return Dense(rows.y, rows.x, z, s, np.diag(1 / weights) + z @ s @ z.T, weights)


BAGS = ("bag", "bags and crossed", "bag and chain")


def weights_of(block: Block) -> np.ndarray:
    """The membership of a block, shape (units, levels)."""
    out = np.zeros((block.units, block.levels))
    out[block.membership.unit, block.membership.level] = block.membership.weight
    return out


def example(kind: str, seed: int = 0, rows: int = 90, weighted: bool = False) -> tuple[Rows, Layout]:
    """Small random designs: one factor, crossed, nested chains, slopes, and all of them together."""
    rng = np.random.default_rng(seed)

    def codes(levels: int) -> np.ndarray:
        return np.concatenate([np.arange(levels), rng.integers(0, levels, rows - levels)]).astype(np.int32)

    def block(code: np.ndarray, k: int = 1) -> Block:
        covariates = np.column_stack([np.ones(rows), rng.normal(size=(rows, k - 1))])
        return Block(code, int(code.max()) + 1, covariates)

    def bag(units: int, levels: int, k: int = 1) -> Block:
        """Every level in some unit; the last unit is empty."""
        there = rng.random((units, levels)) < 0.4
        there[np.arange(levels) % (units - 1), np.arange(levels)] = True
        there[-1] = False
        unit, level = np.nonzero(there)
        start = np.concatenate([[0], np.cumsum(there.sum(axis=1))]).astype(np.int64)
        one = block(codes(units), k)
        return Block(
            one.codes, levels, one.covariates, Membership(start, level.astype(np.int32), rng.uniform(0.3, 1, len(unit)))
        )

    one = (Structure("full", 1),)
    inner = codes(12)
    middle = (inner % 6).astype(np.int32)
    outer = (middle % 3).astype(np.int32)
    made = {
        "one": ([block(codes(9))], [one]),
        "slope": ([block(codes(9), 2)], [(Structure("full", 2),)]),
        "diagonal": ([block(codes(9), 3)], [(Structure("diagonal", 3),)]),
        "identity": ([block(codes(9), 3)], [(Structure("identity", 3),)]),
        "two terms": ([block(codes(9), 3)], [(Structure("full", 1), Structure("full", 2))]),
        "crossed": ([block(codes(9)), block(codes(6))], [one, one]),
        "crossed slopes": (
            [block(codes(9), 2), block(codes(6), 3)],
            [(Structure("full", 2),), (Structure("full", 3),)],
        ),
        "nested": ([block(middle), block(inner)], [one, one]),
        "chain": (
            [block(inner, 2), block(middle), block(outer, 2)],
            [(Structure("full", 2),), one, (Structure("diagonal", 2),)],
        ),
        "chain and crossed": (
            [block(inner), block(codes(5), 2), block(middle, 2), block(codes(4))],
            [one, (Structure("full", 2),), (Structure("full", 2),), one],
        ),
    }
    if kind in BAGS:
        made |= {
            "bag": ([bag(8, 6, 2)], [(Structure("full", 2),)]),
            "bags and crossed": (
                [bag(10, 7, 2), block(codes(9)), block(codes(5), 2), bag(6, 4)],
                [(Structure("full", 2),), one, (Structure("full", 2),), one],
            ),
            "bag and chain": ([block(inner, 2), block(middle), bag(20, 14)], [(Structure("full", 2),), one, one]),
        }
    blocks, structures = made[kind]
    layout = Layout(tuple(structures))
    x = np.column_stack([np.ones(rows), rng.normal(size=(rows, 2))])
    y = x @ [1.0, -0.5, 0.3] + rng.normal(size=rows)
    for one_block in blocks:
        effects = rng.normal(size=(one_block.levels, one_block.size))
        if one_block.membership is not None:
            effects = weights_of(one_block) @ effects
        y = y + np.sum(effects[one_block.codes] * one_block.covariates, 1)
    weights = rng.uniform(0.5, 3.0, rows) if weighted else None
    return Rows(y, x, tuple(blocks), weights), layout


KINDS = (
    "one",
    "slope",
    "diagonal",
    "identity",
    "two terms",
    "crossed",
    "crossed slopes",
    "nested",
    "chain",
    "chain and crossed",
    *BAGS,
)


def some_theta(layout: Layout, seed: int = 0) -> np.ndarray:
    """A regular point: diagonals well above zero."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(scale=0.3, size=layout.parameters)
    for part, basis in zip(layout.slices, layout.basis, strict=True):
        theta[part] += np.where(np.einsum("pii->p", basis) > 0, 0.9, 0.0)
    return theta
