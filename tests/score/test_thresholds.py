"""Intervals of ordinal models: two categories are a Bernoulli model whose intercept is minus the threshold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ranef
from ranef.engine.threads import engine
from ranef.errors import OptionError
from ranef.result.restart import at_estimates, objective_of
from ranef.score.rows import batches, read_rows
from ranef.score.select import select
from ranef.score.thresholds import threshold_part
from ranef.solve.elimination import by_block
from ranef.table import open_source
from tests.result.generalized import WINE, data_of, fit_of

Z = 1.959963984540054


def crossed(levels=25):
    rng = np.random.default_rng(4)
    g, h = np.repeat(np.arange(levels), 12), rng.integers(0, 9, 12 * levels)
    x = rng.standard_normal(len(g))
    eta = 0.4 + 0.6 * x + rng.standard_normal(levels)[g] + 0.6 * rng.standard_normal(9)[h] + 0.4 * x * (g % 3)
    return {"y": (eta + rng.logistic(size=len(g)) > 0).astype(int), "x": x, "g": g, "h": h}


@pytest.mark.parametrize(
    ("method", "formula"),
    [
        ("laplace", "y ~ x + (x | g) + (1 | h)"),
        ("laplace", "y ~ x + (1 | g)"),
        ("joint", "y ~ x + (1 | g) + (1 | h)"),
    ],
)
@pytest.mark.parametrize("options", [{}, {"include": "fixed"}, {"exclude": "g"}])
def test_two_categories_are_a_bernoulli_model(method, formula, options):
    data = crossed()
    two = ranef.fit(formula, data, family="ordinal", method=method)
    one = ranef.fit(formula, data, family="bernoulli", method=method)
    rows = {name: values[:40] for name, values in data.items()}
    link = one.predict(rows, type="link", interval="confidence", **options)
    sd = (link["upr"] - link["lwr"]) / 2 / Z
    found = two.predict(rows, interval="confidence", **options)
    p = one.predict(rows, **options)
    # at joint modes an intercept stands at the mode, and a threshold where the likelihood is largest
    np.testing.assert_allclose(found["1"], p, rtol=1e-4 if method == "laplace" else 0.02)
    p = found["1"]
    # by the delta method the logit of a probability has the variance of the logit
    for side, sign in (("lwr_1", -1), ("upr_1", 1)):
        reach = np.log(found[side] / (1 - found[side])) - np.log(p / (1 - p))
        np.testing.assert_allclose(reach, sign * Z * sd, rtol=5e-3 if method == "laplace" else 0.03)
    np.testing.assert_allclose(found["lwr_0"], 1 - found["upr_1"], rtol=1e-9)


def test_the_stochastic_solver_has_them_too():
    data = crossed()
    formula = "y ~ x + (1 | g) + (1 | h)"
    exact = ranef.fit(formula, data, family="ordinal")
    drawn = ranef.fit(formula, data, family="ordinal", solver="stochastic", probes=64, seed=1)
    rows = {name: values[:40] for name, values in data.items()}
    mine, its = (fit.predict(rows, interval="confidence") for fit in (exact, drawn))
    width = mine["upr_1"] - mine["lwr_1"]
    # 64 draws: errors of 9 % in a standard deviation, less where it is known exactly
    assert (np.abs((its["upr_1"] - its["lwr_1"]) / width - 1) < 0.3).all()
    assert np.mean((its["upr_1"] - its["lwr_1"]) / width) == pytest.approx(1, abs=0.06)


def test_modes_move_with_thresholds_as_differences_say():
    fit = fit_of("ordinal")
    with engine(1) as pool:
        prepared, parameters = at_estimates(fit.model, fit._design, pool)
        laplace = objective_of(prepared.of, prepared.layout, False, parameters[1:3], 1)
        for j in range(4):
            step = np.zeros(len(parameters))
            step[3 + j] = 1e-4
            ahead, behind = (
                by_block(prepared.of.pattern.cross, laplace.evaluate(parameters + sign * step).mode.x)[0][:, 0, 0]
                for sign in (1, -1)
            )
            np.testing.assert_allclose(
                fit.model.thresholds.moves[0][:, 0, j], (ahead - behind) / 2e-4, rtol=1e-4, atol=1e-5
            )


def test_limits_of_a_row_by_hand():
    """Against the delta method over (beta, phi, b) with the joint covariance built densely from its definition."""
    fit = fit_of("ordinal")
    model, data = fit.model, data_of("ordinal")
    source, selection = open_source(data), select(model.spec)
    (batch,) = batches(model, read_rows(model, source, selection), selection, 1000)
    found = fit.predict(data, interval="confidence")
    group = model.groups[0]
    m, s = group.sensitivity[:, 0], model.thresholds.moves[0][:, 0]
    vcov, p = model.thresholds.vcov, len(model.beta)
    levels = len(group.modes)
    # b = -M beta + S phi + its own part
    into = np.hstack([-m, s])
    joint = np.block([[vcov, vcov @ into.T], [into @ vcov, into @ vcov @ into.T + np.diag(group.conditional[:, 0, 0])]])
    tau = np.concatenate([[-np.inf], model.phi, [np.inf]])

    def logits(vector, n):
        eta = batch.x[n] @ vector[:p] + vector[len(vcov) + batch.groups[0].codes[n]]
        ends = np.concatenate([[-np.inf], vector[p : len(vcov)], [np.inf]]) - eta
        cdf = 1 / (1 + np.exp(-ends))
        probabilities = np.diff(cdf)
        return np.log(probabilities / (1 - probabilities))

    at = np.concatenate([model.beta, model.phi, group.modes[:, 0]])
    assert len(at) == len(vcov) + levels
    assert len(tau) == 6
    for n in (0, 17, 60):
        gradient = np.array(
            [(logits(at + 1e-5 * unit, n) - logits(at - 1e-5 * unit, n)) / 2e-5 for unit in np.eye(len(at))]
        )
        reach = Z * np.sqrt(np.einsum("ak,ab,bk->k", gradient, joint, gradient))
        for k, name in enumerate("12345"):
            for side, sign in (("lwr", -1), ("upr", 1)):
                limit = found[f"{side}_{name}"][n].as_py()
                assert np.log(limit / (1 - limit)) == pytest.approx(logits(at, n)[k] + sign * reach[k], rel=1e-5)


def test_covariance_with_the_thresholds():
    model, data = fit_of("ordinal").model, data_of("ordinal")
    selection = select(model.spec, include="fixed")
    (batch,) = batches(model, read_rows(model, open_source(data), selection), selection, 1000)
    variance, shared = threshold_part(model, batch)
    np.testing.assert_array_equal(variance, 0)
    np.testing.assert_allclose(shared, batch.x @ model.thresholds.vcov[:2, 2:])


CLMM = {
    "flexible": [
        [0.46572770, 0.2119237, 0.1982604, 0.1959034, 0.03199102, 0.05898636],
        [0.21192374, 0.3645223, 0.3797654, 0.4112188, 0.16621278, 0.14481102],
        [0.19826042, 0.3797654, 0.6544340, 0.6795379, 0.31959259, 0.23218088],
        [0.19590338, 0.4112188, 0.6795379, 0.9456776, 0.39286902, 0.27544470],
        [0.03199102, 0.1662128, 0.3195926, 0.3928690, 0.35447532, 0.08409261],
        [0.05898636, 0.1448110, 0.2321809, 0.2754447, 0.08409261, 0.26268738],
    ],
    "symmetric": [
        [0.32579250, 0.32999860, 0.08084042, 0.14637450, 0.13201400],
        [0.32999860, 0.58047470, 0.08731149, 0.28853780, 0.21183030],
        [0.08084042, 0.08731149, 0.17295840, 0.09803121, 0.06020184],
        [0.14637450, 0.28853780, 0.09803121, 0.34158450, 0.07725586],
        [0.13201400, 0.21183030, 0.06020184, 0.07725586, 0.25440770],
    ],
}


def test_covariance_of_thresholds_and_fixed_effects():
    """``vcov`` of R's ordinal 2022.11-16; its symmetric model's parameters are two middles and a spacing."""
    table = fit_of("ordinal").vcov(thresholds=True)
    assert table["term"].to_pylist() == ["1|2", "2|3", "3|4", "4|5", "tempwarm", "contactyes"]
    found = np.column_stack([table[name].to_numpy() for name in table.column_names[1:]])
    np.testing.assert_allclose(found, CLMM["flexible"], rtol=2e-2, atol=2e-3)
    table = ranef.fit(WINE, data_of("ordinal"), family=ranef.ordinal(thresholds="symmetric")).vcov(thresholds=True)
    found = np.column_stack([table[name].to_numpy() for name in table.column_names[1:]])
    into = np.zeros((6, 5))
    into[[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 3, 4]] = 1.0
    into[[0, 3], 2] = -1.0, 1.0
    np.testing.assert_allclose(found, into @ np.array(CLMM["symmetric"]) @ into.T, rtol=2e-2, atol=2e-3)
    with pytest.raises(OptionError, match="has no thresholds"):
        fit_of("poisson").vcov(thresholds=True)


def test_symmetric_thresholds():
    fit = ranef.fit(WINE, data_of("ordinal"), family=ranef.ordinal(thresholds="symmetric"))
    found = fit.predict(data_of("ordinal"), interval="confidence", level=0.5)
    for name in "12345":
        p, lower, upper = (np.array(found[f"{side}{name}"]) for side in ("", "lwr_", "upr_"))
        assert ((lower < p) & (p < upper)).all()


def test_saved_with_and_without(tmp_path):
    fit, data = fit_of("ordinal"), data_of("ordinal")
    fit.save(tmp_path / "whole")
    fit.save(tmp_path / "small", posterior=False)
    mine, again = (one.predict(data, interval="confidence") for one in (fit, ranef.load(tmp_path / "whole")))
    for name in mine.column_names:
        np.testing.assert_array_equal(mine[name].to_numpy(), np.asarray(again[name]))
    with pytest.raises(OptionError, match="without its posterior"):
        ranef.load(tmp_path / "small").predict(data, interval="confidence")
    old = replace(fit.model, thresholds=None)
    with pytest.raises(OptionError, match="uncertainty of its thresholds"):
        ranef.Fit(old, fit.formula, "pyarrow").predict(data, interval="confidence")
