"""A generalized model's fit as a point of its likelihood again, for profiles and replicates that start there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.engine.threads import Engine
from ranef.learn.laplace import EXACT, Laplace, origin
from ranef.learn.likelihood import Likelihood
from ranef.learn.mode import Exact
from ranef.learn.prepared import Generalized, prepare_generalized
from ranef.learn.quadrature import Quadrature
from ranef.prior import Layout

FloatArray = npt.NDArray[np.float64]


def at_estimates(model: Model, design: Design, engine: Engine) -> tuple[Generalized, FloatArray]:
    """The rows made ready for a search, and the fit's estimates ``(theta, beta, phi)`` in internal coordinates."""
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
