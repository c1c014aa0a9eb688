"""Chains of Gibbs sweeps over latent terms.

A sweep over histories and attributes goes from level to level and occupies one thread for the most part: chains run
side by side. Every random number comes from a stream of its own (chain, sweep, side, member), and what chains leave is
brought together in their order, so that neither threads nor the order of work change a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import numpy.typing as npt

from ranef.artifact.latent import FieldDraws
from ranef.artifact.model import Model
from ranef.engine.lanes import side_by_side
from ranef.engine.threads import Engine
from ranef.kernel.blocks import BLOCK
from ranef.kernel.factor_fields import blocks_of
from ranef.learn.chains import Lengths
from ranef.learn.drawn import (
    Drawn,
    Moments,
    add_effects,
    empty_drawn,
    empty_moments,
    finish,
    join,
    keep_effects,
    kept_draws,
)
from ranef.learn.factor.augmented import Augmented
from ranef.learn.factor.centring import draw_constants
from ranef.learn.factor.conditional import Priors, draw_parameters, raw_covariances, raw_effects
from ranef.learn.factor.response import Response
from ranef.learn.factor.start import Problem, TakeOver, begin
from ranef.solve.sweeps import Noise, Parameters, State, products, sweep

FloatArray = npt.NDArray[np.float64]

# numbers that the kept draws of all coefficients may take together, and draws that are kept in any case
MOST_NUMBERS = 200_000_000
LEAST_KEPT = 32
# what chains that run side by side may have for themselves, all together
MOST_BYTES = 2 << 30
# rows, at equal distances, that tell the standard deviation of a term's products
PRODUCT_ROWS = 20_000


@dataclass(frozen=True, eq=False)
class FactorDraws:
    """What the chains left, raw units.

    Attributes
    ----------
    drawn : Drawn
        Without the vectors.
    products : float64 array, shape (chains, draws, terms)
        Standard deviation over the rows of each latent term's products.
    fields : tuple of tuple of tuple of FieldDraws
        For each latent term, its sides and their factors.
    """

    drawn: Drawn
    products: FloatArray
    fields: tuple[tuple[tuple[FieldDraws, ...], ...], ...]


def run_factor_chains(
    problem: Problem,
    additive: Model,
    priors: Priors,
    lengths: Lengths,
    seed: int,
    engine: Engine,
    report: Callable[[int, int], None] | None = None,
    earlier: TakeOver | None = None,
    response: Response | None = None,
) -> FactorDraws:
    """Run all chains, side by side as far as there are threads, and `MOST_BYTES` for what each has for itself.

    Parameters
    ----------
    additive : Model
        Of the design without its latent terms: where every chain begins, with random vectors of its own.
    report : callable, optional
        Gets how many sweeps are done, and of how many.
    earlier : callable, optional
        As of `ranef.learn.factor.start.begin`.
    response : Response, optional
        Of another family than the Gaussian.

    Raises
    ------
    FitError
        A level's system is not positive definite to rounding.
    """
    out = _empty(problem, lengths, 1 if response is None else len(response.family.parameters))
    place = {int(draw): i for i, draw in enumerate(out.drawn.kept)}
    lock, done = Lock(), 0

    def count() -> None:
        nonlocal done
        if report is not None:
            with lock:
                done += 1
                report(done, lengths.sweeps)

    def run(chain: int, own: Engine, halted: Callable[[], bool]) -> Moments:
        moments = empty_moments(out.drawn)
        start = int(np.random.SeedSequence(seed, spawn_key=(7, chain)).generate_state(1)[0])
        state, parameters = begin(problem, additive, None, start, own, earlier)
        rows = None
        if response is not None:
            rows = Augmented(state, response, additive.phi, own)
            state, parameters = rows.state, replace(parameters, sigma2=1.0)
        for number in range(lengths.warmup + lengths.draws * lengths.thin):
            if halted():
                break
            if rows is not None:
                rows.renew(np.random.SeedSequence(seed, spawn_key=(10, chain, number)))
            sweep(state, parameters, own, noise_of(seed, chain, number))
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(8, chain, number)))
            lost = draw_constants(problem, priors, state, parameters, rng)
            if rows is not None:
                rows.lower(lost)
            parameters, density = draw_parameters(problem, priors, state, parameters, own, rng)
            drawn, rest = divmod(number - lengths.warmup + 1, lengths.thin)
            if number >= lengths.warmup and rest == 0:
                out.drawn.log_posterior[chain, drawn - 1] = density + (0.0 if rows is None else rows.loglik())
                y_scale = problem.scaling.y_scale
                phi = np.array([np.log(parameters.sigma2 * y_scale**2)]) if rows is None else rows.phi
                _note(problem, priors, state, parameters, phi, moments, out, (chain, drawn - 1), place)
            count()
        return moments

    most = max(1, int(min(MOST_BYTES, engine.storage.memory) // _size(problem, augmented=response is not None)))
    join(out.drawn, side_by_side(run, lengths.chains, engine, most))
    finish(out.drawn)
    return out


def noise_of(seed: int, chain: int, number: int) -> Noise:
    """Standard normal numbers of one sweep."""

    def noise(key: tuple[int, int] | None, shape: tuple[int, ...]) -> FloatArray:
        place = (0, 0) if key is None else (key[0] + 1, key[1])
        stream = np.random.SeedSequence(seed, spawn_key=(9, chain, number, *place))
        return np.random.default_rng(stream).standard_normal(shape)

    return noise


def _size(problem: Problem, *, augmented: bool) -> int:
    """Bytes that a chain has for itself: residuals (and latent variables), coefficients, and the sums of one side."""
    sides = problem.sides
    of_rows = len(problem.design.y) * 8 * (5 if augmented else 1)
    of_units = sum(term.units * term.rank * 4 for term in sides.terms)
    of_levels, of_sums = 0, [0]
    for side in sides.sides:
        d = side.covariates.shape[1] + (0 if side.term is None else sides.terms[side.term].rank)
        # coefficients, their noise, and the moments of effects
        of_levels += sum(member.levels * len(member.columns) * 3 * 8 for member in side.members)
        of_sums.append(0 if side.alone else side.units * (blocks_of(d) * BLOCK * 4 + 5 * d * 8))
    return of_rows + of_units + of_levels + max(of_sums)


def _empty(problem: Problem, lengths: Lengths, parameters: int) -> FactorDraws:
    """``parameters``: how many the family has, of the Gaussian one the residual variance."""
    design = problem.design
    shape = (lengths.chains, lengths.draws)
    groups = [(len(g.levels), len(b)) for g, b in zip(design.groups, problem.scaling.z_back, strict=True)]
    ranks = [term.rank for term in problem.sides.terms]
    # effects have twice the bytes of vectors
    numbers = 2 * sum(n * k for n, k in groups)
    numbers += sum(
        len(f.levels) * k for term, k in zip(design.latent, ranks, strict=True) for side in term.sides for f in side
    )
    kept = kept_draws(lengths.chains * lengths.draws, numbers, MOST_NUMBERS, LEAST_KEPT)

    def sample(levels: int, k: int) -> FieldDraws:
        return FieldDraws(
            np.empty((len(kept), levels, k), np.float32), np.empty((len(kept), k)), np.empty((len(kept), k))
        )

    drawn = empty_drawn(shape, len(problem.scaling.columns), parameters, groups, kept)
    fields = tuple(
        tuple(tuple(sample(len(f.levels), k) for f in side) for side in term.sides)
        for term, k in zip(design.latent, ranks, strict=True)
    )
    return FactorDraws(drawn, np.empty((*shape, len(ranks))), fields)


def _note(
    problem: Problem,
    priors: Priors,
    state: State,
    parameters: Parameters,
    phi: FloatArray,
    moments: Moments,
    out: FactorDraws,
    here: tuple[int, int],
    place: dict[int, int],
) -> None:
    """Write one draw."""
    scaling, design, drawn = problem.scaling, problem.design, out.drawn
    drawn.beta[here] = scaling.least_squares + scaling.y_scale * scaling.x_back @ state.beta
    drawn.phi[here] = phi
    for values, covariance in zip(drawn.covariances, raw_covariances(problem, priors, parameters), strict=True):
        values[here] = covariance
    rows = slice(None, None, max(1, len(state.residual) // PRODUCT_ROWS))
    for t in range(len(state.vectors)):
        out.products[(*here, t)] = scaling.y_scale * np.std(products(state, t, rows))
    number = here[0] * drawn.beta.shape[1] + here[1]
    raw = raw_effects(problem, priors, state)
    effects = [group.on_levels(b) for group, b in zip(design.groups, raw, strict=True)]
    add_effects(moments, here[1], effects)
    keep_effects(drawn, number, effects, place)
    if number in place:
        _keep_vectors(problem, state, parameters, out, place[number])


def _keep_vectors(problem: Problem, state: State, parameters: Parameters, out: FactorDraws, draw: int) -> None:
    y = problem.scaling.y_scale
    for term, latent, samples in zip(problem.sides.terms, problem.design.latent, out.fields, strict=True):
        k = term.rank
        for side, fields, of in zip(term.sides, latent.sides, samples, strict=True):
            for m, (field, sample) in enumerate(zip(fields, of, strict=True)):
                vectors = np.sqrt(y) * state.coefficients[side][m].vectors.astype(np.float64)
                # levels of a walk are sums of increments
                sample.vectors[draw] = vectors if field.walk is None else field.walk.membership.sums(vectors)
                sample.variances[draw] = y * np.diag(parameters.covariances[side][m])[:k]
                if parameters.means is not None:
                    sample.means[draw] = np.sqrt(y) * parameters.means[side][m][:k]
