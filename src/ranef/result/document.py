"""A fit as one JSON document, for programs: what ``ranef fit --json`` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ranef.result.implicit_fit import ImplicitFit
from ranef.result.tables import fixef_table, thresholds_table, varcorr_table

if TYPE_CHECKING:
    from ranef.result.fit import Fit


def document(fit: Fit) -> dict[str, Any]:
    """A fit as plain dicts, lists, text and numbers; what is not finite is None.

    Parameters
    ----------
    fit : Fit

    Returns
    -------
    dict
        Keys ``method``, ``formula``, ``family``, ``link``, ``nobs``, ``dropped``, ``dropped_missing`` (rows without a
        value by column), ``groups`` (levels by factor), ``fixef`` (rows of `Fit.fixef`), ``varcorr`` (rows of
        `Fit.varcorr`), ``thresholds`` (rows of `Fit.thresholds`, of an ordinal response) and ``dispersion`` (``name``,
        ``estimate``, ``se``, of a negative binomial or gamma one), ``sigma``, ``loglik``, ``loglik_mcse``,
        ``deviance``, ``aic``, ``bic``, ``df``, ``converged``, ``singular``, ``solver``, ``iterations``, ``seconds``. Of
        implicit feedback those that it has, and ``pairs``, ``rank``, ``unobserved``, ``penalty``, ``exponent``,
        ``objective``, ``trials``.
    """
    if isinstance(fit, ImplicitFit):
        return _implicit(fit)
    info = fit.model.info
    # a Bayesian fit has none
    likelihood = fit.model.sample is None and not fit.model.latent
    levels = {spec.name: len(group.levels) for spec, group in zip(fit.model.spec.groups, fit.model.groups, strict=True)}
    return {
        "method": info.method,
        "formula": fit.formula,
        "family": info.family,
        "link": info.link,
        "nobs": info.nobs,
        "dropped": info.dropped,
        "dropped_missing": dict(info.dropped_missing),
        "groups": levels,
        "fixef": _rows(fixef_table(fit.model)),
        "varcorr": _rows(varcorr_table(fit.model)),
        "thresholds": None if info.thresholds is None else _rows(thresholds_table(fit.model)),
        "dispersion": _dispersion(fit),
        "sigma": _plain(fit.sigma),
        "loglik": _plain(fit.loglik) if likelihood else None,
        "loglik_mcse": _plain(fit.loglik_mcse) if likelihood else None,
        "deviance": _plain(fit.deviance) if likelihood else None,
        "aic": _plain(fit.aic) if likelihood else None,
        "bic": _plain(fit.bic) if likelihood else None,
        "df": fit.df,
        "converged": info.converged,
        "singular": info.singular,
        "solver": info.solver,
        "iterations": info.iterations,
        "seconds": fit.seconds,
    }


def _implicit(fit: ImplicitFit) -> dict[str, Any]:
    """A fit of implicit feedback: what it has of the keys of others, its weights and what was tried."""
    spec, info = fit.model.spec, fit.model.info
    return {
        "method": fit.method,
        "formula": fit.formula,
        "family": fit.family,
        "link": fit.link,
        "nobs": info.nobs,
        "pairs": info.pairs,
        "dropped": info.dropped,
        "dropped_missing": dict(info.dropped_missing),
        "groups": {spec.user: len(fit.model.users), spec.item: len(fit.model.items)},
        "rank": fit.rank,
        "unobserved": fit.unobserved,
        "penalty": fit.penalty,
        "exponent": fit.exponent,
        "objective": _plain(fit.objective),
        "trials": [msgspec.to_builtins(one) for one in info.trials],
        "converged": info.converged,
        "solver": fit.solver,
        "iterations": fit.iterations,
        "seconds": fit.seconds,
    }


def to_json(fit: Fit) -> str:
    """`document` as indented JSON text."""
    return msgspec.json.format(msgspec.json.encode(document(fit)), indent=2).decode()


def _dispersion(fit: Fit) -> dict[str, Any] | None:
    info = fit.model.info
    if info.thresholds is not None or not info.family_parameters:
        return None
    (one,) = info.family_parameters
    return {"name": one.name, "estimate": _plain(one.value), "se": _plain(one.se)}


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [
        {name: _plain(value) for name, value in zip(columns, row, strict=True)}
        for row in zip(*columns.values(), strict=True)
    ]


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # a NumPy number
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
