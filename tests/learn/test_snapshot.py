"""Between two sweeps the model predicts what the residuals say."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.formula import parse
from ranef.learn.factor.priors import closed_form
from ranef.learn.factor.snapshot import snapshot
from ranef.learn.factor.start import begin, prepare
from ranef.learn.factor.variational import spread_widths
from ranef.learn.gaussian import fit_gaussian
from ranef.score.predict import linear_predictor
from ranef.score.rows import read_rows
from ranef.score.select import select
from ranef.solve.sweeps import sweep, weighted_squares
from ranef.table import open_source


@pytest.mark.parametrize(
    "formula",
    [
        "y ~ x + (1 + x | user) + (1 | item) + latent(user, item, rank=2)",
        "y ~ 1 + (1 | user) + latent(user + bag(history(item)), item + bag(genres), rank=2)",
        "y ~ 1 + (1 | rw(week)) + latent(user, rw(week), rank=1)",
        "y ~ x + fm(user, item, job, rank=2)",
    ],
)
def test_predictions_are_responses_less_residuals(formula):
    rng = np.random.default_rng(0)
    rows = 400
    user, item = rng.integers(0, 20, rows), rng.integers(0, 10, rows)
    data = {
        "y": 100 + 3 * rng.standard_normal(rows),
        "x": rng.standard_normal(rows) + 5,
        "user": user,
        "item": item,
        "job": np.array(list("xyz"))[user % 3],
        "genres": np.array(["a", "a|b", "b|c"])[item % 3],
        "week": rng.integers(0, 8, rows),
        "w": rng.uniform(0.5, 2, rows),
    }
    source = open_source(data)
    with engine(1) as pool:
        design = build_design(parse(formula), source, weights="w")
        spec = msgspec.structs.replace(design.spec, latent=())
        additive = fit_gaussian(replace(design, latent=(), spec=spec), "reml", pool)
        problem = prepare(design, [term.rank for term in design.latent], pool)
        state, parameters = begin(problem, additive, spread_widths(problem), 0, pool)
        for _ in range(2):
            added = sweep(state, parameters, pool)
            parameters = closed_form(state, problem.layout, parameters, weighted_squares(state, pool) + added)
        model = snapshot(problem, additive, state)
    chosen = select(model.spec)
    eta = linear_predictor(model, read_rows(model, source, chosen), chosen)
    np.testing.assert_allclose(eta, data["y"] - problem.scaling.y_scale * state.residual, rtol=1e-5)
