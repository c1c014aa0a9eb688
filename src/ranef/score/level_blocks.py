"""The row update of some levels of one factor: modes, covariances, and how these move with what is held fixed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import Model, Thresholds
from ranef.design.membership import Membership
from ranef.errors import FitError
from ranef.score.block_modes import Found, Response, Sorted, block_modes, sort_rows
from ranef.score.fold_rows import FoldRows, Values, block_of, linear_predictor, partners, set_block
from ranef.score.latent import FieldRows
from ranef.score.merged import Merged, field_of, unpacked

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ROWS_AT_ONCE = 1 << 15
# change of the linear predictors, in units of their size, below which a sweep over several factors was the last one
SETTLED = 1e-12
MOST_SWEEPS = 2_000


@dataclass(frozen=True, eq=False)
class Target:
    """Levels of one factor, and what is known of them before: ``b = mean + root u``, where u is normal around zero.

    Attributes
    ----------
    factor : Merged
    levels : int64 array, shape (L,)
        Their codes, ascending.
    mean : float64 array, shape (L, d)
    root : float64 array, shape (d, d)
    precision : float64 array, shape (d, d) or (L, d, d)
        Of u.
    sensitivity : float64 array, shape (L, k, p), or None
        Of the effects, ``precision`` times how ``mean`` falls as the fixed effects rise; None is zero.
    moves : float64 array, shape (L, k, q), or None
        ``precision`` times how it rises with the family's parameters.
    """

    factor: Merged
    levels: IntArray
    mean: FloatArray
    root: FloatArray
    precision: FloatArray
    sensitivity: FloatArray | None = None
    moves: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Updated:
    """What the rows say of the levels of a target.

    Attributes
    ----------
    block : float64 array, shape (L, d)
        Modes.
    conditional : float64 array, shape (L, k, k)
        Covariance of the effects, given the rest of the model.
    spreads : tuple of float32 arrays (L, rank (rank + 1) / 2) or (L, rank)
        Of each latent term's vectors, as the model keeps them.
    sensitivity : float64 array, shape (L, k, p)
    moves : float64 array, shape (L, k, q)
    precisions : float64 array, shape (L, d, d)
        Of whole blocks, in the coordinates of the target's root; no levels where they are not wanted.
    """

    block: FloatArray
    conditional: FloatArray
    spreads: tuple[npt.NDArray[np.float32], ...]
    sensitivity: FloatArray
    moves: FloatArray
    precisions: FloatArray


def _places(target: Target, rows: FoldRows) -> IntArray:
    """The place of each row's level in the target, -1 for none; shape (rows,)."""
    codes = rows.codes(target.factor)
    place = np.full(int(max(codes.max(initial=-1), target.levels.max(initial=-1))) + 3, -1, np.int64)
    place[target.levels] = np.arange(len(target.levels))
    return place[codes]


def block_covariates(factor: Merged, rows: FoldRows, values: Values) -> Callable[[IntArray], FloatArray]:
    """From places of rows to what multiplies their level's block."""
    of_fields = [partners(rows, values, place) for place in factor.fields]

    def covariates(at: IntArray) -> FloatArray:
        parts = [] if factor.group is None else [rows.groups[factor.group].covariates[at]]
        for met in of_fields:
            total = met[0][0][met[0][1][at]]
            for units, codes in met[1:]:
                total += units[codes[at]]
            parts.append(total)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    return covariates


def update_blocks(
    target: Target,
    rows: FoldRows,
    values: Values,
    response: Response,
    eta: FloatArray,
    model: Model,
    *,
    precisions: bool = False,
) -> Updated:
    """The levels' modes given everything else; ``values`` and ``eta``, shape (rows,), are brought up to them.

    Raises
    ------
    FitError
    """
    factor, count = target.factor, len(target.levels)
    local = _places(target, rows)
    own_rows = np.flatnonzero(local >= 0)
    of = sort_rows(local[own_rows], own_rows, count)
    covariates = block_covariates(factor, rows, values)
    blur = _partners_spread(factor, rows, response, model, of)
    if blur is not None and target.mean.any():
        target, blur = _blurred(target, blur(np.arange(count))), None
    rest = _without(target, block_of(factor, values)[target.levels], of, local, covariates, eta)
    plain = np.array_equal(target.root, np.eye(factor.size))

    def rooted(at: IntArray) -> FloatArray:
        return covariates(at) if plain else covariates(at) @ target.root

    def prior(levels: IntArray) -> FloatArray:
        own = target.precision if target.precision.ndim == 2 else target.precision[levels]
        return own if blur is None else own + target.root.T @ blur(levels) @ target.root

    p, q, k = len(values.beta), len(response.phi), factor.effects
    q = q if model.thresholds is not None else 0
    sensitive = k > 0 and model.sample is None
    out = Updated(
        block=np.empty((count, factor.size)),
        conditional=np.empty((count, k, k)),
        spreads=tuple(np.empty((count, field_of(model, one).spread.shape[1]), np.float32) for one in factor.fields),
        sensitivity=np.zeros((count, k, p)),
        moves=np.zeros((count, k, q)),
        precisions=np.empty((count if precisions else 0, factor.size, factor.size)),
    )
    for found in block_modes(of, response, rooted, rest, prior, factor.size, p + q if sensitive else 0):
        at = found.levels
        out.block[at] = target.mean[at] + found.mode @ target.root.T
        whole = found.inverse if plain else np.asarray(target.root @ found.inverse @ target.root.T)
        out.conditional[at] = whole[:, :k, :k]
        for spread, own in zip(out.spreads, factor.field_slices, strict=True):
            spread[at] = _packed(whole[:, own, own], spread.shape[1])
        if precisions:
            out.precisions[at] = found.precision
        if sensitive:
            # as in a fit, the effects move at given vectors
            own_inverse = found.inverse if k == factor.size else np.linalg.inv(found.precision[:, :k, :k])
            _movements(target, found, np.asarray(own_inverse), rows, response, model, out)
        eta[found.rows[found.mask]] = found.eta[found.mask]
    set_block(factor, values, target.levels, out.block)
    return out


def _without(
    target: Target,
    block: FloatArray,
    of: Sorted,
    local: IntArray,
    covariates: Callable[[IntArray], FloatArray],
    eta: FloatArray,
) -> FloatArray:
    """Linear predictors with the levels at the middle of their prior."""
    rest, away = eta.copy(), block - target.mean
    if away.any():
        for first in range(0, len(of.rows), ROWS_AT_ONCE):
            at = of.rows[first : first + ROWS_AT_ONCE]
            rest[at] -= np.einsum("nd,nd->n", covariates(at), away[local[at]])
    return rest


def _movements(
    target: Target, found: Found, inverse: FloatArray, rows: FoldRows, response: Response, model: Model, out: Updated
) -> None:
    """How the modes follow the fixed effects and the thresholds, the other random effects following these too."""
    k, flat, shape = target.factor.effects, found.rows.reshape(-1), found.mask.shape
    weights = None if response.weights is None else response.weights[flat]
    at = response.y[flat], found.eta.reshape(-1), weights, response.phi
    weight = np.where(found.mask, response.family.derivatives(*at)[2].reshape(shape), 0.0)
    turned = found.covariates[:, :, :k].transpose(0, 2, 1)
    root = target.root[:k, :k]
    follow = rows.x[flat]
    for g, one in enumerate(rows.groups):
        if g != target.factor.group:
            follow = follow - _of_rows(one.by_code(model.groups[g].sensitivity), one.codes[flat], one.covariates[flat])
    right = np.matmul(turned, weight[:, :, None] * follow.reshape(*shape, follow.shape[1]))
    if target.sensitivity is not None:
        right += target.sensitivity[found.levels]
    out.sensitivity[found.levels] = root @ np.matmul(inverse, right)
    if model.thresholds is None:
        return
    q = len(response.phi)
    by_phi = response.family.parameter_derivatives(*at)[1].reshape(*shape, q) * found.mask[:, :, None]
    for g, one in enumerate(rows.groups):
        if g != target.factor.group:
            moved = _of_rows(one.by_code(model.thresholds.moves[g]), one.codes[flat], one.covariates[flat])
            by_phi = by_phi - weight[:, :, None] * moved.reshape(*shape, q)
    right = np.matmul(turned, by_phi)
    if target.moves is not None:
        right += target.moves[found.levels]
    out.moves[found.levels] = root @ np.matmul(inverse, right)


def _of_rows(by_code: FloatArray, codes: npt.NDArray[np.integer], covariates: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("nk,nkp->np", covariates, by_code[codes]))


def _packed(covariance: FloatArray, width: int) -> FloatArray:
    k = covariance.shape[1]
    i, j = (np.arange(k), np.arange(k)) if width == k else np.tril_indices(k)
    return covariance[:, i, j]


def _blurred(target: Target, blur: FloatArray) -> Target:
    """The prior times what the uncertainty of the partners adds, ``exp(-b' blur b / 2)``."""
    root, d = target.root, target.factor.size
    own = np.broadcast_to(target.precision, (len(target.levels), d, d)) + root.T @ blur @ root
    # the middle moves with it, in the coordinates of the root
    right = root.T @ np.matmul(blur, target.mean[:, :, None])
    shift = np.linalg.solve(own, right)[:, :, 0]
    return replace(target, precision=own, mean=target.mean - shift @ root.T)


def _partners_spread(
    factor: Merged, rows: FoldRows, response: Response, model: Model, of: Sorted
) -> Callable[[IntArray], FloatArray] | None:
    """From places of levels to the sums over their rows of weight times the partners' covariance, shape (b, d, d).

    None where vectors count as certain: of any method but variational Bayes, and of other families than the Gaussian.
    """
    if model.info.method != "vb" or response.family.name != "gaussian" or not factor.fields:
        return None
    from scipy.sparse import csr_array  # slow to import

    count = len(of.start) - 1
    scale = float(np.exp(-response.phi[0]))
    weights = np.full(len(of.rows), scale) if response.weights is None else scale * response.weights[of.rows]
    parts = []
    for (t, own_side, _), own in zip(factor.fields, factor.field_slices, strict=True):
        for s, side in enumerate(rows.latent[t]):
            for f, met in enumerate(side):
                if s == own_side:
                    continue
                spread = _unit_spreads(model.latent[t].sides[s][f].spread, met)
                codes = met.codes[of.rows]
                # unknown ones count as zero
                place = np.where(codes < 0, len(spread) - 1, codes)
                parts.append((own, csr_array((weights, place, of.start), (count, len(spread))), spread))

    def of_levels(levels: IntArray) -> FloatArray:
        out = np.zeros((len(levels), factor.size, factor.size))
        for own, matrix, spread in parts:
            out[:, own, own] += unpacked(np.asarray(matrix[levels] @ spread), own.stop - own.start)
        return out

    return of_levels


def _unit_spreads(spread: npt.NDArray[np.float32], of: FieldRows) -> FloatArray:
    """Packed covariances of units, and zeros behind."""
    nothing = np.zeros((1, spread.shape[1]))
    own = np.concatenate([spread.astype(np.float64), nothing, nothing])
    if of.membership is None:
        return own
    squared = Membership(of.membership.start, of.membership.level, of.membership.weight**2)
    return np.concatenate([squared.sums(own), nothing])


def solved(
    model: Model,
    rows: FoldRows,
    targets: Sequence[Target],
    values: Values,
    response: Response,
    *,
    precisions: bool = False,
) -> list[tuple[Target, Updated]]:
    """The joint mode of the levels of several factors; ``values`` are brought up to it.

    Levels that share no row with one of another factor are found at once; the others take turns.

    Parameters
    ----------
    model : Model
    rows : FoldRows
    targets : sequence of Target
    values : Values
        Everything that is held, and where the levels begin.
    response : Response
    precisions : bool
        Whether the precisions of whole blocks are wanted.

    Raises
    ------
    FitError
    """
    eta = linear_predictor(rows, values)
    places = [_places(target, rows) for target in targets]
    shared = np.sum([place >= 0 for place in places], axis=0) > 1
    found, coupled = [], []
    for target, place in zip(targets, places, strict=True):
        meets = np.zeros(len(target.levels), np.bool_)
        meets[place[shared & (place >= 0)]] = True
        alone = _some(target, ~meets)
        found.append((alone, update_blocks(alone, rows, values, response, eta, model, precisions=precisions)))
        coupled.append(_some(target, meets))
    if not shared.any():
        return found
    of_coupled = np.any([_places(target, rows) >= 0 for target in coupled], axis=0)
    rows, eta = rows.take(of_coupled), eta[of_coupled]
    response = replace(response, y=rows.y, weights=rows.weights)
    for _ in range(MOST_SWEEPS):
        before, last = eta.copy(), []
        for target in coupled:
            last.append((target, update_blocks(target, rows, values, response, eta, model, precisions=precisions)))
            # what the others see of these levels: how uncertain they are, and how they follow what is held
            model = written_back(model, last[-1:])
        if np.max(np.abs(eta - before)) <= SETTLED * (1 + np.max(np.abs(eta))):
            return [*found, *last]
    raise FitError(
        f"the coefficients of new levels of {', '.join(one.factor.name for one in targets)} still move after "
        f"{MOST_SWEEPS:,} turns; fold in one factor's levels at a time"
    )


def _some(target: Target, levels: npt.NDArray[np.bool_]) -> Target:
    return replace(
        target,
        levels=target.levels[levels],
        mean=target.mean[levels],
        precision=target.precision if target.precision.ndim == 2 else target.precision[levels],
        sensitivity=None if target.sensitivity is None else target.sensitivity[levels],
        moves=None if target.moves is None else target.moves[levels],
    )


def written_back(model: Model, found: Iterable[tuple[Target, Updated]]) -> Model:
    """The model with what was found of some levels."""
    groups = list(model.groups)
    latent = [[list(side) for side in term.sides] for term in model.latent]
    moves = None if model.thresholds is None else list(model.thresholds.moves)
    for target, updated in found:
        factor, levels = target.factor, target.levels
        if factor.group is not None:
            own = groups[factor.group]
            apart = np.zeros(len(own.levels), np.bool_) if own.apart is None else own.apart.copy()
            apart[levels] = True
            groups[factor.group] = replace(
                own,
                modes=_with(own.modes, levels, updated.block[:, : factor.effects]),
                conditional=_with(own.conditional, levels, updated.conditional),
                sensitivity=_with(own.sensitivity, levels, updated.sensitivity),
                apart=apart,
            )
            if moves is not None:
                moves[factor.group] = _with(moves[factor.group], levels, updated.moves)
        for (t, s, f), own_slice, spread in zip(factor.fields, factor.field_slices, updated.spreads, strict=True):
            field = latent[t][s][f]
            latent[t][s][f] = replace(
                field,
                vectors=_with(field.vectors, levels, updated.block[:, own_slice]),
                spread=_with(field.spread, levels, spread),
            )
    return replace(
        model,
        groups=tuple(groups),
        latent=tuple(
            replace(term, sides=tuple(map(tuple, sides))) for term, sides in zip(model.latent, latent, strict=True)
        ),
        thresholds=None if moves is None else replace(cast(Thresholds, model.thresholds), moves=tuple(moves)),
    )


def _with(values: npt.NDArray[Any], levels: IntArray, new: npt.NDArray[Any]) -> npt.NDArray[Any]:
    out = values.copy()
    out[levels] = new
    return out
