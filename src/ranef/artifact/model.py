"""The fitted model: everything that printing, predicting and testing need, and none of the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.design.membership import Membership, Walk
from ranef.design.spec import DesignSpec
from ranef.table import Combination, Levels

if TYPE_CHECKING:
    from ranef.artifact.latent import LatentModel
    from ranef.artifact.seen import Counts, Seen
    from ranef.artifact.states import LevelStates
    from ranef.family import Family

FloatArray = npt.NDArray[np.float64]


class Iteration(msgspec.Struct, frozen=True):
    """One evaluation of the search: criterion, predicted further decrease, whether it was accepted, seconds so far.

    Where every covariance is given the criterion is the penalised deviance of the joint mode, and ``gradient`` the norm
    of its gradient over that without random effects; elsewhere NaN. Of a sweep over latent terms the criterion is -2
    times the bound, and ``score`` the root mean square error on the validation rows, NaN without.
    """

    iteration: int
    deviance: float
    decrement: float
    accepted: bool
    seconds: float
    gradient: float = float("nan")
    score: float = float("nan")


class VarianceRow(msgspec.Struct, frozen=True):
    """One row of the table of variances, in the columns of lme4's ``as.data.frame(VarCorr(fit))``.

    Attributes
    ----------
    grp : str
        Grouping factor; ``g``, ``g.1``, ... for several terms on one factor; ``Residual`` last.
    var1, var2 : str or None
        Coefficients; ``var2`` is None for a variance.
    vcov, sdcor : float
        Variance and standard deviation, or covariance and correlation.
    se : float
        Standard error of ``vcov``; NaN at the boundary, and where ``vcov`` was given.
    mcse : float
        Monte-Carlo standard error of ``vcov``: 0 on the exact path.
    """

    grp: str
    var1: str | None
    var2: str | None
    vcov: float
    sdcor: float
    se: float
    mcse: float


class FamilyParameter(msgspec.Struct, frozen=True):
    """A threshold or dispersion as it is reported, with its standard error and its Monte-Carlo one (0: exact)."""

    name: str
    value: float
    se: float
    mcse: float = 0.0


class FitInfo(msgspec.Struct, frozen=True):
    """How the fit went.

    Attributes
    ----------
    method : {"reml", "ml", "laplace", "joint", "gibbs", "vb"}
    nobs : int
    dropped : int
        Rows left out; ``dropped_missing`` counts them by column, ``dropped_zero_weight`` those of weight zero.
    aliased : tuple of str
        Columns of the fixed part that others determine; they are not estimated.
    df : int
        Parameters: fixed effects, covariance parameters and residual variance.
    sigma : float
        Residual standard deviation, response units.
    deviance : float
        -2 log-likelihood, or the REML criterion.
    information : {"observed", "average", "draws"}
        What the standard errors of the variances and the degrees of freedom come from.
    gradient : float
        Largest entry of the gradient of the deviance, in standard errors of its parameter.
    deviance_error : float
        Monte-Carlo standard error of ``deviance``: 0 on the exact path.
    deviance_draws : tuple of float
        ``deviance`` is their mean: the estimates of independent probes. Fits with the same seed have probes in common.
        Empty on the exact path, and in models saved before there were any.
    probes : int
        Of the stochastic path, else 0.
    fixef_mcse : tuple of float
        Monte-Carlo standard errors of the fixed effects. Empty on the exact path, and in models saved before there were
        any.
    held : tuple of str
        Variances that were given and not learned, in the words of ``grp`` in the table of variances.
    locked : tuple of str
        Grouping factors whose coefficients were kept from an earlier fit; everything else is given them.
    family_parameters : tuple of FamilyParameter
        Thresholds of an ordinal model, dispersion; empty for families without any, and for Gaussian models.
    thresholds : {"flexible", "symmetric", "equidistant"} or None
        Structure of an ordinal model's thresholds.
    quadrature : int
        Nodes of each level's integral; 1 is the Laplace approximation.
    unbounded : tuple of str
        Parameters without a finite estimate: fixed effects and thresholds that separate the responses, standard
        deviations of factors whose every level has one outcome, ``theta`` of counts that vary as Poisson ones.
    empty_categories : tuple of str
        Levels of an ordinal response's column that no row has; the model has no such category.
    elbo : float
        Of ``"vb"``: the lower bound of the log marginal likelihood, which has no value itself; NaN elsewhere.
    stopped : {"", "validation", "callback", "interrupt"}
        What ended the sweeps over latent terms before the bound stood.
    two_stage : bool
        Latent terms were fitted to the residuals of the mixed model, which was fitted without them.
    validation_rows : int
        Rows that the sweeps were scored on; ``score`` is that of the sweep that was kept, number ``iterations``.
    ratings : tuple of float
        The different values of a Gaussian response that looks like ratings, ascending.
    clip : tuple of float or None
        Where predictions of a Gaussian response are clipped.
    dropped_terms : tuple of str
        Latent terms that variational Bayes has shrunk to nothing.
    fixed_variance, random_variance : float
        Variance over the rows of the fixed part; mean over the rows of the random effects' variance (for R2).
    """

    family: str
    link: str
    method: str
    nobs: int
    dropped: int
    dropped_missing: dict[str, int]
    dropped_zero_weight: int
    aliased: tuple[str, ...]
    df: int
    sigma: float
    deviance: float
    converged: bool
    singular: bool
    solver: str
    iterations: int
    seconds: float
    information: str
    gradient: float
    fixed_variance: float
    random_variance: float
    history: tuple[Iteration, ...]
    versions: dict[str, str]
    deviance_error: float = 0.0
    deviance_draws: tuple[float, ...] = ()
    probes: int = 0
    family_parameters: tuple[FamilyParameter, ...] = ()
    thresholds: Literal["flexible", "symmetric", "equidistant"] | None = None
    quadrature: int = 1
    held: tuple[str, ...] = ()
    locked: tuple[str, ...] = ()
    unbounded: tuple[str, ...] = ()
    empty_categories: tuple[str, ...] = ()
    elbo: float = float("nan")
    fixef_mcse: tuple[float, ...] = ()
    stopped: Literal["", "validation", "callback", "interrupt"] = ""
    two_stage: bool = False
    validation_rows: int = 0
    score: float = float("nan")
    ratings: tuple[float, ...] = ()
    clip: tuple[float, float] | None = None
    dropped_terms: tuple[str, ...] = ()

    @property
    def mode_gradient(self) -> float | None:
        """Norm of the gradient at the joint mode over that without random effects, where that is what was searched."""
        last = self.history[-1].gradient if self.history else math.nan
        return None if math.isnan(last) else last


@dataclass(frozen=True, eq=False)
class GroupModel:
    """What was learned about one grouping factor.

    Attributes
    ----------
    levels : Levels
        In the order of the arrays' first axis.
    combination : Combination or None
        For a product of columns.
    covariance : float64 array, shape (k, k)
        Among the coefficients of one level, response units squared over the covariates' units.
    modes : float64 array, shape (levels, k)
        Conditional modes.
    conditional : float64 array, shape (levels, k, k)
        Their covariance given the parameters and the fixed effects, as lme4 reports it.
    sensitivity : float64 array, shape (levels, k, p)
        How the modes fall as the fixed effects rise: ``modes = constant - sensitivity @ beta``. With it,
        ``conditional + sensitivity @ vcov @ sensitivity'`` includes the fixed effects' uncertainty. Zero in a Bayesian
        fit, whose ``modes`` are posterior means and ``conditional`` their covariance over all parameters.
    walk : Walk or None
        Where the levels stand in time; ``covariance`` is then that of the change in one unit of time, and the
        posterior is that of the increments that the levels are sums of.
    membership : Membership or None
        Of a history: the levels of each owner.
    owners : Levels or None
    apart : bool array, shape (levels,), or None
        Levels that were folded in or updated after the fit: ``conditional`` and ``sensitivity`` are all that is known
        of their uncertainty, and the model's posterior, which may lack them, says nothing of them. None is none.
    """

    levels: Levels
    combination: Combination | None
    covariance: FloatArray
    modes: FloatArray
    conditional: FloatArray
    sensitivity: FloatArray
    walk: Walk | None = None
    membership: Membership | None = None
    owners: Levels | None = None
    apart: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class PosteriorStage:
    """One eliminated factor's part of the posterior; a chain of these ends in the dense part.

    Given everything that is eliminated later, the coefficients of a level are ``-(pull @ those)`` plus an independent
    part of covariance ``own``.

    Attributes
    ----------
    group : int
    position : int64 array, shape (levels,)
        Where each of the group's levels is in the arrays below.
    own : float64 array, shape (levels, k, k)
    offsets : int64 array, shape (levels + 1,); columns : int32 array; pull : float64 array
        A level meets the dense columns ``columns[offsets[g]:offsets[g + 1]]``; its ``pull`` on them, shape (k, m),
        begins at ``k * offsets[g]``.
    parents : tuple of int32 array, shape (levels,)
        For each later stage, in order, the place there of the level that holds each level; all are nested.
    pull_up : float64 array, shape (levels, k, coefficients of those stages)
    """

    group: int
    position: npt.NDArray[np.int64]
    own: FloatArray
    offsets: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int32]
    pull: FloatArray
    parents: tuple[npt.NDArray[np.int32], ...]
    pull_up: FloatArray


@dataclass(frozen=True, eq=False)
class Posterior:
    """Joint covariance of all coefficients, fixed and random, given the covariance parameters.

    In the coordinates of the solver: a row with fixed effects ``x`` and covariates ``z`` enters as ``x @ x_back`` and
    ``z @ z_back``, and variances are multiplied by ``scale``.

    Attributes
    ----------
    scale : float
        Response units squared.
    x_back : float64 array, shape (p, p)
    z_back : tuple of float64 arrays (k, k), one for each group
    stages : tuple of PosteriorStage
        In the order of elimination.
    kept : tuple of int
        Groups in the dense part: level by level, coefficient by coefficient.
    kept_start : tuple of int
        First dense column of each; ``fixed_start`` is that of the fixed effects. The last column is the response's.
    dense : float64 array, shape (columns, columns)
    """

    scale: float
    x_back: FloatArray
    z_back: tuple[FloatArray, ...]
    stages: tuple[PosteriorStage, ...]
    kept: tuple[int, ...]
    kept_start: tuple[int, ...]
    fixed_start: int
    dense: FloatArray


@dataclass(frozen=True, eq=False)
class PosteriorDraws:
    """The joint posterior of all coefficients by draws, for systems too large to be factorised.

    The variance of a row is the mean square of its draws, and what is known exactly of each of its levels; see
    `ranef.score.variance`. Coordinates as in `Posterior`.

    Attributes
    ----------
    scale : float
        Response units squared.
    x_back : float64 array, shape (p, p)
    z_back : tuple of float64 arrays (k, k), one for each group
    chain : tuple of int
        Groups that were eliminated, each nested in the next.
    known : tuple of float64 arrays (levels, k, k), one for each group
        For the first of the chain the covariance of each level given everything else. For the others the covariance
        given everything that is not eliminated before them, less its value in these draws: zero on average.
    draws : tuple of float64 arrays (levels, k, draws), one for each group
        For the first of the chain, the mean given the rest of the draw.
    beta : float64 array, shape (p, draws)
    """

    scale: float
    x_back: FloatArray
    z_back: tuple[FloatArray, ...]
    chain: tuple[int, ...]
    known: tuple[FloatArray, ...]
    draws: tuple[FloatArray, ...]
    beta: FloatArray


@dataclass(frozen=True, eq=False)
class Sample:
    """Draws from the posterior of all parameters, raw units.

    Attributes
    ----------
    names : tuple of str
        Fixed effects, thresholds, standard deviations and correlations of each factor, residual standard deviation,
        logarithm of the posterior density (up to a constant).
    parameters : float64 array, shape (chains, draws, names)
    warmup, thin : int
        Sweeps of each chain that came before, and sweeps for each draw.
    kept : int64 array, shape (kept,)
        The draws whose coefficients are kept, chain after chain: all, or some at equal distances where they would take
        too much room.
    phi : float64 array, shape (kept, parameters of the family)
    covariances : tuple of float64 arrays (k, k, kept), one for each group
    effects : tuple of float64 arrays (levels, k, kept), one for each group
    """

    names: tuple[str, ...]
    parameters: FloatArray
    warmup: int
    thin: int
    kept: npt.NDArray[np.int64]
    phi: FloatArray
    covariances: tuple[FloatArray, ...]
    effects: tuple[FloatArray, ...]

    def beta(self, fixed: int) -> FloatArray:
        """Fixed effects of the kept draws, shape (fixed, kept)."""
        chains, draws, count = self.parameters.shape
        return np.ascontiguousarray(self.parameters.reshape(chains * draws, count)[self.kept, :fixed].T)


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Uncertainty of an ordinal model's thresholds, together with the coefficients that are compared with them.

    Attributes
    ----------
    vcov : float64 array, shape (p + q, p + q)
        Covariance of the fixed effects and the thresholds' parameters, ``(beta, phi)``.
    moves : tuple of float64 arrays (levels, k, q), one for each group
        How the modes rise with ``phi`` at given fixed effects.
    """

    vcov: FloatArray
    moves: tuple[FloatArray, ...]


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted model.

    Attributes
    ----------
    spec : DesignSpec
    info : FitInfo
    fixed_columns : tuple of int
        Columns of ``spec.fixed`` that are estimated.
    beta : float64 array, shape (p,)
    vcov : float64 array, shape (p, p)
    varcorr : tuple of VarianceRow
    groups : tuple of GroupModel
        One for each of ``spec.groups``.
    column_levels : mapping of str to Levels
        Levels of every column read as a factor.
    parameter_vcov : float64 array, shape (m, m)
        Covariance of the covariance parameters (relative factors, log residual variance), zero for those at the
        boundary. Without a residual variance (non-Gaussian families): relative factors, family's parameters.
    vcov_gradient : float64 array, shape (m, p, p)
        Derivatives of ``vcov`` by them (Satterthwaite).
    posterior : Posterior, PosteriorDraws or None
        None if the model was saved without it: intervals of predictions then cannot be had.
    phi : float64 array, shape (parameters of the family,)
        Parameters of `ranef.family`, without bounds.
    thresholds : Thresholds or None
        Of an ordinal model; None if it was saved without its posterior.
    attributes : mapping of str to pyarrow.Table
        By key, the columns that were read from tables of attributes; the key is the first column.
    sample : Sample or None
        Of a Bayesian fit. ``beta``, ``vcov``, the groups' arrays and ``phi`` are then posterior means and covariances,
        each over all other parameters.
    latent : tuple of LatentModel
        One for each of ``spec.latent``. The additive part is given them.
    seen : Seen or None
        The pairs of the fit's rows, where they are kept.
    counts : Counts or None
        How many rows each level has; None of models saved before there were any. A level beyond the last has none.
    states : tuple of LevelStates
        By factor, the levels that were updated after the fit.
    """

    spec: DesignSpec
    info: FitInfo
    fixed_columns: tuple[int, ...]
    beta: FloatArray
    vcov: FloatArray
    varcorr: tuple[VarianceRow, ...]
    groups: tuple[GroupModel, ...]
    column_levels: Mapping[str, Levels]
    parameter_vcov: FloatArray
    vcov_gradient: FloatArray
    posterior: Posterior | PosteriorDraws | None
    phi: FloatArray = field(default_factory=lambda: np.zeros(0))
    sample: Sample | None = None
    thresholds: Thresholds | None = None
    attributes: Mapping[str, pa.Table] = field(default_factory=dict)
    latent: tuple[LatentModel, ...] = ()
    seen: Seen | None = None
    counts: Counts | None = None
    states: tuple[LevelStates, ...] = ()

    @property
    def fixed_names(self) -> tuple[str, ...]:
        """Names of the estimated fixed effects."""
        return tuple(self.spec.fixed.names[j] for j in self.fixed_columns)

    @property
    def family(self) -> Family:
        """The distribution of the response, with its link, categories and structure of thresholds."""
        from ranef.family import family, ordinal  # SciPy, which Gaussian predictions do without

        if self.info.thresholds is None:
            return family(self.info.family, self.info.link).with_categories(self.spec.response_levels)
        made = ordinal(self.info.link, self.info.thresholds)
        return made.with_categories(self.spec.response_levels)
