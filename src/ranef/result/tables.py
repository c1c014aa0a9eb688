"""The fit's tables as columns by name."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import GroupModel, Model
from ranef.design.spec import GroupSpec, distinct
from ranef.errors import OptionError
from ranef.result.satterthwaite import Ddf, fixed_df, two_sided_p
from ranef.score.thresholds import kept_thresholds

FloatArray = npt.NDArray[np.float64]
Columns: TypeAlias = dict[str, Any]  # arrays, lists or Arrow arrays of one length
SdKind = Literal["conditional", "prediction"]


def fixef_table(model: Model, ddf: Ddf = "satterthwaite") -> Columns:
    """Fixed effects.

    Parameters
    ----------
    model : Model
    ddf : {"satterthwaite", None}
        Degrees of freedom of the t distribution; None for the normal one.

    Returns
    -------
    dict
        ``term``, ``estimate``, ``se``, ``df``, ``z`` (estimate over se: a t statistic if ``df`` is finite), ``p``. Of a
        stochastic fit also ``mcse``, after ``se``: the estimate's Monte-Carlo standard error. Without ``df`` for
        families other than the Gaussian: their tests are by the normal distribution. Of a Bayesian fit the posterior's
        mean and standard deviation, quantiles, R-hat and effective sample sizes.

    Raises
    ------
    OptionError
    """
    if model.sample is not None:
        from ranef.result.bayes import posterior_fixef

        return posterior_fixef(model)
    se = np.sqrt(np.diag(model.vcov))
    df = fixed_df(model, ddf)
    z = model.beta / se
    columns: Columns = {"term": list(model.fixed_names), "estimate": model.beta, "se": se}
    columns |= {"mcse": np.array(model.info.fixef_mcse)} if model.info.fixef_mcse else {}
    columns |= {"df": df} if model.info.family == "gaussian" else {}
    return columns | {"z": z, "p": two_sided_p(z, df)}


def thresholds_table(model: Model) -> Columns:
    """Thresholds between the categories of an ordinal response: ``threshold``, ``estimate``, ``se``, ``z``.

    Of a stochastic fit also ``mcse``, after ``se``: the estimate's Monte-Carlo standard error.

    Raises
    ------
    OptionError
        The response is not ordinal.
    """
    if model.info.thresholds is None:
        raise OptionError(f"thresholds are those of family='ordinal'; this fit is {model.info.family!r}")
    found = model.info.family_parameters
    estimate, se = np.array([one.value for one in found]), np.array([one.se for one in found])
    columns: Columns = {"threshold": [one.name for one in found], "estimate": estimate, "se": se}
    columns |= {"mcse": np.array([one.mcse for one in found])} if model.info.solver == "stochastic" else {}
    return columns | {"z": estimate / se}


def ranef_table(model: Model, group: str, sd: bool = False, kind: SdKind = "conditional") -> Columns:
    """Conditional modes of the random effects of one grouping factor.

    Parameters
    ----------
    model : Model
    group : str
    sd : bool
        Add ``sd_<coefficient>`` for each coefficient.
    kind : {"conditional", "prediction"}
        Standard deviations given the parameters and the fixed effects, as lme4; or of the prediction error, which
        adds the fixed effects' uncertainty (Henderson 1975, Biometrics 31).

    Returns
    -------
    dict
        ``level`` in the type of the caller's column, then one column a coefficient, response units over the
        covariate's; a second coefficient of the same name gets the suffix ``.1``.

    Raises
    ------
    OptionError
        There is no such grouping factor or kind.
    """
    if kind not in ("conditional", "prediction"):
        raise OptionError(f"kind={kind!r} is not known: use 'conditional' or 'prediction'")
    spec, learned = find_group(model, group)
    names = distinct(spec.coefficients)
    columns: Columns = {"level": learned.levels.values}
    columns |= {name: learned.modes[:, j] for j, name in enumerate(names)}
    if sd:
        spread = np.sqrt(mode_variances(model, learned, kind))
        columns |= {f"sd_{name}": spread[:, j] for j, name in enumerate(names)}
    return columns


def mode_variances(model: Model, learned: GroupModel, kind: SdKind) -> FloatArray:
    """Variances of a factor's random effects around their modes, shape (levels, k); see `ranef_table`."""
    variance = np.einsum("gkk->gk", learned.conditional).copy()
    if kind == "prediction":
        variance += np.einsum("gkp,pq,gkq->gk", learned.sensitivity, model.vcov, learned.sensitivity, optimize=True)
    return np.asarray(np.maximum(variance, 0.0))


def coef_table(model: Model, group: str) -> Columns:
    """Coefficients of every level: fixed effects plus conditional modes.

    Fixed effects that do not vary with the factor are constant columns; a random coefficient without a fixed one
    stands alone, after them.

    Returns
    -------
    dict
        ``level``, then one column a coefficient.

    Raises
    ------
    OptionError
        There is no such grouping factor.
    """
    spec, learned = find_group(model, group)
    count = len(learned.levels)
    columns: Columns = {"level": learned.levels.values}
    sums = {name: np.full(count, value) for name, value in zip(model.fixed_names, model.beta, strict=True)}
    for j, name in enumerate(spec.coefficients):
        sums[name] = sums.get(name, 0.0) + learned.modes[:, j]
    return columns | sums


def varcorr_table(model: Model) -> Columns:
    """Variances, covariances and their standard errors, in the rows of lme4's ``as.data.frame(VarCorr(fit))``.

    Returns
    -------
    dict
        ``grp``, ``var1``, ``var2``, ``vcov``, ``sdcor``, ``se`` (of ``vcov``), ``mcse``.
    """
    rows = model.varcorr
    texts = {name: [getattr(row, name) for row in rows] for name in ("grp", "var1", "var2")}
    return texts | {name: np.array([getattr(row, name) for row in rows]) for name in ("vcov", "sdcor", "se", "mcse")}


def vcov_table(model: Model, thresholds: bool = False) -> Columns:
    """Covariance matrix of the fixed effects: ``term``, then one column a fixed effect.

    Parameters
    ----------
    model : Model
    thresholds : bool
        With an ordinal model's thresholds before them.

    Raises
    ------
    OptionError
        There are none, or their uncertainty was not saved.
    """
    names, vcov = list(model.fixed_names), model.vcov
    if thresholds:
        if model.info.thresholds is None:
            raise OptionError(f"thresholds=True: a model of family={model.info.family!r} has no thresholds")
        p, jacobian = len(names), model.family.natural_jacobian(model.phi)
        into = np.zeros((len(jacobian) + p, p + jacobian.shape[1]))
        into[: len(jacobian), p:], into[len(jacobian) :, :p] = jacobian, np.eye(p)
        names = [one.name for one in model.info.family_parameters] + names
        vcov = into @ kept_thresholds(model).vcov @ into.T
    return {"term": names} | {name: vcov[:, j] for j, name in enumerate(names)}


def find_group(model: Model, group: str) -> tuple[GroupSpec, GroupModel]:
    """A grouping factor by its name.

    Raises
    ------
    OptionError
        There is none; the message lists those there are.
    """
    for spec, learned in zip(model.spec.groups, model.groups, strict=True):
        if spec.name == group:
            return spec, learned
    known = [spec.name for spec in model.spec.groups]
    # a/b and a:b are the levels of b:a
    parts = sorted(re.split("[:/]", group)) if isinstance(group, str) else []
    same = [spec.name for spec in model.spec.groups if sorted(spec.columns) == parts]
    guess = f"; did you mean {same[0]!r}?" if same else ""
    listed = ", ".join(map(repr, known)) or "no random terms"
    raise OptionError(f"there is no grouping factor {group!r}{guess or ';'} the model has {listed}")
