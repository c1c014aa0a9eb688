"""A fit of implicit feedback as text."""

from __future__ import annotations

import numpy as np

from ranef.artifact.implicit import ImplicitModel
from ranef.errors import counted

SHOWN = 8


def implicit_summary(model: ImplicitModel, formula: str) -> str:
    """What was fitted, the weights and how they were chosen, how the objective fell, the largest axes."""
    spec, info = model.spec, model.info
    users, items = len(model.users), len(model.items)
    weights = info.weights
    lines = ["Latent factors of implicit feedback, weighted alternating least squares", f"Formula: {formula}", ""]
    rows = "" if info.nobs == info.pairs else f" in {info.nobs:,} rows"
    lines.append(
        f"{info.pairs:,} pairs{rows}: {users:,} {spec.user!r} x {items:,} {spec.item!r}, "
        f"{info.pairs / (users * items):.3%} observed"
    )
    if info.dropped:
        lines.append(f"{counted(info.dropped, 'row')} left out: a value missing, or the confidence zero")
    confidence = "1" if spec.confidence is None else spec.label
    lines += [
        "",
        f"rank {model.rank}, confidence {confidence}, unobserved weight {weights.unobserved:.4g}, penalty "
        f"{weights.penalty:.4g} x weight^{weights.exponent:g}",
    ]
    if info.chosen:
        best = max(info.trials, key=lambda one: (one.rank == model.rank and _same(one, model), one.ndcg))
        lines.append(
            f"{', '.join(info.chosen)} chosen among {counted(len(info.trials), 'setting')} on "
            f"{counted(info.validation_users, 'validation user')}: NDCG@100 {best.ndcg:.4f} (se {best.se:.4f})"
        )
    first, last = info.history[0], info.history[-1]
    end = "" if info.converged else "; NOT CONVERGED"
    lines.append(
        f"objective {first.objective:.7g} after the first sweep, {last.objective:.7g} after "
        f"{counted(len(info.history), 'sweep')}{end}; {info.seconds:.2g} s"
    )
    share = np.diag(model.gram) / max(float(np.trace(model.gram)), np.finfo(float).tiny)
    shown = ", ".join(f"{one:.1%}" for one in share[:SHOWN])
    lines.append(f"share of the axes of {spec.item!r}: {shown}{', ...' if model.rank > SHOWN else ''}")
    return "\n".join(lines)


def _same(trial: object, model: ImplicitModel) -> bool:
    weights = model.info.weights
    return all(getattr(trial, name) == getattr(weights, name) for name in ("unobserved", "penalty", "exponent"))
