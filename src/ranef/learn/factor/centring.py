"""A constant moves between the intercept and the effects of a factor: no row sees it, and chains mix by it.

Each alone is held in place by the other: a sweep moves their means by little where levels have many rows. Given how
levels differ from one another, the constant has a normal distribution, from the effects' prior alone, the intercept's
being flat (interweaving: Yu and Meng 2011).
"""

from __future__ import annotations

import numpy as np

from ranef.design.matrix import INTERCEPT
from ranef.learn.factor.conditional import Priors
from ranef.learn.factor.start import Problem, effects_back
from ranef.solve.sweeps import Parameters, State


def draw_constants(
    problem: Problem, priors: Priors, state: State, parameters: Parameters, rng: np.random.Generator
) -> float:
    """Draw the constant of each factor that has an intercept of its own; effects and intercept change in place.

    Returns
    -------
    float
        Of an ordinal response, by how much thresholds and linear predictor have to fall: the effects have.
    """
    design, scaling = problem.design, problem.scaling
    ordered = design.spec.kind == "ordered"
    names = [design.spec.fixed.names[j] for j in scaling.columns]
    if not ordered and INTERCEPT not in names:
        return 0.0
    lost = 0.0
    for g, (side, m) in enumerate(priors.places):
        spec, group = design.spec.groups[g], design.groups[g]
        # the weights of bags need not add up to one, and walks are increments
        if INTERCEPT not in spec.coefficients or group.membership is not None or group.walk is not None:
            continue
        back, effects = effects_back(problem, g), state.coefficients[side][m].effects
        k = len(back)
        direction = np.linalg.inv(back)[:, spec.coefficients.index(INTERCEPT)] / scaling.y_scale
        pull = np.linalg.solve(parameters.covariances[side][m][-k:, -k:], direction)
        precision = len(effects) * float(pull @ direction)
        constant = float(pull @ effects.sum(axis=0)) / precision + rng.standard_normal() / np.sqrt(precision)
        effects -= constant * direction
        lost += constant
    if ordered:
        return lost
    raw = np.zeros(len(names))
    raw[names.index(INTERCEPT)] = lost
    state.beta[:] += np.linalg.solve(scaling.x_back, raw) / scaling.y_scale
    return 0.0
