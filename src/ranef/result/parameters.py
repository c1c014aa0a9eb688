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
        ``sd_x|g``, ``cor_x.z|g``, ``sigma``, or that of the fixed effect.
    kind : {"sd", "cor", "sigma", "fixed"}
    group, term : int
        Grouping factor and term within it.
    i, j : int
        Coefficients of the factor, ``i`` before ``j`` for a correlation and ``i = j`` for a standard deviation; the
        fixed effect's place.
    """

    name: str
    kind: Literal["sd", "cor", "sigma", "fixed"]
    group: int = -1
    term: int = -1
    i: int = -1
    j: int = -1


def parameters_of(model: Model) -> tuple[Parameter, ...]:
    """Standard deviations and correlations of each factor, sigma, fixed effects; the names are lme4's."""
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
    found = [*random, Parameter("sigma", "sigma")]
    found += [Parameter(name, "fixed", i=i, j=i) for i, name in enumerate(model.fixed_names)]
    names_ = distinct([one.name for one in found])
    return tuple(
        Parameter(name, one.kind, one.group, one.term, one.i, one.j) for name, one in zip(names_, found, strict=True)
    )


def values_of(
    parameters: Sequence[Parameter], covariances: Sequence[FloatArray], sigma: float, beta: FloatArray
) -> FloatArray:
    """Values of the parameters, shape (parameters,); a correlation is NaN where a variance is zero."""
    out = np.empty(len(parameters))
    for place, one in enumerate(parameters):
        match one.kind:
            case "sigma":
                out[place] = sigma
            case "fixed":
                out[place] = beta[one.i]
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
    return values_of(parameters, [group.covariance for group in model.groups], model.info.sigma, model.beta)
