"""New responses from a fitted model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ranef.artifact.model import Model
from ranef.design.build import Design
from ranef.design.columns import Categories
from ranef.errors import OptionError
from ranef.prior import factor_of
from ranef.result.options import check_whole
from ranef.result.residuals import check_rows, fixed_values, random_values
from ranef.score.categories import as_categories, categories_of, has_categories
from ranef.score.sampled import kept_sample
from ranef.table import from_numpy

FloatArray = npt.NDArray[np.float64]


def simulate(model: Model, design: Design, count: int = 1, seed: int = 0, conditional: bool = False) -> FloatArray:
    """Draw new responses for the rows of a fit at its estimates; of a Bayesian fit, from the posterior predictive.

    Parameters
    ----------
    model : Model
    design : Design
        The rows.
    count : int
        How many responses for each row.
    seed : int
        Column ``i`` depends on the seed and ``i`` only, not on ``count``.
    conditional : bool
        Keep the conditional modes and draw the residuals only; otherwise new random effects are drawn too.

    Returns
    -------
    float64 array, shape (rows, count)
        As in ``design.y``; see `as_given`. Weights that say how often a row counts take no part.

    Raises
    ------
    OptionError
        ``count`` or ``seed`` is not a whole number in range.
    DataError
        With ``conditional``: the rows are not those of the fit.
    """
    check_whole("count", count, 1)
    out = np.empty((len(design.y), count))
    for i, values in enumerate(draws(model, design, count, seed, conditional)):
        out[:, i] = values
    return out


def draws(model: Model, design: Design, count: int, seed: int = 0, conditional: bool = False) -> Iterator[FloatArray]:
    """The columns of `simulate` one after the other, each of shape (rows,)."""
    check_whole("seed", seed, 0)
    if model.latent:
        raise OptionError(
            "simulate() and what refits to simulated responses know random effects only, not latent(); "
            "predict(interval='prediction') has the distribution of new responses"
        )
    fixed = fixed_values(model, design)
    if conditional:
        check_rows(model, design)
        fixed = fixed + random_values(model, design)
    roots = [factor_of(group.covariance) for group in model.groups]
    if model.sample is not None:
        yield from _posterior_draws(model, design, count, seed, conditional)
        return
    gaussian = model.spec.kind == "number"
    phi = np.array([2 * np.log(model.info.sigma)]) if gaussian else model.phi
    for i in range(count):
        random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i,)))
        eta = fixed.copy()
        if not conditional:
            for group, root in zip(design.groups, roots, strict=True):
                effects = group.on_levels(random.standard_normal((len(group.levels), len(root))) @ root.T)
                eta += np.einsum("nk,nk->n", group.covariates, group.by_unit(effects)[group.codes])
        yield model.family.simulate(random, eta, design.weights, phi)


def _posterior_draws(model: Model, design: Design, count: int, seed: int, conditional: bool) -> Iterator[FloatArray]:
    """From the posterior predictive distribution: column ``i`` is drawn at a kept draw of its own."""
    sample = kept_sample(model)
    beta = sample.beta(len(model.fixed_columns))
    for i in range(count):
        random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(i,)))
        draw = int(random.integers(len(sample.kept)))
        eta = design.x[:, model.fixed_columns] @ beta[:, draw]
        if design.offset is not None:
            eta += design.offset
        for g, group in enumerate(design.groups):
            effects = sample.effects[g][:, :, draw]
            if not conditional:
                root = factor_of(sample.covariances[g][:, :, draw])
                effects = group.on_levels(random.standard_normal((len(group.levels), len(root))) @ root.T)
            eta += np.einsum("nk,nk->n", group.covariates, group.by_unit(effects)[group.codes])
        yield model.family.simulate(random, eta, design.weights, sample.phi[draw])


def as_given(model: Model, design: Design, y: FloatArray) -> FloatArray | pa.Array:
    """A response as the column holds it that the fit's came from; of ``cbind()`` the successes.

    Categories whose order was declared come as a dictionary, so that they keep it.

    Parameters
    ----------
    y : float64 array, shape (rows,)
        As in ``design.y``.
    """
    if has_categories(model):
        value = model.spec.response.value
        declared = isinstance(value, Categories) and model.column_levels[value.column].declared
        categories = categories_of(model)
        if declared:
            return pa.DictionaryArray.from_arrays(from_numpy(y.astype(np.int32)), categories, ordered=True)
        return as_categories(y, categories)
    if model.spec.response.failures is not None and design.weights is not None:
        return np.rint(y * design.weights)
    return y
