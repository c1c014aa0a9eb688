"""How far the estimated variances and covariances of a fit are from the truth that made the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ranef.data.simulation import Truth

RESIDUAL = "Residual"


@dataclass(frozen=True)
class Distance:
    """One row of a fit's table of variances beside the truth.

    Attributes
    ----------
    name : str
        ``user``, ``user x``, ``user (Intercept).x`` for a covariance, ``Residual``.
    estimate, se, mcse : float
        As printed.
    off : float
        (estimate - truth) / se.
    noise : float
        mcse / se.
    """

    name: str
    estimate: float
    se: float
    mcse: float
    off: float
    noise: float


def covariances_of(truth: Truth) -> dict[str, float]:
    """True variances and covariances by the names of `Distance`."""
    named = {RESIDUAL: float(truth.sigma or 0) ** 2}
    for group, matrix in truth.covariance.items():
        effects = truth.coefficients[group]
        for i, one in enumerate(effects):
            named[label(group, one, None)] = float(matrix[i, i])
            named |= {label(group, one, effects[j]): float(matrix[i, j]) for j in range(i + 1, len(effects))}
    return named


def distances(rows: Sequence[Mapping[str, Any]], truth: Mapping[str, float]) -> list[Distance]:
    """Every row of ``varcorr`` (as ``ranef fit --json`` has it) beside the truth of its name."""
    found = []
    for row in rows:
        name = label(row["grp"], row["var1"], row["var2"])
        estimate, mcse = row["vcov"], row["mcse"]
        # a variance at zero has no standard error
        se = float("nan") if row["se"] is None else row["se"]
        found.append(Distance(name, estimate, se, mcse, (estimate - truth[name]) / se, mcse / se))
    return found


def label(group: str, one: str | None, other: str | None) -> str:
    """The name of a variance or covariance."""
    if other is not None:
        return f"{group} {one}.{other}"
    return group if one in (None, "(Intercept)") else f"{group} {one}"
