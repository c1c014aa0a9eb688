"""The Gibbs sampler leaves the joint distribution of parameters and data as it is (Geweke 2004, "Getting it right").

A chain alternates between a sweep given the data and new data given the parameters. Whatever is wrong with any
conditional distribution, Jacobian or prior moves its parameters away from their prior.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from ranef.design.build import build_design
from ranef.engine.threads import Engine, engine
from ranef.errors import FitError
from ranef.family import family
from ranef.formula import parse
from ranef.learn.chains import sweep
from ranef.learn.convergence import mean_error
from ranef.learn.gibbs import gaussian_products, prepare_target
from ranef.learn.hyperprior import Kind, Prior, Unit, inverse_wishart
from ranef.learn.moves import moves_of
from ranef.learn.sweep import State, Streams, Target, placed, streams, unit_covariance, with_unit
from ranef.table import open_source

FloatArray = npt.NDArray[np.float64]
ROWS, LEVELS = 30, 5
SWEEPS, PRIOR_DRAWS = 4_000, 40_000
SHORT = 0.1


@dataclass(frozen=True)
class Case:
    family: str
    link: str
    formula: str
    covariance: Kind = "half-t"
    weights: bool = False


CASES = {
    "gaussian": Case("gaussian", "identity", "y ~ x + (1 + x | g)"),
    "gaussian, weighted": Case("gaussian", "identity", "y ~ x + (1 | g) + (1 | h)", weights=True),
    "gaussian, inverse Wishart": Case("gaussian", "identity", "y ~ 1 + (1 + x | g)", "inverse-wishart"),
    "bernoulli": Case("bernoulli", "logit", "y ~ x + (1 + x | g)"),
    "bernoulli, diagonal": Case("bernoulli", "logit", "y ~ x + (1 + x || g)", "inverse-wishart"),
    "binomial": Case("binomial", "logit", "y ~ x + (1 | g) + (1 | h)", weights=True),
    "probit": Case("bernoulli", "probit", "y ~ x + homdiag(1 + x | g)"),
    "probit, inverse Wishart": Case("bernoulli", "probit", "y ~ 1 + (1 | g)", "inverse-wishart"),
    "ordinal": Case("ordinal", "probit", "y ~ x + (1 | g)"),
    "ordinal, crossed": Case("ordinal", "probit", "y ~ x + (1 + x | g) + (1 | h)"),
}


def _target(case: Case, pool: Engine, y: FloatArray | None = None) -> Target:
    rng = np.random.default_rng(1)
    g = np.arange(ROWS) % LEVELS
    start = rng.standard_normal(ROWS) if case.family == "gaussian" else np.arange(ROWS) % 2.0
    start = np.array(["a", "b", "c"])[np.arange(ROWS) % 3] if case.family == "ordinal" else start
    table = {
        "y": start,
        "x": rng.standard_normal(ROWS),
        "g": g,
        "h": rng.permutation(np.arange(ROWS) % 4),
        "o": 0.3 * rng.standard_normal(ROWS),
        "w": rng.integers(1, 4, ROWS).astype(float),
    }
    member = family(case.family, case.link)
    design = build_design(
        parse(case.formula),
        open_source(pa.table(table)),
        kind=member.kind,
        offset="o",
        weights="w" if case.weights else None,
    )
    prior = Prior(case.covariance, df=5.0, sd=0.8, residual=0.9, fixed=0.7)
    return prepare_target(design, member, pool, prior)[0]


def _prior_covariance(unit: Unit, rng: np.random.Generator) -> FloatArray:
    k = unit.size
    if unit.kind == "inverse-wishart":
        return inverse_wishart(unit.df, unit.df * np.diag(unit.scale**2), rng)
    inverse_a = rng.gamma(0.5, unit.scale**2)
    return inverse_wishart(unit.df + k - 1, 2 * unit.df * np.diag(inverse_a), rng)


def _prior_state(target: Target, rng: np.random.Generator) -> State:
    layout = [(b.shape[0], b.shape[1]) for b in _empty(target)]
    covariances = tuple(np.eye(k) for _, k in layout)
    for unit in target.units:
        covariances = with_unit(unit, covariances, _prior_covariance(unit, rng))
    blocks = tuple(
        rng.standard_normal(shape) @ np.linalg.cholesky(c).T for shape, c in zip(layout, covariances, strict=True)
    )
    raw = rng.standard_normal(len(target.fixed.beta)) * target.fixed.beta**-0.5
    beta = np.linalg.solve(target.to_raw, raw - target.scaling.least_squares)
    phi = np.zeros(0)
    if target.residual is not None:
        variance = _prior_covariance(target.residual, rng)[0, 0]
        phi = np.array([np.log(variance / target.scaling.y_scale**2)])
    elif target.shift is not None:
        phi = np.sort(rng.standard_normal(len(target.fixed.phi)) * target.fixed.phi**-0.5)
    return State(beta, blocks, covariances, phi, np.empty(0), 0.0)


def _empty(target: Target) -> list[FloatArray]:
    factors = {f.block: f for f in target.of.pattern.cross.factors}
    return [np.zeros((factors[b].levels, factors[b].size)) for b in range(len(factors))]


def _with_data(target: Target, state: State, rng: np.random.Generator) -> tuple[Target, State]:
    """New data at a state's parameters."""
    at = placed(target, state).eta
    y = target.of.family.simulate(rng, at, target.of.weights, state.phi)
    new = replace(target, of=replace(target.of, y=y))
    if target.cross is not None:
        new = replace(new, cross=gaussian_products(target.of.pattern, y, target.of.weights))
    return new, placed(new, state)


def _functions(target: Target, state: State) -> FloatArray:
    """Parameters, on scales where they have moments, and what ties them to each other and to the data."""
    beta = target.raw_beta(state.beta)
    out = [*beta, *beta**2]
    for unit in target.units:
        covariance = unit_covariance(unit, state.covariances)
        sds = np.sqrt(np.diag(covariance))
        out += [*np.log(sds)]
        if unit.size > 1:
            out.append(covariance[0, 1] / (sds[0] * sds[1]))
        b = state.blocks[unit.block][:, unit.own]
        out += [*np.tanh(b[0]), np.log(np.mean(b * b)), np.tanh(b.mean() * beta[0])]
    y = target.of.y
    if target.residual is not None:
        raw = target.scaling.y_scale * y
        out += [state.phi[0] + 2 * np.log(target.scaling.y_scale), np.log(np.var(raw)), np.tanh(raw.mean())]
    else:
        out += [*np.tanh(state.phi), y.mean(), y.mean() ** 2, np.tanh(y.mean() * beta[0])]
    return np.array(out, dtype=np.float64)


def _chain(target: Target, count: int, random: Streams, rng: np.random.Generator) -> FloatArray:
    moves = moves_of(target)
    steps = np.full(len(moves), 0.7)
    target, state = _with_data(target, _prior_state(target, rng), rng)
    out = []
    for _ in range(count):
        state, _ = sweep(target, state, moves, steps, random)
        target, state = _with_data(target, state, rng)
        out.append(_functions(target, state))
    return np.array(out)


def _compare(case: Case, share: float, chains: int, seed: int) -> FloatArray:
    """Differences of the means of all functions, in standard errors."""
    with engine(1) as pool:
        target = _target(case, pool)
        rng = np.random.default_rng(seed)
        pairs = (_with_data(target, _prior_state(target, rng), rng) for _ in range(int(share * PRIOR_DRAWS)))
        prior = np.array([_functions(*pair) for pair in pairs])
        seeds = np.random.SeedSequence(seed).spawn(chains)
        pieces = len(target.of.pattern.pieces)
        run = np.array([_chain(target, int(share * SWEEPS), streams(one, pieces), rng) for one in seeds])
    error = np.array([mean_error(run[:, :, j]) for j in range(run.shape[2])])
    return (run.mean(axis=(0, 1)) - prior.mean(axis=0)) / np.sqrt(error**2 + prior.var(axis=0) / len(prior))


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_the_joint_distribution_stays(name: str) -> None:
    apart = _compare(CASES[name], 1.0, 4, 3)
    assert np.all(np.abs(apart) < 4), apart


@pytest.mark.parametrize("name", ["gaussian", "bernoulli", "probit", pytest.param("ordinal", marks=pytest.mark.long)])
def test_the_joint_distribution_stays_in_a_short_run(name: str) -> None:
    apart = _compare(CASES[name], SHORT, 4, 5)
    assert np.all(np.abs(apart) < 4), apart


def test_draws_that_run_away_are_an_error() -> None:
    with engine(1) as pool:
        target = _target(CASES["bernoulli"], pool)
        state = placed(target, _prior_state(target, np.random.default_rng(1)))
        state = placed(target, replace(state, beta=np.full_like(state.beta, np.inf)))
        pieces = len(target.of.pattern.pieces)
        with pytest.raises(FitError, match="run away"):
            sweep(target, state, (), np.zeros(0), streams(np.random.SeedSequence(1), pieces))
