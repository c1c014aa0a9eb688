"""Separation: directions of the parameters along which the likelihood only grows, so that it has no maximum.

A combination of fixed effects and thresholds separates the responses if going along it makes no row less likely and
some rows more likely (Albert and Anderson 1984, Biometrika 71, 1-10): the rows of one level that are all successes,
say. Every row demands ``a @ direction >= 0``, and whether there is such a direction is a linear program (Konis 2007,
"Linear programming algorithms for detecting separated data", thesis, Oxford). It is solved on a few rows; those that
its solution violates join in, until there are none. Random effects do not matter: whatever they are, the direction
separates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ranef.design.build import Design
from ranef.family import Family
from ranef.family.ordinal import Ordinal
from ranef.family.ratings import Ratings

FloatArray = npt.NDArray[np.float64]

# of demands that one round adds; a program of this size takes milliseconds
MORE = 2000
MOST_ROUNDS = 30
# of a direction whose largest entry is one, on columns whose largest entry is one
NOTHING = 1e-6


def separated(design: Design, columns: Sequence[int], family: Family) -> tuple[str, ...]:
    """Fixed effects and thresholds that have no finite estimate.

    Parameters
    ----------
    design : Design
    columns : sequence of int
        Columns of the fixed part that are estimated.
    family : Family
        With its categories.

    Returns
    -------
    tuple of str
        Their names; empty if there are none, or if no answer was found in good time.
    """
    scale = np.zeros(len(columns))
    for rows in design.storage.pieces(len(design.y)):
        scale = np.maximum(scale, np.abs(design.x[rows][:, columns]).max(axis=0, initial=0.0))
    # a column of zeros is no direction
    direction = _direction(design, columns, 1 / np.where(scale > 0, scale, 1.0), family)
    if direction is None:
        return ()
    names = [*(design.spec.fixed.names[j] for j in columns), *(family.parameters if family.kind == "ordered" else ())]
    return tuple(name for name, entry in zip(names, direction, strict=True) if abs(entry) > NOTHING)


def _direction(design: Design, columns: Sequence[int], scale: FloatArray, family: Family) -> FloatArray | None:
    """A direction that all rows' demands allow and some gain from; None if there is none."""
    # only here: few fits need it
    from scipy.optimize import linprog

    def demands() -> Iterator[FloatArray]:
        for rows in design.storage.pieces(len(design.y)):
            yield _demands(design.y[rows], design.x[rows][:, columns] * scale, family)

    gain, known = None, []
    rows = len(design.y)
    for part in demands():
        gain = part.sum(axis=0) if gain is None else gain + part.sum(axis=0)
        known.append(part[:: max(1, rows // MORE)])
    if gain is None or not len(gain):
        return None
    for _ in range(MOST_ROUNDS):
        active = np.concatenate(known)
        found = linprog(-gain, A_ub=-active, b_ub=np.zeros(len(active)), bounds=(-1, 1), method="highs")
        if found.x is None or gain @ found.x <= NOTHING:
            return None
        violated = [part[part @ found.x < -NOTHING] for part in demands()]
        worst = np.concatenate(violated)
        if not len(worst):
            return np.asarray(found.x)
        known.append(worst[np.argsort(worst @ found.x)[:MORE]])
    return None


def _demands(y: FloatArray, x: FloatArray, family: Family) -> FloatArray:
    """What makes no row less likely, shape (demands, fixed effects); of an ordinal response + its parameters."""
    if isinstance(family, Ordinal):
        above, below = y < len(family.categories) - 1, y > 0
        code = y.astype(np.intp)
        j = family.jacobian
        return np.concatenate(
            [
                np.column_stack([-x[above], j[code[above]]]),
                np.column_stack([x[below], -j[code[below] - 1]]),
                *(np.concatenate([np.zeros(x.shape[1]), after - before])[None] for before, after in pairwise(j)),
            ]
        )
    match family.kind:
        case "binary" | "proportion":
            up, down = y > 0, y < 1
        case "rating":
            share = family.proportion(y) if isinstance(family, Ratings) else y
            up, down = share > 0, share < 1
        case "count":
            up, down = y > 0, y >= 0
        case _:
            return np.zeros((0, x.shape[1]))
    return np.concatenate([x[up], -x[down]])
