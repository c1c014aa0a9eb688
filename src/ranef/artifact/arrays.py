"""The arrays of a model by name, and back with their types and shapes checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.artifact.latent import latent_arrays
from ranef.artifact.manifest import DrawsEntry, Manifest, PosteriorEntry, SampleEntry
from ranef.artifact.model import (
    FloatArray,
    GroupModel,
    Model,
    Posterior,
    PosteriorDraws,
    PosteriorStage,
    Sample,
    Thresholds,
)
from ranef.artifact.seen import seen_arrays
from ranef.artifact.states import states_arrays
from ranef.design.membership import Membership, Walk
from ranef.errors import ModelFileError
from ranef.table import Combination, Levels

Arrays = Mapping[str, npt.NDArray[Any]]


def to_arrays(model: Model, posterior: bool) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a model, C-contiguous; without those of the posterior if it is not wanted or not there."""
    arrays: dict[str, npt.NDArray[Any]] = {
        "beta": model.beta,
        "vcov": model.vcov,
        "parameter_vcov": model.parameter_vcov,
        "vcov_gradient": model.vcov_gradient,
        "phi": model.phi,
    }
    for g, group in enumerate(model.groups):
        arrays[f"groups.{g}.covariance"] = group.covariance
        arrays[f"groups.{g}.modes"] = group.modes
        arrays[f"groups.{g}.conditional"] = group.conditional
        arrays[f"groups.{g}.sensitivity"] = group.sensitivity
        if group.apart is not None:
            arrays[f"groups.{g}.apart"] = group.apart
        if group.combination is not None:
            arrays[f"groups.{g}.combination"] = group.combination.parts
        if group.walk is not None:
            arrays |= {f"groups.{g}.series": group.walk.series, f"groups.{g}.time": group.walk.time}
        if group.membership is not None:
            arrays[f"groups.{g}.start"] = group.membership.start
            arrays[f"groups.{g}.level"] = group.membership.level
            arrays[f"groups.{g}.weight"] = group.membership.weight
    if posterior and model.posterior is not None:
        kept = model.posterior
        arrays.update(_posterior_arrays(kept) if isinstance(kept, Posterior) else _draws_arrays(kept))
        if model.thresholds is not None:
            arrays["thresholds.vcov"] = model.thresholds.vcov
            arrays.update({f"thresholds.moves.{g}": moves for g, moves in enumerate(model.thresholds.moves)})
    if model.sample is not None:
        arrays.update(_sample_arrays(model.sample, posterior))
    arrays.update(latent_arrays(model.latent, posterior))
    arrays.update(seen_arrays(model.seen, model.counts))
    arrays.update(states_arrays(model.states))
    # safetensors writes the memory as it lies, whatever the strides
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _draws_arrays(posterior: PosteriorDraws) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "draws.scale": np.array([posterior.scale]),
        "draws.x_back": posterior.x_back,
        "draws.beta": posterior.beta,
    }
    for g, (back, known, draws) in enumerate(zip(posterior.z_back, posterior.known, posterior.draws, strict=True)):
        arrays[f"draws.z_back.{g}"] = back
        arrays[f"draws.known.{g}"] = known
        arrays[f"draws.draws.{g}"] = draws
    return arrays


def _sample_arrays(sample: Sample, posterior: bool) -> dict[str, npt.NDArray[Any]]:
    """Without the draws of the coefficients if they are not wanted: none is kept then."""
    kept = slice(None) if posterior else slice(0)
    arrays: dict[str, npt.NDArray[Any]] = {
        "sample.parameters": sample.parameters,
        "sample.kept": sample.kept[kept],
        "sample.phi": sample.phi[kept],
    }
    for g, (covariances, effects) in enumerate(zip(sample.covariances, sample.effects, strict=True)):
        arrays[f"sample.covariances.{g}"] = covariances[:, :, kept]
        arrays[f"sample.effects.{g}"] = effects[:, :, kept]
    return arrays


def sample_of(entry: SampleEntry, groups: Sequence[GroupModel], parameters: int, shelf: Shelf) -> Sample:
    """The draws of a Bayesian fit.

    Parameters
    ----------
    entry : SampleEntry
    groups : sequence of GroupModel
    parameters : int
        Of the family.
    shelf : Shelf

    Raises
    ------
    ModelFileError
    """
    shapes = [group.modes.shape for group in groups]
    kept = shelf.places("sample.kept", -1)
    draws = len(kept)
    return Sample(
        names=entry.names,
        parameters=shelf.floats("sample.parameters", -1, -1, len(entry.names)),
        warmup=entry.warmup,
        thin=entry.thin,
        kept=kept,
        phi=shelf.floats("sample.phi", draws, parameters),
        covariances=tuple(shelf.floats(f"sample.covariances.{g}", k, k, draws) for g, (_, k) in enumerate(shapes)),
        effects=tuple(shelf.floats(f"sample.effects.{g}", n, k, draws) for g, (n, k) in enumerate(shapes)),
    )


def draws_of(entry: DrawsEntry, groups: Sequence[GroupModel], fixed: int, shelf: Shelf) -> PosteriorDraws:
    """The posterior that is kept as draws.

    Raises
    ------
    ModelFileError
    """
    shapes = [group.modes.shape for group in groups]
    beta = shelf.floats("draws.beta", fixed, -1)
    chain = entry.chain or (entry.group,)
    if not all(0 <= group < len(groups) for group in chain):
        raise ModelFileError(
            f"the manifest does not fit together: its draws name the groups {chain} of {len(groups)}: the model is "
            "damaged; save it again, or take it from a backup"
        )
    if entry.chain:
        # levels that were folded in later are not among them
        known = [shelf.floats(f"draws.known.{g}", -1, k, k) for g, (_, k) in enumerate(shapes)]
    else:
        # the first models knew something of one group only
        known = [np.zeros((n, k, k)) for n, k in shapes]
        known[entry.group] = shelf.floats("draws.own", *known[entry.group].shape)
    return PosteriorDraws(
        scale=float(shelf.floats("draws.scale", 1)[0]),
        x_back=shelf.floats("draws.x_back", fixed, fixed),
        z_back=tuple(shelf.floats(f"draws.z_back.{g}", k, k) for g, (_, k) in enumerate(shapes)),
        chain=chain,
        known=tuple(known),
        draws=tuple(shelf.floats(f"draws.draws.{g}", *one.shape[:2], beta.shape[1]) for g, one in enumerate(known)),
        beta=beta,
    )


def _posterior_arrays(posterior: Posterior) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {
        "posterior.scale": np.array([posterior.scale]),
        "posterior.x_back": posterior.x_back,
        "posterior.dense": posterior.dense,
    }
    for g, back in enumerate(posterior.z_back):
        arrays[f"posterior.z_back.{g}"] = back
    for s, stage in enumerate(posterior.stages):
        name = f"posterior.stages.{s}"
        arrays[f"{name}.position"] = stage.position
        arrays[f"{name}.own"] = stage.own
        arrays[f"{name}.offsets"] = stage.offsets
        arrays[f"{name}.columns"] = stage.columns
        arrays[f"{name}.pull"] = stage.pull
        arrays[f"{name}.pull_up"] = stage.pull_up
        for t, parent in enumerate(stage.parents):
            arrays[f"{name}.parents.{t}"] = parent
    return arrays


class Shelf:
    """The arrays of a file, to be taken one by one.

    Parameters
    ----------
    arrays : mapping of str to array
    place : str
        For messages: the file.
    """

    def __init__(self, arrays: Arrays, place: str):
        self._arrays, self._place = arrays, place

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def floats(self, name: str, *shape: int) -> FloatArray:
        """A float64 array of this shape; -1 takes any length.

        Raises
        ------
        ModelFileError
            It is absent, or of another type or shape.
        """
        return self._take(name, np.dtype(np.float64), shape)

    def vectors(self, name: str, *shape: int) -> npt.NDArray[np.float32]:
        """A float32 array, as `floats`."""
        return self._take(name, np.dtype(np.float32), shape)

    def codes(self, name: str, *shape: int) -> npt.NDArray[np.int32]:
        """An int32 array, as `floats`."""
        return self._take(name, np.dtype(np.int32), shape)

    def places(self, name: str, *shape: int) -> npt.NDArray[np.int64]:
        """An int64 array, as `floats`."""
        return self._take(name, np.dtype(np.int64), shape)

    def truths(self, name: str, *shape: int) -> npt.NDArray[np.bool_]:
        """A bool array, as `floats`."""
        return self._take(name, np.dtype(np.bool_), shape)

    def _take(self, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
        if name not in self._arrays:
            raise ModelFileError(f"{self._place} has no array {name!r}: the file is damaged; save the model again")
        array = self._arrays[name]
        fits = len(array.shape) == len(shape) and all(w in (-1, n) for n, w in zip(array.shape, shape, strict=True))
        if array.dtype != dtype or not fits:
            wanted = ", ".join("any" if n < 0 else str(n) for n in shape)
            raise ModelFileError(
                f"{self._place}: array {name!r} is {array.dtype} of shape {array.shape} where {dtype} of shape "
                f"({wanted}) belongs: the file is damaged; save the model again"
            )
        return array


def groups_of(manifest: Manifest, levels: Sequence[Levels], shelf: Shelf) -> tuple[GroupModel, ...]:
    """What was learned about every grouping factor.

    Raises
    ------
    ModelFileError
    """
    p = len(manifest.fixed_columns)
    groups = []
    for g, (entry, spec) in enumerate(zip(manifest.groups, manifest.spec.groups, strict=True)):
        own = levels[entry.levels]
        n, k = len(own), len(spec.coefficients)
        parts = shelf.codes(f"groups.{g}.combination", n, len(spec.columns)) if entry.combination else None
        groups.append(
            GroupModel(
                levels=own,
                combination=None if parts is None else Combination(parts),
                covariance=shelf.floats(f"groups.{g}.covariance", k, k),
                modes=shelf.floats(f"groups.{g}.modes", n, k),
                conditional=shelf.floats(f"groups.{g}.conditional", n, k, k),
                sensitivity=shelf.floats(f"groups.{g}.sensitivity", n, k, p),
                walk=_walk(f"groups.{g}", n, shelf) if spec.kind == "walk" else None,
                membership=None if entry.owners is None else _membership(f"groups.{g}", shelf),
                owners=None if entry.owners is None else levels[entry.owners],
                apart=shelf.truths(f"groups.{g}.apart", n) if f"groups.{g}.apart" in shelf else None,
            )
        )
    return tuple(groups)


def _walk(name: str, levels: int, shelf: Shelf) -> Walk:
    return Walk(shelf.codes(f"{name}.series", levels), shelf.floats(f"{name}.time", levels))


def _membership(name: str, shelf: Shelf) -> Membership:
    start = shelf.places(f"{name}.start", -1)
    members = int(start[-1])
    return Membership(start, shelf.codes(f"{name}.level", members), shelf.floats(f"{name}.weight", members))


def thresholds_of(groups: Sequence[GroupModel], fixed: int, own: int, shelf: Shelf) -> Thresholds | None:
    """The uncertainty of an ordinal model's thresholds; None where it was not saved.

    Parameters
    ----------
    fixed, own : int
        Estimated fixed effects, and parameters of the thresholds.

    Raises
    ------
    ModelFileError
    """
    if "thresholds.vcov" not in shelf:
        return None
    return Thresholds(
        vcov=shelf.floats("thresholds.vcov", fixed + own, fixed + own),
        moves=tuple(shelf.floats(f"thresholds.moves.{g}", *group.modes.shape, own) for g, group in enumerate(groups)),
    )


def posterior_of(entry: PosteriorEntry, groups: Sequence[GroupModel], fixed: int, shelf: Shelf) -> Posterior:
    """The joint covariance of all coefficients.

    Parameters
    ----------
    entry : PosteriorEntry
    groups : sequence of GroupModel
    fixed : int
        Estimated fixed effects.
    shelf : Shelf

    Raises
    ------
    ModelFileError
    """
    sizes = [group.modes.shape[1] for group in groups]
    columns = entry.fixed_start + fixed + 1
    stages = []
    for s, (group, parents) in enumerate((stage.group, stage.parents) for stage in entry.stages):
        name = f"posterior.stages.{s}"
        # levels that were folded in later are not among them
        position = shelf.places(f"{name}.position", -1)
        n, k = len(position), groups[group].modes.shape[1]
        above = sum(sizes[later.group] for later in entry.stages[s + 1 :])
        offsets = shelf.places(f"{name}.offsets", n + 1)
        stages.append(
            PosteriorStage(
                group=group,
                position=position,
                own=shelf.floats(f"{name}.own", n, k, k),
                offsets=offsets,
                columns=shelf.codes(f"{name}.columns", int(offsets[-1])),
                pull=shelf.floats(f"{name}.pull", k * int(offsets[-1])),
                parents=tuple(shelf.codes(f"{name}.parents.{t}", n) for t in range(parents)),
                pull_up=shelf.floats(f"{name}.pull_up", n, k, above),
            )
        )
    return Posterior(
        scale=float(shelf.floats("posterior.scale", 1)[0]),
        x_back=shelf.floats("posterior.x_back", fixed, fixed),
        z_back=tuple(shelf.floats(f"posterior.z_back.{g}", k, k) for g, k in enumerate(sizes)),
        stages=tuple(stages),
        kept=entry.kept,
        kept_start=entry.kept_start,
        fixed_start=entry.fixed_start,
        dense=shelf.floats("posterior.dense", columns, columns),
    )
