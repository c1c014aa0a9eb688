"""Locked terms: coefficients kept from an earlier fit, which enter the new one as an offset.

The locked factors are left out of the design that is fitted, and put back into the model afterwards, so that it
predicts with all of them. What the new fit says of its uncertainty is given the locked coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.artifact.model import GroupModel, Model, Posterior, PosteriorDraws, VarianceRow
from ranef.design.build import Design, Group
from ranef.design.spec import GroupSpec
from ranef.errors import OptionError, UnknownLevelWarning, nearest
from ranef.learn.assemble import random_variance
from ranef.learn.held import Given
from ranef.prior import Layout, Structure
from ranef.result.warm import modes_of, same_coefficients
from ranef.result.warn import warn

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Locked:
    """The locked factors on the rows of a new design.

    Attributes
    ----------
    design : Design
        With all factors.
    groups : dict of int to GroupModel
        By place in the design; levels in its order. Coefficients and their covariances are those of the earlier fit;
        zero, and the covariance of the factor, for new levels.
    rows : dict of int to tuple of VarianceRow
        The factors' rows of the table of variances.
    names : tuple of str
    """

    design: Design
    groups: dict[int, GroupModel]
    rows: dict[int, tuple[VarianceRow, ...]]
    names: tuple[str, ...]

    @property
    def free(self) -> tuple[int, ...]:
        """Places of the other factors."""
        return tuple(g for g in range(len(self.design.groups)) if g not in self.groups)


def lock_terms(design: Design, start: Model | None, lock: str | Sequence[str]) -> Locked:
    """The locked factors by their names.

    Raises
    ------
    OptionError
        There is no earlier fit, or one of the models has no such factor, or another one.

    Warns
    -----
    UnknownLevelWarning
        Rows whose level the earlier fit does not have.
    """
    names = [lock] if isinstance(lock, str) else list(lock)
    if start is None:
        raise OptionError("lock= keeps coefficients of an earlier fit: give it as start=")
    places = {spec.name: g for g, spec in enumerate(design.spec.groups)}
    learned = {spec.name: g for g, spec in enumerate(start.spec.groups)}
    for name, known, where in [(n, k, w) for n in names for k, w in ((places, "formula"), (learned, "fit in start="))]:
        if name not in known:
            close = nearest(name, known, 1) if isinstance(name, str) else []
            guess = f"; did you mean {close[0]!r}?" if close else "."
            listed = ", ".join(map(repr, known)) or "no random terms"
            raise OptionError(f"lock: there is no grouping factor {name!r} in the {where}{guess} It has {listed}")
    groups, rows = {}, {}
    for name in dict.fromkeys(names):
        g, old = places[name], start.spec.groups[learned[name]]
        spec = design.spec.groups[g]
        if not same_coefficients(spec, old):
            raise OptionError(
                f"lock: the terms of {name!r} are {_terms(old)} in the fit in start= and {_terms(spec)} here; they "
                "must have the same coefficients"
            )
        groups[g] = _group(design, g, start.groups[learned[name]])
        labels = {name if t == 0 else f"{name}.{t}" for t in range(len(old.terms))}
        rows[g] = tuple(
            msgspec.structs.replace(row, se=float("nan"), mcse=0.0) for row in start.varcorr if row.grp in labels
        )
    return Locked(design, groups, rows, tuple(dict.fromkeys(names)))


def _terms(spec: GroupSpec) -> str:
    return " + ".join(term.text for term in spec.terms)


def _group(design: Design, place: int, old: GroupModel) -> GroupModel:
    spec, group = design.spec.groups[place], design.groups[place]
    modes, at = modes_of(old, group.levels)
    new = at < 0
    if new.any():
        unknown = group.by_unit(new.astype(np.float64))[group.codes] > 0
        first = int(np.argmax(unknown))
        warn(
            f"{int(unknown.sum()):,} of {len(unknown):,} rows have a level of {spec.name!r} that the fit in start= "
            f"lacks ({int(new.sum()):,} levels; the first is {_label(group, new, first)!r}); their "
            "locked coefficients are zero",
            UnknownLevelWarning,
        )
    return GroupModel(
        levels=group.levels,
        combination=group.combination,
        covariance=old.covariance,
        modes=modes,
        conditional=np.where(new[:, None, None], old.covariance, old.conditional[at]),
        sensitivity=np.zeros((len(modes), modes.shape[1], 0)),
        walk=group.walk,
        membership=group.membership if group.owners is not None else None,
        owners=group.owners,
    )


def _label(group: Group, new: npt.NDArray[np.bool_], row: int) -> str:
    """The first new level of a row."""
    one, unit = group.membership, int(group.codes[row])
    levels = np.array([unit]) if one is None else one.level[one.start[unit] : one.start[unit + 1]]
    return group.levels.labels[int(levels[np.argmax(new[levels])])]


def without(locked: Locked) -> Design:
    """The design without the locked factors, their part in its offset."""
    design = locked.design
    offset = design.storage.empty(len(design.y))
    for rows in design.storage.pieces(len(design.y)):
        offset[rows] = 0.0 if design.offset is None else design.offset[rows]
        for g, learned in locked.groups.items():
            group = design.groups[g]
            offset[rows] += np.einsum(
                "nk,nk->n", group.covariates[rows], group.by_unit(learned.modes)[group.codes[rows]]
            )
    spec = msgspec.structs.replace(design.spec, groups=tuple(design.spec.groups[g] for g in locked.free))
    return replace(design, spec=spec, groups=tuple(design.groups[g] for g in locked.free), offset=offset)


def given_of_others(locked: Locked, given: Given, *, named: bool) -> Given:
    """What is given of the factors that are not locked.

    Parameters
    ----------
    named : bool
        The caller gave them one by one, and not a fit with all it has.

    Raises
    ------
    OptionError
        The caller gave one of a locked factor.
    """
    labels = {
        name if t == 0 else f"{name}.{t}"
        for g, name in ((g, locked.design.spec.groups[g].name) for g in locked.groups)
        for t in range(len(locked.design.spec.groups[g].terms))
    }
    if named and labels & set(given.names):
        raise OptionError(
            f"covariance: {', '.join(sorted(labels & set(given.names)))} is locked, its coefficients are kept as they "
            "are; leave its rows out"
        )
    return Given(
        covariances=tuple(given.covariances[g] for g in locked.free),
        sigma2=given.sigma2,
        names=tuple(name for name in given.names if name not in labels),
    )


def with_locked(model: Model, locked: Locked) -> Model:
    """The model of the others with the locked factors put back."""
    design, p = locked.design, len(model.beta)
    free = dict(zip(locked.free, model.groups, strict=True))
    kept = {g: replace(one, sensitivity=np.zeros((*one.modes.shape, p))) for g, one in locked.groups.items()}
    groups = tuple((free | kept)[g] for g in range(len(design.groups)))
    variance = random_variance(
        design, {spec.name: one.covariance for spec, one in zip(design.spec.groups, groups, strict=True)}
    )
    return replace(
        model,
        spec=design.spec,
        info=msgspec.structs.replace(model.info, locked=locked.names, random_variance=variance),
        varcorr=_varcorr(model, locked),
        groups=groups,
        parameter_vcov=_padded(model.parameter_vcov, locked, (0, 1)),
        vcov_gradient=_padded(model.vcov_gradient, locked, (0,)) if len(model.vcov_gradient) else model.vcov_gradient,
        posterior=_posterior(model.posterior, groups, locked),
    )


def _varcorr(model: Model, locked: Locked) -> tuple[VarianceRow, ...]:
    out: list[VarianceRow] = []
    for g, spec in enumerate(locked.design.spec.groups):
        labels = {spec.name if t == 0 else f"{spec.name}.{t}" for t in range(len(spec.terms))}
        out += locked.rows[g] if g in locked.rows else [row for row in model.varcorr if row.grp in labels]
    # the residual's, where there is one
    return (*out, *(row for row in model.varcorr if row.var1 is None))


def _padded(values: FloatArray, locked: Locked, axes: tuple[int, ...]) -> FloatArray:
    """Zeros where the parameters of the locked factors are, among those of all covariances."""
    blocks = (tuple(Structure(t.covariance, t.size) for t in spec.terms) for spec in locked.design.spec.groups)
    layout = Layout(tuple(blocks))
    own = [j for g in locked.groups for j in range(layout.slices[g].start, layout.slices[g].stop)]
    size = values.shape[axes[0]] + len(own)
    place = np.setdiff1d(np.arange(size), own)
    shape = [size if axis in axes else n for axis, n in enumerate(values.shape)]
    out = np.zeros(shape)
    out[np.ix_(*(place if axis in axes else np.arange(n) for axis, n in enumerate(values.shape)))] = values
    return out


def _posterior(
    posterior: Posterior | PosteriorDraws | None, groups: Sequence[GroupModel], locked: Locked
) -> Posterior | PosteriorDraws | None:
    """What is known of the others, by their places among all factors; the locked ones are certain."""
    if posterior is None:
        return None
    free = locked.free
    found = dict(zip(free, range(len(free)), strict=True))
    z_back = tuple(
        posterior.z_back[found[g]] if g in found else np.eye(one.modes.shape[1]) for g, one in enumerate(groups)
    )
    if isinstance(posterior, Posterior):
        return replace(
            posterior,
            z_back=z_back,
            stages=tuple(replace(stage, group=free[stage.group]) for stage in posterior.stages),
            kept=tuple(free[g] for g in posterior.kept),
        )
    count = posterior.beta.shape[1]

    known = {g: posterior.known[i] for g, i in found.items()}
    draws = {g: posterior.draws[i] for g, i in found.items()}
    for g, one in locked.groups.items():
        known[g], draws[g] = np.zeros_like(one.conditional), np.zeros((*one.modes.shape, count))

    return replace(
        posterior,
        z_back=z_back,
        chain=tuple(free[g] for g in posterior.chain),
        known=tuple(known[g] for g in range(len(groups))),
        draws=tuple(draws[g] for g in range(len(groups))),
    )
