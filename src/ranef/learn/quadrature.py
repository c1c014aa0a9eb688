"""The likelihood of a model with one scalar random term, by adaptive Gauss-Hermite quadrature; with its gradient.

The random effect ``u`` of each level is integrated out at nodes around its mode ``u^``, spread by its curvature there:

    log I_g = log s + log sum_k w_k exp(h(u^ + s x_k) + x_k^2 / 2),    h(u) = log p(y_g | u) - u^2 / 2,    s^-2 = -h''

One node is the Laplace approximation (Pinheiro and Bates 1995; Liu and Pierce 1994). Constants are kept, so that
likelihoods of any number of nodes compare; lme4 leaves some out for nAGQ > 1.

The nodes move with the parameters, through ``u^`` and ``s``; the gradient follows them, so that it is that of the sum
itself and not only of the integral.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from ranef.design.spec import GroupSpec
from ranef.engine.threads import Range, ranges
from ranef.errors import OptionError
from ranef.learn.criterion import chain_rule, curvature
from ranef.learn.finite import check_finite
from ranef.learn.laplace import Laplace, LaplacePoint, followed, mode_at, parameter_sums
from ranef.learn.likelihood import eta, part
from ranef.learn.mode import Mode
from ranef.learn.mode_tangents import find_tangents
from ranef.prior import Layout
from ranef.solve.elimination import Coefficients, by_block
from ranef.solve.inverse import invert
from ranef.solve.system import System
from ranef.solve.weighted import ROWS_A_RANGE, flat

FloatArray = npt.NDArray[np.float64]

# NumPy's nodes are tested up to here
MOST_NODES = 100


@dataclass(frozen=True, eq=False)
class Quadrature(Laplace):
    """What the deviance by quadrature is a function of, besides its parameters ``(theta, beta, phi)``.

    Attributes
    ----------
    nodes : int
        Of each level.
    """

    nodes: int = 1

    def evaluate(
        self, parameters: FloatArray, near: LaplacePoint | None = None, tolerance: float | None = None
    ) -> LaplacePoint:
        """`evaluate_quadrature`, the search for the mode starting from ``near``'s; its tolerance is the solver's."""
        del tolerance
        return evaluate_quadrature(self, parameters, self.start if near is None else followed(self, near, parameters))


@dataclass(frozen=True, eq=False)
class Sums:
    """The log-likelihood and its derivatives, summed over levels.

    Attributes
    ----------
    value : float
        Without the family's constant.
    by_root : float
        Derivative by ``Lambda``.
    by_variance : float
        Derivative by ``Lambda^2`` at ``Lambda = 0``.
    by_fixed : float64 array, shape (p,)
    by_phi : float64 array, shape (parameters of the family,)
    """

    value: float
    by_root: float
    by_variance: float
    by_fixed: FloatArray
    by_phi: FloatArray


def check_one_scalar_term(layout: Layout, groups: Sequence[GroupSpec]) -> None:
    """Refuse a model that quadrature cannot serve.

    Parameters
    ----------
    groups : sequence of GroupSpec

    Raises
    ------
    OptionError
        If there is not exactly one random term with one coefficient a level, and one level a row.
    """
    names = [spec.name for spec in groups]
    shared = [spec.name for spec in groups if spec.kind != "factor"]
    if layout.sizes == (1,) and not shared:
        return
    if len(names) == 1 and shared:
        found = f"rows have several levels of {names[0]}"
    elif not names:
        found = "this one has no random term"
    elif len(names) > 1:
        found = f"this one has random terms on {', '.join(names)}, whose levels share rows and cannot be taken alone"
    else:
        found = f"this one has {layout.sizes[0]} for each level of {names[0]}"
    raise OptionError(
        "quadrature= integrates over one random effect for each level of one grouping factor, as in (1 | g); "
        f"{found}. Leave quadrature= out: the Laplace approximation takes any model"
    )


def evaluate_quadrature(problem: Quadrature, parameters: FloatArray, start: Coefficients) -> LaplacePoint:
    """Deviance and gradient; the metric is that of the Laplace approximation.

    Parameters
    ----------
    start : Coefficients
        Spherical coefficients to begin the search for the mode from.

    Raises
    ------
    FitError
        If the family's parameters are out of range, or the mode or the integrals cannot be computed.
    """
    mode, factors, phi = mode_at(problem, parameters, start)
    of, cross, layout = problem.of, mode.cross, problem.layout
    inverse = invert(cast(System, mode.system), fixed=False, stages=True)
    scores = tuple(s[:, :, 0] for s in by_block(cross, mode.sums))
    _, score_phi, information_phi = parameter_sums(problem, mode, phi)
    found = find_tangents(problem, mode, factors, scores, score_phi, information_phi)
    lam = float(factors[0][0, 0])
    total = integrate(problem, mode, lam, phi)
    # the deviance is even in Lambda: by its square there is a derivative at zero too
    slopes = (np.array([[-2 * total.by_variance if lam == 0 else -total.by_root / lam]]),)
    gradient = np.concatenate([chain_rule(layout, factors, slopes), -2 * total.by_fixed, -2 * total.by_phi])
    check_finite(total.value, gradient, found.metric)
    metric = found.metric.copy()
    m = layout.parameters
    metric[:m, :m] += curvature(layout, slopes)
    return LaplacePoint(
        theta=parameters,
        deviance=-2 * (total.value + of.constant),
        gradient=gradient,
        metric=metric,
        information=found.metric,
        slopes=slopes,
        scores=scores,
        factors=factors,
        mode=mode,
        solver=problem.solver,
        conditional=inverse.diagonal,
        inverse=inverse,
        parameters=parameters,
        moves=found.moves,
        score_phi=score_phi,
    )


def integrate(problem: Quadrature, mode: Mode, lam: float, phi: FloatArray) -> Sums:
    """Integrate over the random effect of every level around its mode."""
    pattern = problem.of.pattern
    pointers = pattern.factors[0].pointers
    nodes, weights = np.polynomial.hermite_e.hermegauss(problem.nodes)
    heights = np.log(weights / np.sqrt(2 * np.pi)) + nodes**2 / 2
    count = max(1, int(pointers[-1]) // ROWS_A_RANGE)
    parts = pattern.engine.map(
        _integrate_levels,
        [
            (problem, mode, flat(mode.cross, mode.x)[:, 0], lam, phi, nodes, heights, piece)
            for piece in ranges(np.diff(pointers), count)
        ],
    )
    value = sum(p.value for p in parts)
    return Sums(
        value=value,
        by_root=sum(p.by_root for p in parts),
        by_variance=sum(p.by_variance for p in parts),
        by_fixed=np.sum([p.by_fixed for p in parts], axis=0),
        by_phi=np.sum([p.by_phi for p in parts], axis=0),
    )


def _integrate_levels(
    problem: Quadrature,
    mode: Mode,
    coefficients: FloatArray,
    lam: float,
    phi: FloatArray,
    nodes: FloatArray,
    heights: FloatArray,
    levels: Range,
) -> Sums:
    """`integrate` of some levels; ``heights`` are ``log w + x^2 / 2`` of the nodes."""
    of, pattern = problem.of, problem.of.pattern
    first, last = levels
    a, b = (int(n) for n in pattern.factors[0].pointers[[first, last]])
    code = pattern.codes[a:b, 0] - first
    z, y, place = pattern.z[a:b, 0], of.y[a:b], part(of.weights, a, b)

    def by_level(rows: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(code, rows, last - first), np.float64)

    at = eta(of, coefficients, a, b)
    value, score, weight, third = of.family.derivatives(y, at, place, phi)
    u = mode.u.stages[0][first:last, 0, 0]
    zz = by_level(z * z * weight)
    precision = lam * lam * zz + 1
    s = 1 / np.sqrt(precision)
    step = lam * z * s[code]

    # sums over the nodes, each weighted by its share of the integral
    total = np.zeros(last - first)
    slope, slope_out, by_root = np.zeros_like(total), np.zeros_like(total), np.zeros_like(total)
    by_eta, by_phi = np.zeros(b - a), np.zeros((b - a, len(phi)))
    for x, height in zip(nodes, heights, strict=True):
        there = at + x * step
        value_there, score_there, _, _ = of.family.derivatives(y, there, place, phi)
        u_there = u + x * s
        # the mode is the highest point: nothing here can overflow
        share = np.exp(height + by_level(value_there - value) - (u_there - u) * (u_there + u) / 2)
        zg = by_level(z * score_there)
        total += share
        slope += share * (lam * zg - u_there)
        slope_out += share * x * (lam * zg - u_there)
        by_root += share * u_there * zg
        by_eta += share[code] * score_there
        if len(phi):
            l_phi = of.family.parameter_derivatives(y, there, place, phi)[0]
            by_phi += share[code][:, None] * l_phi
    for sums in (slope, slope_out, by_root):
        sums /= total
    by_eta /= total[code]
    by_phi /= total[code][:, None]

    # what moves the nodes: the mode, and the precision that spreads them
    zzz = by_level(z * z * z * third)
    by_precision = -(s**3) / 2 * (1 / s + slope_out)
    by_mode = (slope - by_precision * lam**3 * zzz) / precision
    by_eta -= lam * z * (by_mode[code] * weight + by_precision[code] * lam * z * third)
    zg = by_level(z * score)
    by_root += by_mode * (zg - lam * u * zz) + by_precision * lam * (2 * zz - lam * u * zzz)
    if len(phi):
        _, score_phi, weight_phi = of.family.parameter_derivatives(y, at, place, phi)
        moved = lam * z
        by_phi += (moved * by_mode[code])[:, None] * score_phi
        by_phi += (moved * moved * by_precision[code])[:, None] * weight_phi
    log_integral = by_level(value) - u * u / 2 + np.log(s) + np.log(total)
    return Sums(
        value=float(log_integral.sum()),
        by_root=float(by_root.sum()),
        by_variance=float((zg * zg - zz).sum()) / 2,
        by_fixed=pattern.x[a:b].T @ by_eta,
        by_phi=by_phi.sum(axis=0),
    )
