"""A generalized mixed model's design made ready for a search, where the search begins, and what both solvers report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import FamilyParameter
from ranef.design.build import Design
from ranef.design.matrix import INTERCEPT
from ranef.engine.threads import Engine
from ranef.family import Family
from ranef.learn.assemble import Description, Problem
from ranef.learn.criterion import Criterion
from ranef.learn.held import Given, Holding, hold, nothing_given
from ranef.learn.laplace import AtMode
from ranef.learn.likelihood import Likelihood, likelihood, weigh
from ranef.learn.scaling import Scaling, scale_generalized
from ranef.learn.start import Start, start_from
from ranef.prior import Layout
from ranef.solve.elimination import Coefficients, from_blocks
from ranef.solve.rows import Rows
from ranef.solve.weighted import flat, response_of, weighing

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Generalized:
    """A design in internal coordinates with its likelihood: what a search works on."""

    design: Design
    family: Family
    of: Likelihood
    scaling: Scaling
    layout: Layout
    rows: Rows
    engine: Engine


def prepare_generalized(design: Design, family: Family, engine: Engine) -> Generalized:
    """Scale the design's columns, sort its rows and find the pattern of their cross products.

    Raises
    ------
    FitError, DataError
        If the fixed effects have more columns than there are rows; if the family does not take these categories.
    """
    family = family.with_categories(design.spec.response_levels)
    rows, layout, scaling = scale_generalized(design, family.kind == "ordered", engine)
    pattern = weighing(rows, engine)
    of = likelihood(family, pattern, design.y, design.weights, design.offset)
    return Generalized(design, family, of, scaling, layout, rows, engine)


def marginal_fit(prepared: Generalized) -> tuple[FloatArray, FloatArray]:
    """Fixed effects (internal) and ``phi`` that fit the response's marginal distribution."""
    design, scaling = prepared.design, prepared.scaling
    intercept, phi = prepared.family.start(design.y, design.weights, design.offset)
    raw = np.array([intercept if design.spec.fixed.names[j] == INTERCEPT else 0.0 for j in scaling.columns])
    return (np.linalg.solve(scaling.x_back, raw) if len(raw) else raw), phi


def starting_phi(prepared: Generalized, phi: FloatArray, start: Start | None) -> FloatArray:
    """The family's own parameters of an earlier fit of the same family; else ``phi``."""
    family = prepared.family
    if start is None or start.family != (family.name, family.link) or start.phi.shape != phi.shape:
        return phi
    return start.phi


def starting_coefficients(
    prepared: Generalized, zero: Coefficients, factors: Sequence[FloatArray], start: Start | None
) -> Coefficients:
    """Spherical random effects, and the fixed effects, of an earlier fit; ``zero`` has what it does not know."""
    if start is None:
        return zero
    cross, design, scaling = prepared.of.pattern.cross, prepared.design, prepared.scaling
    spherical = []
    for spec, group, back, factor in zip(design.spec.groups, design.groups, scaling.z_back, factors, strict=True):
        modes = start.modes.get(spec.name)
        if modes is None or group.walk is not None:  # its increments are what is solved for
            modes = np.zeros((len(group.levels), len(factor)))
        # no inverse of a factor that may be singular
        spherical.append((modes @ np.linalg.pinv(back @ factor).T)[:, :, None])
    u = from_blocks(cross, spherical, 1)
    place = slice(cross.random, cross.random + cross.fixed)
    raw = scaling.x_back @ zero.rest[place, 0]
    names = [design.spec.fixed.names[j] for j in scaling.columns]
    raw = np.array([start.beta.get(name, value) for name, value in zip(names, raw, strict=True)])
    u.rest[place, 0] = np.linalg.solve(scaling.x_back, raw) if len(raw) else raw
    return u


def starting_theta(prepared: Generalized, u: Coefficients, phi: FloatArray, start: Start | None) -> FloatArray:
    """By the method of moments from the scores at the marginal fit, or as given."""
    of, layout = prepared.of, prepared.layout
    _, cross = weigh(of, flat(of.pattern.cross, u)[:, 0], phi)
    theta = start_from(cross, response_of(cross), layout)
    if start is None:
        return theta
    covariances = [f @ f.T for f in layout.factors(theta)]
    for b, (spec, back) in enumerate(zip(prepared.design.spec.groups, prepared.scaling.z_back, strict=True)):
        given = start.covariances.get(spec.name)
        if given is not None and given.shape == back.shape:
            inverse = np.linalg.inv(back)
            covariances[b] = inverse @ given @ inverse.T
    return layout.project(covariances)


def holding_of(prepared: Generalized, given: Given | None, others: int) -> Holding:
    """Which parameters are held: none, if no covariance is given. ``others`` come after those of the covariances."""
    given = nothing_given(prepared.layout) if given is None else given
    return hold(prepared.layout, given, prepared.scaling.z_back, 1.0, others, gaussian=False)


def working_problem(prepared: Generalized, at: AtMode) -> Problem:
    """The working Gaussian model at a point: what is common to all families is computed from it."""
    criterion = Criterion(at.mode.cross, prepared.layout, False, prepared.engine)
    return Problem(prepared.design, criterion, prepared.scaling, prepared.layout, prepared.rows)


def describe(
    family: Family,
    method: str,
    phi: FloatArray,
    covariance: FloatArray,
    fixed: int,
    quadrature: int = 1,
    noise: FloatArray | None = None,
) -> Description:
    """What the family adds to the model.

    Parameters
    ----------
    covariance : float64 array
        Of ``(theta, beta, phi)``.
    fixed : int
        Fixed effects among these.
    noise : float64 array, optional
        Monte-Carlo covariance of the same parameters; none if exact.
    """
    m = len(covariance) - fixed - len(phi)
    own = np.delete(np.arange(len(covariance)), np.arange(m, m + fixed))
    jacobian = family.natural_jacobian(phi)
    noise = np.zeros_like(covariance) if noise is None else noise
    error, mcse = (
        np.sqrt(np.diag(jacobian @ one[m + fixed :, m + fixed :] @ jacobian.T).clip(0)) for one in (covariance, noise)
    )
    return Description(
        family=family.name,
        link=family.link,
        method=method,
        parameters=tuple(
            FamilyParameter(name, float(value), float(se), float(own_mcse))
            for (name, value), se, own_mcse in zip(family.natural(phi).items(), error, mcse, strict=True)
        ),
        thresholds=getattr(family, "thresholds", None),
        phi=phi,
        covariance=covariance[np.ix_(own, own)],
        quadrature=quadrature,
    )
