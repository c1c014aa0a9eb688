"""Chains of Gibbs sweeps: warm-up with tuning, then draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.errors import FitError
from ranef.learn.drawn import Drawn, empty_drawn, finish, kept_draws, note_effects
from ranef.learn.moves import ACCEPTANCE, FIRST_STEP, Move, draw_thresholds, moves_of, walk
from ranef.learn.sweep import (
    State,
    Streams,
    Target,
    draw_coefficients,
    draw_covariances,
    log_posterior,
    streams,
)

FloatArray = npt.NDArray[np.float64]

# numbers that the kept draws of all coefficients may take together, and draws that are kept in any case
MOST_NUMBERS = 25_000_000
LEAST_KEPT = 32
RUN_AWAY = (
    "the draws have run away to where their likelihood cannot be computed: is the posterior proper? Give fixed effects "
    "a prior, prior={'fixed': 2.5}, say; are covariates or the offset very large? Scale them"
)


@dataclass(frozen=True)
class Lengths:
    """How many sweeps.

    Attributes
    ----------
    chains : int
    warmup : int
        Sweeps of each chain that are thrown away; the moves' steps are tuned in them.
    draws : int
        Of each chain.
    thin : int
        Sweeps for each draw.
    """

    chains: int
    warmup: int
    draws: int
    thin: int

    @property
    def sweeps(self) -> int:
        """Of all chains."""
        return self.chains * (self.warmup + self.draws * self.thin)


def sweep(
    target: Target, state: State, moves: tuple[Move, ...], steps: FloatArray, random: Streams
) -> tuple[State, FloatArray]:
    """Draw everything once; also the probabilities with which the moves were accepted.

    Raises
    ------
    FitError
        The draws have run away to where floating point ends.
    """
    if not np.isfinite(state.value):
        raise FitError(RUN_AWAY)
    try:
        if target.shift is not None:
            state, _ = draw_thresholds(target, state, random.parameters)
        state, accepted = walk(target, state, moves, steps, random.parameters)
        state = draw_covariances(target, draw_coefficients(target, state, random), random)
    except np.linalg.LinAlgError as error:
        raise FitError(RUN_AWAY) from error
    return state, accepted


def tuned(steps: FloatArray, accepted: FloatArray, number: int) -> FloatArray:
    """Steps after sweep ``number`` of the warm-up, by stochastic approximation (Robbins and Monro 1951)."""
    return np.asarray(steps * np.exp((accepted - ACCEPTANCE) / (number + 1) ** 0.6))


def run_chains(
    target: Target,
    starts: Callable[[int, np.random.Generator], State],
    lengths: Lengths,
    seed: int,
    report: Callable[[int, int], None] | None = None,
) -> Drawn:
    """Run all chains, one after the other.

    Parameters
    ----------
    starts : callable
        Where the chain of this number begins, far apart from the others.
    seed : int
    report : callable, optional
        Gets how many sweeps are done, and of how many.

    Raises
    ------
    FitError
    """
    moves = moves_of(target)
    levels = target.of.pattern.cross.factors
    shapes = {f.block: (f.levels, f.size) for f in levels}
    ordered = [shapes[b] for b in range(len(shapes))]
    kept = kept_draws(lengths.chains * lengths.draws, sum(n * k for n, k in ordered), MOST_NUMBERS, LEAST_KEPT)
    place = {int(draw): i for i, draw in enumerate(kept)}
    shape = lengths.chains, lengths.draws
    out = empty_drawn(shape, len(target.scaling.columns), len(target.of.family.parameters), ordered, kept)
    done = 0
    for chain in range(lengths.chains):
        own = np.random.SeedSequence(seed, spawn_key=(5, chain))
        random = streams(own, len(target.of.pattern.pieces))
        state, steps = starts(chain, random.parameters), np.full(len(moves), FIRST_STEP)
        for number in range(lengths.warmup + lengths.draws * lengths.thin):
            state, accepted = sweep(target, state, moves, steps, random)
            drawn, rest = divmod(number - lengths.warmup + 1, lengths.thin)
            if number < lengths.warmup:
                steps = tuned(steps, accepted, number)
            elif rest == 0:
                _note(target, state, out, chain, drawn - 1, place)
            done += 1
            if report is not None:
                report(done, lengths.sweeps)
    finish(out)
    return out


def _note(target: Target, state: State, out: Drawn, chain: int, draw: int, place: dict[int, int]) -> None:
    """Write one draw."""
    here = chain, draw
    out.beta[here] = target.raw_beta(state.beta)
    out.phi[here] = state.phi if target.residual is None else state.phi + 2 * np.log(target.scaling.y_scale)
    for values, covariance in zip(out.covariances, state.covariances, strict=True):
        values[here] = covariance
    out.log_posterior[here] = log_posterior(target, state)
    blocks = [group.on_levels(b) for group, b in zip(target.groups, state.blocks, strict=True)]
    note_effects(out, chain * out.beta.shape[1] + draw, blocks, place)
