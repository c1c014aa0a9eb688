"""Latent terms in a summary."""

from __future__ import annotations

import textwrap

import numpy as np

from ranef.artifact.model import Model
from ranef.result.text import align

WIDTH = 100
# of a latent term, the standard deviations that are shown
COMPONENTS = 6


def latent_terms(model: Model) -> list[str]:
    """For each factor of each latent term its levels, and the standard deviations of its first components."""
    if not model.latent:
        return []
    lines = ["Latent terms:"]
    for spec, term in zip(model.spec.latent, model.latent, strict=True):
        lines += textwrap.wrap(f"{spec.text}, rank {term.rank}", WIDTH - 1, initial_indent=" ", subsequent_indent="   ")
        if spec.text in model.info.dropped_terms:
            lines += [" Dropped: the vectors are as good as zero. See method='gibbs'"]
        fields = list(zip(spec.sides, term.sides, strict=True))
        names = [one.name for specs, _ in fields for one in specs]
        models = [one for _, side in fields for one in side]
        shown = min(term.rank, COMPONENTS)
        if model.info.method == "map":
            # residual variance, one outside the Gaussian family, over prior variance
            shown_as, values = "Penalty", [model.info.sigma**2 / np.diag(one.covariance)[:shown] for one in models]
        else:
            shown_as, values = "Std.Dev.", [np.sqrt(np.diag(one.covariance))[:shown] for one in models]
        deviations = [[f"{value:.3f}" for value in of] for of in values]
        levels = [str(len(one.levels)) for one in models]
        header = ["Factor", "Levels", shown_as, *[""] * (shown - 1)]
        columns = [[of[j] for of in deviations] for j in range(shown)]
        lines += align(header, [names, levels, *columns], left=1, indent="  ")
    return lines
