"""The parameters of a fit by name, in lme4's order: what intervals are computed for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model
from ranef.design.spec import distinct

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """One parameter.

    Attributes
    ----------
    name : str
        ``sd_x|g``, ``cor_x.z|g``, ``sigma``, that of a threshold or dispersion, or of the fixed effect.
    kind : {"sd", "cor", "sigma", "family", "fixed"}
    group, term : int
        Grouping factor and term within it.
    i, j : int
        Coefficients of the factor, ``i`` before ``j`` for a correlation and ``i = j`` for a standard deviation; the
        place of the fixed effect, or of the family's parameter among those that it reports.
    """

    name: str
    kind: Literal["sd", "cor", "sigma", "family", "fixed"]
    group: int = -1
    term: int = -1
    i: int = -1
    j: int = -1


def parameters_of(model: Model) -> tuple[Parameter, ...]:
    """Standard deviations and correlations of each factor, sigma, fixed effects; the names are lme4's.

    In the place of sigma other families have their thresholds, ``theta`` or ``dispersion``, or nothing.
    """
    random: list[Parameter] = []
    for g, spec in enumerate(model.spec.groups):
        names = spec.coefficients
        for t, term in enumerate(spec.terms):
            for i in range(term.start, term.start + term.size):
                random.append(Parameter(f"sd_{names[i]}|{spec.name}", "sd", g, t, i, i))
                if term.covariance == "full":
                    random += [
                        Parameter(f"cor_{names[j]}.{names[i]}|{spec.name}", "cor", g, t, i, j)
                        for j in range(i + 1, term.start + term.size)
                    ]
    own = [Parameter(one.name, "family", i=i, j=i) for i, one in enumerate(model.info.family_parameters)]
    found = [*random, *([Parameter("sigma", "sigma")] if model.spec.kind == "number" else own)]
    found += [Parameter(name, "fixed", i=i, j=i) for i, name in enumerate(model.fixed_names)]
    names_ = distinct([one.name for one in found])
    return tuple(
        Parameter(name, one.kind, one.group, one.term, one.i, one.j) for name, one in zip(names_, found, strict=True)
    )


def values_of(
    parameters: Sequence[Parameter],
    covariances: Sequence[FloatArray],
    sigma: float,
    beta: FloatArray,
    own: Sequence[float] = (),
) -> FloatArray:
    """Values of the parameters, shape (parameters,); a correlation is NaN where a variance is zero.

    Parameters
    ----------
    covariances : sequence of float64 arrays (k, k)
        One for each grouping factor.
    own : sequence of float
        What the family reports of its own parameters.
    """
    out = np.empty(len(parameters))
    for place, one in enumerate(parameters):
        match one.kind:
            case "sigma":
                out[place] = sigma
            case "fixed":
                out[place] = beta[one.i]
            case "family":
                out[place] = own[one.i]
            case _:
                covariance = covariances[one.group]
                size = float(np.sqrt(covariance[one.i, one.i]))
                other = float(np.sqrt(covariance[one.j, one.j]))
                if one.kind == "sd":
                    out[place] = size
                else:
                    out[place] = covariance[one.i, one.j] / (size * other) if size * other > 0 else np.nan
    return out


def estimates_of(model: Model, parameters: Sequence[Parameter]) -> FloatArray:
    """The fit's own values."""
    covariances = [group.covariance for group in model.groups]
    own = [one.value for one in model.info.family_parameters]
    return values_of(parameters, covariances, model.info.sigma, model.beta, own)
