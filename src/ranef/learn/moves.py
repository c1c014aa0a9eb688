"""Metropolis moves of the Gibbs sampler that leave out the latent variables.

Given the latent variables, the scale of a random effect hardly moves where levels say little, nor does the level of a
rare event (Johndrow, Smith, Pillai and Dunson 2019). These moves act on the likelihood itself: along a group of
transformations of the coefficients, whose steps are symmetric on the group's own scale (Liu and Sabatti 2000). Latent
variables are drawn anew afterwards, so that the sweep leaves the posterior as it is (van Dyk and Park 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ranef.learn.hyperprior import Unit, log_rescaled
from ranef.learn.likelihood import part
from ranef.learn.sweep import State, Target, linear, loglik, unit_covariance, with_unit
from ranef.learn.threshold_draws import Density, draw_parameters
from ranef.solve.weighted import sums_of_rows

FloatArray = npt.NDArray[np.float64]

# the state at distance ``t`` along the group, without its value, and what the move adds to the log density besides it
Move = Callable[[Target, State, float], tuple[State, float]]

# acceptance that a random walk in one dimension is tuned to (Gelman, Roberts and Gilks 1996)
ACCEPTANCE = 0.44
FIRST_STEP = 0.3
# times that the moves are tried in a sweep, where latent variables hold back the rest of it
REPEATS = 2


def moves_of(target: Target) -> tuple[Move, ...]:
    """The moves that a model has.

    The scale of each random coefficient; if there are latent variables, the intercept and the scale of everything.
    """
    out: list[Move] = [_coefficient(unit, j) for unit in target.units for j in range(unit.size)]
    if target.augmentation != "none":
        if target.intercept >= 0:
            out.append(_intercept)
        out.append(_everything)
    return tuple(out)


def walk(
    target: Target, state: State, moves: tuple[Move, ...], steps: FloatArray, rng: np.random.Generator
) -> tuple[State, FloatArray]:
    """Try each move, twice if there are latent variables.

    Returns
    -------
    State
    accepted : float64 array, shape (moves,)
        Probabilities that the moves had, on average.
    """
    repeats = 1 if target.augmentation == "none" else REPEATS
    accepted = np.zeros(len(moves))
    for number, (move, step) in repeats * list(enumerate(zip(moves, steps, strict=True))):
        trial, gained = move(target, state, step * rng.standard_normal())
        value = loglik(target, trial.eta, trial.phi)
        log_ratio = value - state.value + gained
        u = rng.random()
        if not np.isfinite(log_ratio):
            continue
        probability = np.exp(min(log_ratio, 0.0))
        accepted[number] += probability
        if u < probability:
            state = replace(trial, value=value)
    return state, accepted / repeats


def _coefficient(unit: Unit, j: int) -> Move:
    """Scale one random coefficient of all levels, and its variance with it."""
    columns = unit.own if unit.common else slice(unit.own.start + j, unit.own.start + j + 1)

    def move(target: Target, state: State, t: float) -> tuple[State, float]:
        only = [np.zeros_like(b) for b in state.blocks]
        only[unit.block][:, columns] = state.blocks[unit.block][:, columns]
        zeta = linear(target, np.zeros_like(state.beta), only, offset=False)
        blocks = list(state.blocks)
        blocks[unit.block] = blocks[unit.block] + np.expm1(t) * only[unit.block]
        by = np.zeros(unit.size)
        by[j] = t
        covariance = unit_covariance(unit, state.covariances)
        scaled = np.exp(by)[:, None] * covariance * np.exp(by)
        trial = replace(
            state,
            blocks=tuple(blocks),
            covariances=with_unit(unit, state.covariances, scaled),
            eta=state.eta + np.expm1(t) * zeta,
        )
        return trial, log_rescaled(unit, covariance, by)

    return move


def _intercept(target: Target, state: State, t: float) -> tuple[State, float]:
    """Add to the intercept."""
    change = np.zeros(len(state.beta))
    change[target.intercept] = t
    before = target.raw_beta(state.beta)[target.intercept]
    trial = replace(state, beta=state.beta + np.linalg.solve(target.to_raw, change), eta=state.eta + t)
    return trial, -float(target.fixed.beta[target.intercept]) * ((before + t) ** 2 - before**2) / 2


def _everything(target: Target, state: State, t: float) -> tuple[State, float]:
    """Scale all coefficients and thresholds, and all variances with them."""
    by = np.exp(t)
    offset = target.of.offset
    gained = t * (len(state.beta) + len(state.phi))
    covariances = state.covariances
    for unit in target.units:
        own = unit_covariance(unit, covariances)
        gained += log_rescaled(unit, own, np.full(unit.size, t))
        covariances = with_unit(unit, covariances, by * by * own)
    square = float(target.fixed.beta @ target.raw_beta(state.beta) ** 2) + float(target.fixed.phi @ state.phi**2)
    gained -= np.expm1(2 * t) * square / 2
    trial = replace(
        state,
        beta=by * state.beta,
        blocks=tuple(by * b for b in state.blocks),
        covariances=covariances,
        phi=by * state.phi,
        eta=by * state.eta if offset is None else offset + by * (state.eta - offset),
    )
    return trial, gained


def draw_thresholds(target: Target, state: State, rng: np.random.Generator) -> tuple[State, float]:
    """A draw of an ordinal family's thresholds given the linear predictor.

    Returns
    -------
    State
    accepted : float
        Probability that the proposal had.
    """
    phi, value, accepted = draw_parameters(
        state.phi,
        lambda phi: loglik(target, state.eta, phi),
        lambda phi: _density(target, state.eta, phi),
        target.of.family.valid,
        target.fixed.phi,
        rng,
        state.value,
    )
    return replace(state, phi=phi, value=value), accepted


def _density(target: Target, at: FloatArray, phi: FloatArray) -> Density:
    of = target.of

    def piece(first: int, last: int) -> tuple[float, FloatArray, FloatArray]:
        arguments = of.y[first:last], at[first:last], part(of.weights, first, last), phi
        gradient = of.family.parameter_derivatives(*arguments)[0].sum(axis=0)
        value = float(of.family.loglik(*arguments).sum())
        return value, gradient, of.family.parameter_information(*arguments)

    value, gradient, information = sums_of_rows(of.pattern, piece)
    prior = target.fixed.phi
    return Density(
        phi,
        float(value) - float(prior @ phi**2) / 2,
        gradient - prior * phi,
        information + np.diag(prior),
    )
