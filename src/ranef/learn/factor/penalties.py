"""Penalties of vectors and random effects: residual variance over prior variance, given or from variational sweeps.

As in ``sum w e^2 + penalty * sum |c|^2`` with the vectors and effects ``c`` of all levels of a factor, in the units of
response and covariates; another family's residual variance counts as one, ``-2 log-likelihood + penalty * sum |c|^2``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from ranef.errors import OptionError, nearest
from ranef.learn.factor.start import Problem, effects_back
from ranef.solve.sweeps import Parameters

FloatArray = npt.NDArray[np.float64]
Penalty = float | Mapping[str, float] | None


def check_penalty(penalty: Penalty, names: list[str]) -> None:
    """Refuse penalties that are no positive numbers, or of what the latent terms do not have.

    Parameters
    ----------
    names : list of str
        The factors of all latent and random terms.

    Raises
    ------
    OptionError
    """
    values = penalty if isinstance(penalty, Mapping) else {"": penalty}
    for name, value in values.items():
        if isinstance(penalty, Mapping) and name not in names:
            close = nearest(name, names, 1) if isinstance(name, str) else []
            guess = f" Did you mean {close[0]!r}?" if close else ""
            raise OptionError(
                f"penalty: {name!r} is no factor of the formula.{guess} There are {', '.join(map(repr, names))}"
            )
        number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        if value is not None and not (number and 0 < float(value) < np.inf):
            where = f"penalty of {name!r}" if name else "penalty"
            raise OptionError(
                f"{where}={value!r}: give a positive number (residual variance over prior variance), a mapping of "
                "factors to such numbers, or nothing to have them learned"
            )


def given_penalty(penalty: Penalty, name: str) -> float | None:
    """What was given for a factor."""
    value = penalty.get(name) if isinstance(penalty, Mapping) else penalty
    return None if value is None else float(value)


def are_given(problem: Problem, penalty: Penalty) -> bool:
    """Whether there is a penalty for every factor."""
    members = [member for side in problem.sides.sides for member in side.members]
    return all(given_penalty(penalty, member.name) is not None for member in members)


def with_penalties(problem: Problem, parameters: Parameters, penalty: Penalty) -> Parameters:
    """The parameters with the covariances that given penalties stand for."""
    out = []
    for side, covariances in zip(problem.sides.sides, parameters.covariances, strict=True):
        of = []
        for member, covariance in zip(side.members, covariances, strict=True):
            value = given_penalty(penalty, member.name)
            if value is not None:
                rank = 0 if side.term is None else problem.sides.terms[side.term].rank
                # products of vectors are in the response's units, hence vectors in their root
                covariance = problem.scaling.y_scale * np.eye(len(member.columns))
                if member.group is not None:
                    inverse = np.linalg.inv(effects_back(problem, member.group))
                    covariance[rank:, rank:] = inverse @ inverse.T
                covariance *= parameters.sigma2 / value
            of.append(covariance)
        out.append(tuple(of))
    return Parameters(parameters.sigma2, tuple(out))


def rescaled(parameters: Parameters, sigma2: float) -> Parameters:
    """The same penalties at another residual variance."""
    ratio = sigma2 / parameters.sigma2
    return Parameters(sigma2, tuple(tuple(ratio * one for one in of) for of in parameters.covariances))


def effect_covariances(problem: Problem, parameters: Parameters) -> list[FloatArray]:
    """Covariance of each grouping factor's effects, response units squared over the covariates' units."""
    out: dict[int, FloatArray] = {}
    for side, covariances in zip(problem.sides.sides, parameters.covariances, strict=True):
        rank = 0 if side.term is None else problem.sides.terms[side.term].rank
        for member, covariance in zip(side.members, covariances, strict=True):
            if member.group is not None:
                back = problem.scaling.y_scale * effects_back(problem, member.group)
                out[member.group] = back @ covariance[rank:, rank:] @ back.T
    return [out[group] for group in range(len(out))]
