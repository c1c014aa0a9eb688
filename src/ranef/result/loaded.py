"""What a loaded model says of how it was fitted."""

from __future__ import annotations

from typing import Any

from ranef.artifact.model import Model
from ranef.design.columns import Column
from ranef.formula import parse


def options_of(model: Model) -> dict[str, Any]:
    """Options that fit a loaded model again: those that say what it is a model of."""
    spec, info = model.spec, model.info
    options: dict[str, Any] = {"family": info.family, "link": info.link, "weights": spec.weights}
    if info.thresholds is not None:
        options |= {"family": model.family, "link": None}
    if len(spec.offsets) > len(parse(spec.formula).offsets) and isinstance(spec.offsets[-1], Column):
        options["offset"] = spec.offsets[-1].name
    if model.attributes:
        options["tables"] = model.attributes
    if info.clip is not None or model.latent:
        options["clip"] = info.clip
    if info.method not in ("reml", "laplace"):
        options["method"] = info.method
    return options
