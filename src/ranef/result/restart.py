"""A fit as a point of its likelihood again, for profiles and replicates that start there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.engine.threads import Engine
from ranef.learn.assemble import Problem
from ranef.learn.criterion import Evaluation
from ranef.learn.gaussian import MAX_ITERATIONS, TOLERANCE
from ranef.learn.held import Given, Held, hold, whole_point
from ranef.learn.laplace import EXACT, Laplace, origin
from ranef.learn.likelihood import Likelihood
from ranef.learn.minimise import minimise
from ranef.learn.mode import Exact
from ranef.learn.prepared import Generalized, prepare_generalized
from ranef.learn.quadrature import Quadrature
from ranef.learn.unprofiled import Unprofiled
from ranef.prior import Layout

FloatArray = npt.NDArray[np.float64]


def least(problem: Problem, given: Given | None, theta: FloatArray, sigma2: float) -> Evaluation | None:
    """Where a Gaussian criterion is least, from ``theta`` on, with what was given at its values; None if not found."""
    criterion, scaling = problem.criterion, problem.scaling
    if given is None:
        found = minimise(criterion, theta, tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS)
        return found.at if found.converged else None
    holding = hold(problem.layout, given, scaling.z_back, scaling.y_scale, 1, gaussian=True)
    held = Held(Unprofiled(criterion, criterion), holding)
    start = np.append(theta, np.log(sigma2 / scaling.y_scale**2))[holding.free]
    found = minimise(held, start, tolerance=TOLERANCE, max_iterations=MAX_ITERATIONS)
    return whole_point(found.at, holding) if found.converged else None


def at_estimates(model: Model, design: Design, engine: Engine) -> tuple[Generalized, FloatArray]:
    """A generalized model's rows made ready for a search, and its estimates.

    These are ``(theta, beta, phi)`` in internal coordinates.
    """
    prepared = prepare_generalized(design, model.family, engine)
    into = [np.linalg.inv(back) for back in prepared.scaling.z_back]
    covariances = [one @ group.covariance @ one.T for one, group in zip(into, model.groups, strict=True)]
    beta = np.linalg.solve(prepared.scaling.x_back, model.beta) if len(model.beta) else model.beta
    return prepared, np.concatenate([prepared.layout.project(covariances), beta, model.phi])


def objective_of(of: Likelihood, layout: Layout, joint: bool, beta: FloatArray, quadrature: int) -> Laplace:
    """The deviance that the fit minimised: Laplace's, by quadrature, or at joint modes.

    Parameters
    ----------
    beta : float64 array, shape (p,)
        Where the first search for the modes begins.
    quadrature : int
        Nodes; 1 is Laplace's.
    """
    u = origin(of.pattern.cross, beta)
    if quadrature > 1:
        return Quadrature(of, layout, False, Exact(), u, nodes=quadrature)
    return Laplace(of, layout, joint, EXACT, u)
