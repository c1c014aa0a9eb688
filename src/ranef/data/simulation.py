"""Crossed and nested mixed-model data of any size, with a known truth.

Rows are made in batches of a million. Every batch has its own random stream, derived from the seed and the batch's
number, so the rows depend neither on how many batches there are nor on where they go: memory or a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ranef.data.recipe import FAILURES, INTERCEPT, RESPONSE, Factor, FloatArray, Recipe, make_recipe
from ranef.errors import OptionError

BATCH_ROWS = 1_000_000
BINARY_LEVELS = ("no", "yes")
NOTHING: Mapping[str, Any] = MappingProxyType({})
USERS_AND_ITEMS: Mapping[str, float] = MappingProxyType({"user": 1000, "item": 200})

IntArray = npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Truth:
    """The parameters that made the data.

    Attributes
    ----------
    beta : mapping of str to float
        Fixed effects under the names that a fit gives them. ``(Intercept)`` is absent for an ordinal response.
    coefficients : mapping of str to tuple of str
        For each factor what varies between its levels: ``(Intercept)``, then the covariates with a random slope.
    covariance : mapping of str to array, shape (coefficients, coefficients)
        Covariance of the coefficients of one level, for each factor.
    effects : mapping of str to array, shape (levels, coefficients)
        The coefficients of every level, in the order of the levels.
    sigma : float or None
        Residual standard deviation; None if the family has none.
    thresholds : tuple of float
        Of an ordinal response, on the scale of the linear predictor; empty otherwise.
    """

    beta: Mapping[str, float]
    coefficients: Mapping[str, tuple[str, ...]]
    covariance: Mapping[str, FloatArray]
    effects: Mapping[str, FloatArray]
    sigma: float | None
    thresholds: tuple[float, ...]

    def document(self) -> dict[str, Any]:
        """The truth without the effects, as what JSON can hold."""
        return {
            "beta": dict(self.beta),
            "groups": {
                name: {
                    "levels": len(self.effects[name]),
                    "coefficients": list(self.coefficients[name]),
                    "covariance": covariance.tolist(),
                }
                for name, covariance in self.covariance.items()
            },
            "sigma": self.sigma,
            "thresholds": list(self.thresholds),
        }


@dataclass(frozen=True, eq=False)
class Simulated:
    """Simulated data and what they were simulated from.

    Attributes
    ----------
    data : pyarrow.Table, pandas.DataFrame, polars.DataFrame or pathlib.Path
        The rows; the path of the Parquet file when ``path=`` was given.
    truth : Truth
    formula : str
        The model that the data follow.
    family : str
        Its family.
    rows : int
    """

    data: Any
    truth: Truth
    formula: str
    family: str
    rows: int


def simulate(
    rows: float,
    groups: Mapping[str, float] = USERS_AND_ITEMS,
    *,
    sd: float | Mapping[str, float] = 1.0,
    slopes: Mapping[str, float | Mapping[str, float]] = NOTHING,
    correlation: float | Mapping[str, Any] = 0.0,
    fixed: Mapping[str, float] = NOTHING,
    binary: Mapping[str, float] = NOTHING,
    nested: Mapping[str, str] = NOTHING,
    activity: float | str | Mapping[str, float | str] = 1.0,
    family: str = "gaussian",
    residual_sd: float | None = None,
    trials: int | None = None,
    thresholds: Sequence[float] | None = None,
    ids: str = "int",
    seed: int = 0,
    path: str | os.PathLike[str] | None = None,
    library: str = "arrow",
) -> Simulated:
    """Simulate a mixed model with crossed or nested factors.

    Parameters
    ----------
    rows : int
        Number of rows; ``1e6`` is accepted.
    groups : mapping of str to int
        Grouping factors and their numbers of levels. Each row falls on one level of each.
    sd : float or mapping of factor to float
        Standard deviations of the random intercepts; one number for all. A factor that is not named has 1.
    slopes : mapping of factor to float or to mapping of covariate to float
        Standard deviations of the random slopes: ``{"user": {"age": 0.3}}``; ``{"user": 0.3}`` is a slope of ``x``.
    correlation : float or mapping of factor to float or matrix
        Correlation among the coefficients of one level: one number for every pair, or a matrix in the order intercept,
        slopes.
    fixed : mapping of str to float
        Fixed effects: ``(Intercept)`` (0 if not named) and covariates. Every covariate, also one that is named in
        ``slopes`` only (its fixed effect is 0), is a column of independent N(0, 1) values.
    binary : mapping of str to float
        Columns with the levels ``no`` and ``yes``, equally likely, and the fixed effect of ``yes``.
    nested : mapping of str to str
        ``{"class": "school"}``: each class lies in one school, and classes of two schools have different ids. How
        many classes a school has follows its activity.
    activity : float, str or mapping of factor to these
        How uneven the levels are. A number s, or ``"lognormal:s"``: weights exp(s N(0, 1)). ``"zipf:a"``: the weight of
        the r-th most active level is r ** -a, and which level that is is random. 0 makes all levels equally likely,
        1 (the default) is a long tail as in ratings. With many levels and few rows some levels stay empty.
    family : {"gaussian", "bernoulli", "binomial", "poisson", "ordinal"}
        Distribution of the response ``y``, with the links identity, logit, logit, log and cumulative logit. A binomial
        response is the column ``y`` of successes beside ``failures``; an ordinal one is 1, 2, ...
    residual_sd : float, optional
        Residual standard deviation of a gaussian response; 1 by default.
    trials : int, optional
        Trials of each binomial row; 10 by default.
    thresholds : sequence of float, optional
        Increasing thresholds of an ordinal response, one fewer than categories; -1, 0, 1 by default.
    ids : {"int", "text"}
        Levels as int32 0, 1, ... or as text that sorts in the same order (``user007``).
    seed : int
        The same seed gives the same rows, wherever they go.
    path : path, optional
        A ``.parquet`` file to write in place of a table in memory; memory then does not grow with the rows. It appears
        under its name only when complete.
    library : {"arrow", "pandas", "polars"}
        What ``data`` is, unless ``path`` is given.

    Returns
    -------
    Simulated
        Columns of ``data``: the factors, the covariates, the binary columns, ``y`` (and ``failures``).

    Raises
    ------
    OptionError
        An argument is wrong; the message names it.

    Examples
    --------
    >>> from ranef.data import simulate
    >>> made = simulate(5000, {"user": 300, "item": 40}, sd={"user": 0.5}, slopes={"user": {"age": 0.2}}, seed=1)
    >>> made.formula
    'y ~ 1 + age + (1 + age | user) + (1 | item)'
    >>> made.data.column_names
    ['user', 'item', 'age', 'y']
    >>> made.truth.covariance["user"].shape, made.truth.effects["user"].shape
    ((2, 2), (300, 2))
    """
    recipe = make_recipe(
        rows,
        groups,
        sd=sd,
        slopes=slopes,
        correlation=correlation,
        fixed=fixed,
        binary=binary,
        nested=nested,
        activity=activity,
        family=family,
        residual_sd=residual_sd,
        trials=trials,
        thresholds=thresholds,
        ids=ids,
        seed=seed,
    )
    if library not in ("arrow", "pandas", "polars"):
        raise OptionError(f"library must be one of arrow, pandas, polars, not {library!r}")
    truth = _truth(recipe)
    schema = _schema(recipe)
    if path is None:
        data = _convert(pa.Table.from_batches(_batches(recipe, truth, schema), schema), library)
    else:
        data = _write(_batches(recipe, truth, schema), schema, Path(path))
    return Simulated(data, truth, _formula(recipe), recipe.family, recipe.rows)


def _generator(recipe: Recipe, stream: int, index: int) -> np.random.Generator:
    """The random stream of one factor (stream 0: effects, 1: levels) or of one batch of rows (stream 2)."""
    return np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(stream, index)))


def _truth(recipe: Recipe) -> Truth:
    beta = {} if recipe.family == "ordinal" else {INTERCEPT: recipe.intercept}
    beta |= recipe.covariates
    beta |= {f"{name}{BINARY_LEVELS[1]}": effect for name, effect in recipe.binary.items()}
    return Truth(
        beta=beta,
        coefficients={factor.name: factor.coefficients for factor in recipe.factors},
        covariance={factor.name: factor.covariance for factor in recipe.factors},
        effects={factor.name: _effects(_generator(recipe, 0, i), factor) for i, factor in enumerate(recipe.factors)},
        sigma=recipe.residual_sd,
        thresholds=recipe.thresholds,
    )


def _effects(generator: np.random.Generator, factor: Factor) -> FloatArray:
    # a symmetric root, unlike Cholesky's, exists for zero variances and perfect correlations
    values, vectors = np.linalg.eigh(factor.covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    effects: FloatArray = generator.standard_normal((factor.levels, len(factor.coefficients))) @ root
    return effects


def _weights(generator: np.random.Generator, factor: Factor) -> FloatArray:
    """Share of the rows that falls on each level up to and including it, shape (levels,); the last is 1."""
    activity = factor.activity
    if activity.kind == "lognormal":
        logs = activity.parameter * generator.standard_normal(factor.levels)
    else:
        logs = -activity.parameter * np.log1p(generator.permutation(factor.levels))
    cumulative: FloatArray = np.cumsum(np.exp(logs - logs.max()))
    cumulative /= cumulative[-1]
    return cumulative


def _draw(generator: np.random.Generator, cumulative: FloatArray, count: int) -> IntArray:
    return np.searchsorted(cumulative, generator.random(count), side="right").astype(np.int32)


@dataclass(frozen=True, eq=False)
class _Crowd:
    """How rows find their levels: innermost factors are drawn by weight, the others follow from ``parent_of``."""

    drawn: Mapping[str, FloatArray]
    parent_of: Mapping[str, IntArray]


def _crowd(recipe: Recipe) -> _Crowd:
    generators = {factor.name: _generator(recipe, 1, i) for i, factor in enumerate(recipe.factors)}
    weights = {factor.name: _weights(generators[factor.name], factor) for factor in recipe.factors}
    outer = {factor.parent for factor in recipe.factors}
    return _Crowd(
        {name: cumulative for name, cumulative in weights.items() if name not in outer},
        {
            factor.name: np.sort(_draw(generators[factor.name], weights[factor.parent], factor.levels))
            for factor in recipe.factors
            if factor.parent is not None
        },
    )


def _levels(recipe: Recipe, crowd: _Crowd, generator: np.random.Generator, count: int) -> dict[str, IntArray]:
    codes = {name: _draw(generator, cumulative, count) for name, cumulative in crowd.drawn.items()}
    parents = {factor.name: factor.parent for factor in recipe.factors}
    for innermost in crowd.drawn:
        child, parent = innermost, parents[innermost]
        while parent is not None:
            codes[parent] = crowd.parent_of[child][codes[child]]
            child, parent = parent, parents[parent]
    return codes


def _batches(recipe: Recipe, truth: Truth, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    crowd = _crowd(recipe)
    labels = {factor.name: _labels(factor) for factor in recipe.factors} if recipe.ids == "text" else {}
    for index, start in enumerate(range(0, recipe.rows, BATCH_ROWS)):
        generator = _generator(recipe, 2, index)
        count = min(BATCH_ROWS, recipe.rows - start)
        codes = _levels(recipe, crowd, generator, count)
        covariates = {name: generator.standard_normal(count) for name in recipe.covariates}
        chosen = {name: generator.integers(0, 2, count, dtype=np.int8) for name in recipe.binary}
        eta = _predictor(recipe, truth, codes, covariates, chosen)
        columns = {name: _label(labels.get(name), column) for name, column in codes.items()}
        columns |= covariates
        columns |= {name: _label(pa.array(BINARY_LEVELS), column) for name, column in chosen.items()}
        columns |= _respond(recipe, generator, eta)
        yield pa.RecordBatch.from_arrays([pa.array(columns[name]) for name in schema.names], schema=schema)


def _labels(factor: Factor) -> pa.Array:
    digits = len(str(factor.levels - 1))
    return pa.array([f"{factor.name}{level:0{digits}d}" for level in range(factor.levels)])


def _label(labels: Any, codes: Any) -> Any:
    return codes if labels is None else pa.DictionaryArray.from_arrays(codes, labels).dictionary_decode()


def _predictor(
    recipe: Recipe,
    truth: Truth,
    codes: Mapping[str, IntArray],
    covariates: Mapping[str, FloatArray],
    chosen: Mapping[str, npt.NDArray[np.int8]],
) -> FloatArray:
    count = len(next(iter(codes.values())))
    eta = np.full(count, recipe.intercept)
    for name, effect in recipe.covariates.items():
        eta += effect * covariates[name]
    for name, effect in recipe.binary.items():
        eta += effect * chosen[name]
    for factor in recipe.factors:
        for k, coefficient in enumerate(factor.coefficients):
            addend = truth.effects[factor.name][:, k][codes[factor.name]]
            eta += addend if coefficient == INTERCEPT else addend * covariates[coefficient]
    return eta


def _respond(recipe: Recipe, generator: np.random.Generator, eta: FloatArray) -> dict[str, npt.NDArray[Any]]:
    if recipe.residual_sd is not None:
        return {RESPONSE: eta + recipe.residual_sd * generator.standard_normal(len(eta))}
    if recipe.family == "poisson":
        if eta.max() > 34:  # exp(34) = 6e14 is still counted exactly
            raise OptionError("the poisson means overflow; make sd, slopes or fixed smaller (the link is the log)")
        return {RESPONSE: generator.poisson(np.exp(eta))}
    if recipe.family == "ordinal":
        latent = eta + generator.logistic(size=len(eta))
        return {RESPONSE: 1 + np.searchsorted(recipe.thresholds, latent).astype(np.int32)}
    probability = 0.5 * (1.0 + np.tanh(0.5 * eta))  # the logistic function, without overflow
    if recipe.trials is None:
        return {RESPONSE: (generator.random(len(eta)) < probability).astype(np.int32)}
    successes = generator.binomial(recipe.trials, probability).astype(np.int32)
    return {RESPONSE: successes, FAILURES: recipe.trials - successes}


def _schema(recipe: Recipe) -> pa.Schema:
    level = pa.int32() if recipe.ids == "int" else pa.string()
    response = {"gaussian": pa.float64(), "poisson": pa.int64()}.get(recipe.family, pa.int32())
    return pa.schema(
        [(factor.name, level) for factor in recipe.factors]
        + [(name, pa.float64()) for name in recipe.covariates]
        + [(name, pa.string()) for name in recipe.binary]
        + [(RESPONSE, response)]
        + [(FAILURES, response)] * (recipe.family == "binomial")
    )


def _formula(recipe: Recipe) -> str:
    response = f"cbind({RESPONSE}, {FAILURES})" if recipe.family == "binomial" else RESPONSE
    fixed = ["1", *map(_quoted, recipe.covariates), *map(_quoted, recipe.binary)]
    random = [
        f"({' + '.join(['1', *map(_quoted, factor.coefficients[1:])])} | {_quoted(factor.name)})"
        for factor in recipe.factors
    ]
    return f"{response} ~ {' + '.join(fixed + random)}"


def _quoted(name: str) -> str:
    return name if name.isidentifier() and not name.startswith("_") else f"`{name}`"


def _convert(table: pa.Table, library: str) -> Any:
    if library == "pandas":
        return table.to_pandas()
    if library == "polars":
        import polars

        return polars.from_arrow(table)
    return table


def _write(batches: Iterator[pa.RecordBatch], schema: pa.Schema, path: Path) -> Path:
    if path.suffix != ".parquet":
        raise OptionError(f"path must end in .parquet, not {path.name!r}")
    if not path.parent.is_dir():
        raise OptionError(f"the folder {str(path.parent)!r} does not exist; make it first")
    unfinished = path.with_name(path.name + ".unfinished")
    # numbers drawn from a continuum never repeat: a dictionary of them would be built for nothing
    repeated = [field.name for field in schema if not pa.types.is_floating(field.type)]
    try:
        with pq.ParquetWriter(unfinished, schema, compression="zstd", use_dictionary=repeated) as writer:
            for batch in batches:
                writer.write_batch(batch)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
