"""The vectors of a factor's levels: their principal axes, which are alike, and where analogies lead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.implicit import ImplicitModel
from ranef.artifact.latent import FieldModel
from ranef.artifact.model import Model
from ranef.errors import LevelError, OptionError, nearest
from ranef.score.select import select
from ranef.table import Levels, Source, decode, from_numpy, read_table
from ranef.table.encode import look_up

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# share of the variance below which an axis is what rounding leaves
NOTHING = 1e-12


@dataclass(frozen=True, eq=False)
class Embedding:
    """The vectors of one factor of a latent term.

    Attributes
    ----------
    name : str
        The factor, as in the formula.
    levels : Levels
    vectors : float64 array, shape (levels, rank)
        Where the term has two sides, in coordinates in which both have the same diagonal covariance, descending.
    sds : float64 array, shape (levels, rank), or None
        Posterior standard deviations; None where none were kept.
    partner : float64 array, shape (rank, rank)
        Covariance between levels of the vectors that these are multiplied by.
    """

    name: str
    levels: Levels
    vectors: FloatArray
    sds: FloatArray | None
    partner: FloatArray


def embedding_of(model: Model, group: str, term: str | None = None) -> Embedding:
    """A factor's vectors.

    Parameters
    ----------
    model : Model
    group : str
        ``"item"``, ``"bag(genres)"``: a summand of a side.
    term : str, optional
        The latent term, where several have the factor.

    Raises
    ------
    OptionError
    """
    specs = model.spec.latent
    chosen = range(len(specs)) if term is None else _chosen(model, term)
    known = dict.fromkeys(field.name for t in chosen for side in specs[t].sides for field in side)
    places = [
        (t, s, f)
        for t in chosen
        for s, side in enumerate(specs[t].sides)
        for f, field in enumerate(side)
        if field.name == group
    ]
    if not places:
        if not specs:
            raise OptionError("the model has no vectors: there is no latent() or fm() in its formula")
        close = nearest(group, known, 1) if isinstance(group, str) else []
        guess = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(map(repr, known))}"
        raise OptionError(f"no factor {group!r} has vectors; {guess}")
    terms = list(dict.fromkeys(t for t, _, _ in places))
    if len(terms) > 1:
        listed = ", ".join(repr(specs[t].text) for t in terms)
        raise OptionError(f"{group!r} has vectors in several terms: say which by term=, one of {listed}")
    t, side, field = places[0]
    own = model.latent[t].sides[side][field]
    others = [one for s, fields in enumerate(model.latent[t].sides) if s != side for one in fields]
    return Embedding(
        name=group,
        levels=own.levels,
        vectors=own.vectors.astype(np.float64),
        sds=_sds(own),
        partner=np.sum([_covariance(one.vectors.astype(np.float64)) for one in others], axis=0),
    )


def _chosen(model: Model, term: str) -> tuple[int, ...]:
    found = select(model.spec, include=term)
    if found.fixed or any(found.terms):
        raise OptionError(f"term={term!r} is no latent term; there are {_texts(model)}")
    return found.latent


def _texts(model: Model) -> str:
    return ", ".join(repr(spec.text) for spec in model.spec.latent) or "none"


def implicit_embedding(model: ImplicitModel, group: str) -> Embedding:
    """The vectors of the users or items of implicit feedback.

    Raises
    ------
    OptionError
    """
    users, items = model.user_vectors.astype(np.float64), model.item_vectors.astype(np.float64)
    if group == model.spec.user:
        return Embedding(group, model.users, users, None, _covariance(items))
    if group == model.spec.item:
        return Embedding(group, model.items, items, None, _covariance(users))
    raise OptionError(f"no factor {group!r} has vectors; there are {model.spec.user!r}, {model.spec.item!r}")


def _sds(field: FieldModel) -> FloatArray | None:
    k, width = field.vectors.shape[1], field.spread.shape[1]
    if width == 0:
        return None
    # of a triangle by rows, the diagonal ends each row
    diagonal = np.arange(k) if width == k else np.cumsum(np.arange(1, k + 1)) - 1
    return np.sqrt(field.spread[:, diagonal].astype(np.float64))


def _covariance(vectors: FloatArray) -> FloatArray:
    centred = vectors - vectors.mean(axis=0)
    return np.asarray(centred.T @ centred / len(vectors))


def embedding_table(embedding: Embedding, sd: bool = False) -> dict[str, Any]:
    """``level``, then ``1`` to ``rank``, then ``sd_1`` to ``sd_rank`` if asked for.

    Raises
    ------
    OptionError
        No standard deviations were kept.
    """
    columns: dict[str, Any] = {"level": embedding.levels.values}
    columns |= {str(c + 1): np.ascontiguousarray(of) for c, of in enumerate(embedding.vectors.T)}
    if sd:
        if embedding.sds is None:
            raise OptionError(f"the vectors of {embedding.name!r} have no standard deviations: the fit has modes only")
        columns |= {f"sd_{c + 1}": np.ascontiguousarray(of) for c, of in enumerate(embedding.sds.T)}
    return columns


def principal_axes(embedding: Embedding) -> tuple[FloatArray, FloatArray]:
    """Principal components of what the vectors predict.

    The products of levels with those that they meet, both about their means, are a matrix; these are its principal
    components. They do not depend on the coordinates of the vectors.

    Returns
    -------
    scores : float64 array, shape (levels, axes)
        In units of the linear predictor: the standard deviation, over what the level meets, of its part along the axis.
        Axes by variance, descending; the longer tail of each is positive.
    share : float64 array, shape (axes,)
        Of the products' variance.
    """
    centred = embedding.vectors - embedding.vectors.mean(axis=0)
    values, vectors = np.linalg.eigh(embedding.partner)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    left, sizes, _ = np.linalg.svd(centred @ root, full_matrices=False)
    scores = left * sizes
    # the sum of cubes moves little between runs, as long as the two tails differ
    signs = np.where(np.sum(scores**3, axis=0) < 0, -1.0, 1.0)
    variances = sizes**2
    total = float(variances.sum())
    return scores * signs, variances / total if total > 0 else np.zeros_like(variances)


def axes_table(embedding: Embedding, n: int, names: Sequence[Any] | None, called: str = "name") -> dict[str, Any]:
    """The ``n`` most extreme levels at both ends of every axis.

    Parameters
    ----------
    embedding : Embedding
    n : int
    names : sequence, optional
        What to show beside the levels, in the column ``called``.
    """
    scores, share = principal_axes(embedding)
    n = min(n, len(scores))
    # components that vanished have no levels to show
    axes = np.flatnonzero(share > NOTHING) if share.any() else np.arange(len(share))
    place, axis, number = list[int](), list[int](), list[int]()
    end = list[str]()
    for a in axes.tolist():
        order = np.argsort(-scores[:, a], kind="stable")
        for side, found in (("high", order[:n]), ("low", order[::-1][:n])):
            place += found.tolist()
            axis += [a] * n
            end += [side] * n
            number += range(1, n + 1)
    at, of = np.array(place, np.int64), np.array(axis, np.int64)
    return {
        "axis": of + 1,
        "share": share[of],
        "end": end,
        "place": np.array(number, np.int64),
        **_level_columns(embedding, at, names, called),
        "score": scores[at, of],
    }


def place_of(embedding: Embedding, level: Any) -> int:
    """Where a level is.

    Raises
    ------
    LevelError
        The fit does not have it.
    """
    value = level.as_py() if isinstance(level, pa.Scalar) else level
    value = value.item() if isinstance(value, np.generic) else value
    try:
        wanted = pa.array([value])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise OptionError(f"{level!r} is no level of {embedding.name!r}: give one value") from error
    code = int(look_up(embedding.name, Levels(wanted), embedding.levels)[0]) if wanted.null_count == 0 else -1
    if code < 0:
        close = nearest(value, embedding.levels.labels, 1) if isinstance(value, str) else []
        guess = f"; did you mean {close[0]!r}?" if close else ""
        raise LevelError(f"{value!r} is not a level of {embedding.name!r} in the fit{guess}", column=embedding.name)
    return code


def nearest_levels(
    embedding: Embedding,
    direction: FloatArray,
    k: int,
    without: Sequence[int],
    names: Sequence[Any] | None,
    called: str = "name",
) -> dict[str, Any]:
    """The ``k`` levels with the largest cosine to a direction: ``level``, ``cosine``.

    Parameters
    ----------
    embedding : Embedding
    direction : float64 array, shape (rank,)
    k : int
    without : sequence of int
        Places that are left out.
    """
    cosine = unit_vectors(embedding.vectors) @ unit_vectors(direction[None, :])[0]
    order = np.argsort(-cosine, kind="stable")
    found = order[~np.isin(order, without)][:k]
    return {**_level_columns(embedding, found, names, called), "cosine": cosine[found]}


def unit_vectors(vectors: FloatArray) -> FloatArray:
    """Vectors of length one; a vector of zeros stays."""
    length = np.sqrt(np.einsum("nk,nk->n", vectors, vectors))[:, None]
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0))


def _level_columns(embedding: Embedding, at: IntArray, names: Sequence[Any] | None, called: str) -> dict[str, Any]:
    columns: dict[str, Any] = {"level": embedding.levels.values.take(from_numpy(at))}
    return columns if names is None else {**columns, called: [names[place] for place in at]}


def names_of(embedding: Embedding, source: Source) -> tuple[str, list[Any]]:
    """What a table calls each level, and its column: the table has the factor's column and one more.

    Raises
    ------
    OptionError
    """
    columns = list(source.columns)
    others = [name for name in columns if name != embedding.name]
    if embedding.name not in columns or len(others) != 1:
        raise OptionError(
            f"names= takes a table of two columns, {embedding.name!r} and what its levels are called, not one with "
            f"{', '.join(map(repr, columns))}"
        )
    table = read_table(source, numbers=(), factors=columns)
    own = table.factors[embedding.name]
    at = look_up(embedding.name, own.levels, embedding.levels)
    texts = decode(table.factors[others[0]]).to_pylist()
    names: list[Any] = [None] * len(embedding.levels)
    for code, text in zip(own.codes.tolist(), texts, strict=True):
        if code >= 0 and at[code] >= 0:
            names[at[code]] = text
    return others[0], names
