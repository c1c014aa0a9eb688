"""The few directions that a probe knows least about: all levels of a factor shift alike.

The data hardly tell a shift of all users from one of all items or of the intercept, so that a shift has by far the
largest posterior variance of all directions, and what a probe says of a trace is mostly the square of one normal
number. These directions are therefore taken out of the probes, and their part is computed exactly, by one more
right-hand side each: with ``V`` the functionals, ``x - QV (V'QV)^-1 V'x`` is independent of ``V'x``, and the rest of
the covariance is ``QV (V'QV)^-1 V'Q`` (deflation, as Hutch++ has it: Meyer, Musco, Musco and Woodruff 2021).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ranef.solve.cross_products import CrossProducts
from ranef.solve.elimination import Coefficients, from_blocks, inner

FloatArray = npt.NDArray[np.float64]

# of a direction that others span already, or of a factor without variance
SMALLEST = 1e-10


def shifts(cross: CrossProducts) -> Coefficients:
    """``V``: for each coefficient of each block the sum over its levels, one side each."""
    sides = sum(cross.sizes)
    values, at = [], 0
    for levels, size in zip(cross.levels, cross.sizes, strict=True):
        own = np.zeros((levels, size, sides))
        own[:, :, at : at + size] = np.eye(size)
        values.append(own)
        at += size
    return from_blocks(cross, values, sides)


def apart(solved: Coefficients, functionals: Coefficients, probes: int, before: int = 1) -> Coefficients:
    """The probes without the directions that are known, and these.

    Parameters
    ----------
    solved : Coefficients
        Sides: ``before`` that stay as they are, ``probes`` draws ``x``, then ``QV``. Raw coordinates.
    functionals : Coefficients
        ``V``.
    probes, before : int

    Returns
    -------
    Coefficients
        In place of the draws, what is independent of ``V'x``; in place of ``QV``, a ``K`` with
        ``KK' = QV (V'QV)^-1 V'Q``.
    """
    change = separation(inner(functionals, solved), probes, before)
    return Coefficients(tuple(s @ change for s in solved.stages), solved.rest @ change)


def separation(found: FloatArray, probes: int, before: int) -> FloatArray:
    """What the sides of `apart` are multiplied by, given their products ``found`` with the functionals."""
    first, last = before + probes, found.shape[1]
    root = _inverse_root(found[:, first:])
    change = np.eye(last)
    change[first:, before:first] = -root @ root.T @ found[:, before:first]
    change[first:, first:] = root
    return change


def _inverse_root(covariance: FloatArray) -> FloatArray:
    """``R`` with ``RR'`` the (pseudo-)inverse."""
    scale = np.sqrt(np.diag(covariance).clip(0))
    scale = np.where(scale > 0, scale, np.inf)
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2 / np.outer(scale, scale))
    kept = values > SMALLEST * max(1.0, values[-1] if len(values) else 1.0)
    return np.asarray(vectors * np.where(kept, 1 / np.sqrt(np.where(kept, values, 1.0)), 0.0) / scale[:, None])
