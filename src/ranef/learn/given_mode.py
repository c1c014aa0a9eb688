"""A generalized model whose covariances are all given: its joint mode, and what either path makes a model from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import numpy.typing as npt

from ranef.learn.held import Given, Holding
from ranef.learn.joint_mode import find_joint_mode
from ranef.learn.laplace import Laplace, LaplacePoint, laplace_point, origin
from ranef.learn.minimise import Step
from ranef.learn.mode import ConjugateGradients, Exact, Mode
from ranef.learn.prepared import Generalized, holding_of, marginal_fit, starting_coefficients
from ranef.learn.start import Start
from ranef.learn.stochastic_laplace import LaplaceEstimate
from ranef.solve.elimination import by_block, zeros
from ranef.solve.iterative import Iterative

FloatArray = npt.NDArray[np.float64]

# of the gradient's relative norm
TOLERANCE = 1e-6
# a step with a bound of the curvature costs little and leads less far
MOST_STEPS, MOST_BOUNDED_STEPS = 200, 5_000
# near the mode a step makes the gradient smaller by about as much as its error
BY_GRADIENTS = ConjugateGradients(tolerance=0.0, accuracy=1e-4)


@dataclass(frozen=True, eq=False)
class GivenMode:
    """The joint mode and what it is that of.

    Attributes
    ----------
    laplace : Laplace
    holding : Holding
        Without a free parameter.
    factors : tuple of float64 arrays (k, k)
        ``Lambda`` of each block.
    mode : Mode
    converged : bool
    history : tuple of Step
    """

    laplace: Laplace
    holding: Holding
    factors: tuple[FloatArray, ...]
    mode: Mode
    converged: bool
    history: tuple[Step, ...]


def is_all_given(prepared: Generalized, given: Given | None) -> bool:
    """Whether the coefficients are all that is left: no parameter of a covariance, and none of the family."""
    return given is not None and given.complete and not prepared.family.parameters


def find_given_mode(
    prepared: Generalized,
    given: Given,
    *,
    stochastic: bool,
    bound: float | None,
    start: Start | None,
    tolerance: float | None,
    max_iterations: int | None,
    report: Callable[[Step, float, Mapping[str, FloatArray]], None] | None,
    begun: float,
) -> GivenMode:
    """Find the joint mode.

    Parameters
    ----------
    stochastic : bool
        Solve by conjugate gradients.
    bound : float, optional
        Of the curvature of a row of weight one: the solver that keeps it.
    tolerance : float, optional
        Of the gradient's norm over that without random effects; default 1e-6.
    max_iterations : int, optional
        Steps; default 200, and 5,000 with a bound.
    """
    layout, of = prepared.layout, prepared.of
    beta, phi = marginal_fit(prepared)
    zero = origin(of.pattern.cross, beta)
    holding = holding_of(prepared, given, 0)
    theta = holding.whole(np.zeros(0))
    factors = layout.factors(theta)
    history: list[Step] = []

    def note(step: Step) -> None:
        history.append(replace(step, seconds=time.perf_counter() - begun))
        if report is not None:
            report(history[-1], *covariances)

    most = MOST_STEPS if bound is None else MOST_BOUNDED_STEPS
    covariances = (
        1.0,
        {
            spec.name: back @ factor @ factor.T @ back.T
            for spec, back, factor in zip(prepared.design.spec.groups, prepared.scaling.z_back, factors, strict=True)
        },
    )
    solver = BY_GRADIENTS if stochastic else Exact()
    mode, converged = find_joint_mode(
        of,
        factors,
        starting_coefficients(prepared, zero, factors, start),
        zero,
        phi,
        solver,
        bound=bound,
        tolerance=TOLERANCE if tolerance is None else tolerance,
        max_iterations=most if max_iterations is None else max_iterations,
        report=note,
    )
    laplace = Laplace(of, layout, True, solver, mode.u, bound)
    return GivenMode(laplace, holding, factors, mode, converged, tuple(history))


def exact_point(found: GivenMode) -> LaplacePoint:
    """The Laplace deviance there, over no parameter."""
    theta = found.holding.whole(np.zeros(0))
    at = laplace_point(found.laplace, theta, found.mode, found.factors, np.zeros(0))
    none, matrix = np.zeros(0), np.zeros((0, 0))
    return replace(at, theta=none, gradient=none, metric=matrix, information=matrix)


def estimate(found: GivenMode) -> LaplaceEstimate:
    """A point of the stochastic path: no parameter is left to have a score."""
    mode, none = found.mode, np.zeros(0)
    matrix = np.zeros((0, 0))
    nothing = tuple(np.zeros_like(factor) for factor in found.factors)
    return LaplaceEstimate(
        theta=none,
        gradient=none,
        metric=matrix,
        information=matrix,
        slopes=nothing,
        scores=tuple(s[:, :, 0] for s in by_block(mode.cross, mode.sums)),
        factors=found.factors,
        mode=mode,
        system=cast(Iterative, mode.system),
        gradient_covariance=matrix,
        slope_errors=nothing,
        others=none,
        drift=zeros(mode.cross, 0),
        warm=none,
        tolerance=found.laplace.solver.tolerance,
    )
