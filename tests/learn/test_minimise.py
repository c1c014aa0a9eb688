"""The search: boundaries, bad scales, degenerate designs, recovery of known truth."""

from itertools import pairwise

import numpy as np
import pytest

from ranef.design.build import build_design
from ranef.engine.threads import engine
from ranef.errors import FitError
from ranef.formula import parse
from ranef.learn.criterion import deviance, evaluate
from ranef.learn.gaussian import fit_gaussian, prepare, theta_of
from ranef.learn.minimise import minimise
from ranef.table import open_source


def fit(formula, data, method="reml", threads=2, **options):
    with engine(threads) as pool:
        return fit_gaussian(build_design(parse(formula), open_source(data)), method, pool, **options)


def sds(model):
    return {(row.grp, row.var1, row.var2): row.sdcor for row in model.varcorr}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    n = 3000
    g, h, x = rng.integers(0, 60, n), rng.integers(0, 40, n), rng.normal(size=n)
    b = rng.normal(size=(60, 2)) * [1.0, 0.5]
    y = 1 + x + b[g, 0] + b[g, 1] * x + 0.7 * rng.normal(size=40)[h] + rng.normal(size=n)
    return {"y": y, "x": x, "g": g, "h": h}


@pytest.fixture(scope="module")
def reference(data):
    return fit("y ~ x + (x | g) + (1 | h)", data)


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_a_covariate_in_other_units_changes_only_its_units(data, reference, factor):
    other = fit("y ~ x + (x | g) + (1 | h)", {**data, "x": data["x"] * factor})
    assert other.info.iterations == reference.info.iterations
    for key, value in sds(reference).items():
        unit = factor if key[1] == "x" and key[2] is None else 1.0
        assert sds(other)[key] * unit == pytest.approx(value, rel=1e-8)
    assert other.beta[1] * factor == pytest.approx(reference.beta[1], rel=1e-9)
    # REML integrates over the coefficient, so the criterion shifts by the log of the unit
    assert other.info.deviance - 2 * np.log(factor) == pytest.approx(reference.info.deviance, rel=1e-11)


def test_a_covariate_far_from_zero_is_the_same_model(data, reference):
    other = fit("y ~ x + (x | g) + (1 | h)", {**data, "x": data["x"] + 1e6})
    assert other.info.converged
    assert other.info.deviance == pytest.approx(reference.info.deviance, rel=1e-9)
    assert sds(other)["g", "x", None] == pytest.approx(sds(reference)["g", "x", None], rel=1e-6)


@pytest.mark.parametrize(("shift", "factor"), [(1e14, 1e12), (0.0, 1e-9)])
def test_a_response_in_other_units(data, reference, shift, factor):
    other = fit("y ~ x + (x | g) + (1 | h)", {**data, "y": data["y"] * factor + shift})
    assert other.info.iterations == reference.info.iterations
    assert other.info.sigma == pytest.approx(factor * reference.info.sigma, rel=1e-8)


def test_threads_change_no_bit(data, reference):
    for threads in (1, 3):
        other = fit("y ~ x + (x | g) + (1 | h)", data, threads=threads)
        assert other.info.deviance == reference.info.deviance
        assert other.varcorr == reference.varcorr
        for a, b in zip(other.groups, reference.groups, strict=True):
            np.testing.assert_array_equal(a.modes, b.modes)
            np.testing.assert_array_equal(a.conditional, b.conditional)


def test_order_of_rows_and_levels_does_not_matter(data, reference):
    order = np.random.default_rng(1).permutation(len(data["y"]))
    shuffled = {name: column[order] for name, column in data.items()} | {"h": 100 - data["h"][order]}
    other = fit("y ~ x + (1 | h) + (x | g)", shuffled)
    assert other.info.deviance == pytest.approx(reference.info.deviance, rel=1e-12)
    assert sds(other)["h", "(Intercept)", None] == pytest.approx(sds(reference)["h", "(Intercept)", None], rel=1e-9)


def test_weights_are_inverse_variances_and_rows_may_be_merged():
    rng = np.random.default_rng(3)
    g = np.repeat(np.arange(20), 6)
    y = rng.normal(size=20)[g] + rng.normal(size=120)
    pairs = y.reshape(-1, 2).mean(axis=1)
    # the mean of two rows with weight 2 gives the same estimates of everything between rows at a fixed theta
    with engine(1) as pool:
        two = prepare(build_design(parse("y ~ 1 + (1 | g)"), open_source({"y": y, "g": g})), "ml", pool)
        merged = {"y": pairs, "g": g[::2], "w": np.full(60, 2.0)}
        one = prepare(build_design(parse("y ~ 1 + (1 | g)"), open_source(merged), weights="w"), "ml", pool)
        theta = {"g": np.array([[0.8]])}
        a, b = evaluate(two.criterion, theta_of(two, theta)), evaluate(one.criterion, theta_of(one, theta))
        beta = [p.scaling.least_squares + p.scaling.y_scale * p.scaling.x_back @ e.system.beta
                for p, e in ((two, a), (one, b))]  # fmt: skip
        np.testing.assert_allclose(beta[0], beta[1], rtol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_boundary_points_are_minima(seed):
    """No signal between levels: whatever the search returns, no nearby point is better."""
    rng = np.random.default_rng(seed)
    n = 400
    data = {"y": rng.normal(size=n), "x": rng.normal(size=n), "g": rng.integers(0, 20, n), "h": rng.integers(0, 15, n)}
    with engine(1) as pool:
        problem = prepare(build_design(parse("y ~ x + (x | g) + (1 | h)"), open_source(data)), "ml", pool)
        found = minimise(problem.criterion, np.array([0.3, 0.1, 0.3, 0.3]), tolerance=1e-9, max_iterations=100)
        assert found.converged
        for scale in (1e-1, 1e-2, 1e-3):
            for direction in rng.normal(size=(20, 4)):
                near = found.at.theta + scale * direction / np.linalg.norm(direction)
                assert deviance(problem.criterion, near) >= found.at.deviance - 1e-8


def test_the_search_leaves_a_false_boundary(data):
    """The gradient by Lambda vanishes at zero variances whether or not they are the optimum."""
    with engine(1) as pool:
        problem = prepare(build_design(parse("y ~ x + (x | g) + (1 | h)"), open_source(data)), "reml", pool)
        zero = np.zeros(problem.layout.parameters)
        found = minimise(problem.criterion, zero, tolerance=1e-9, max_iterations=100)
        best = minimise(problem.criterion, np.full(4, 0.5), tolerance=1e-9, max_iterations=100)
        assert found.converged
        assert found.at.deviance == pytest.approx(best.at.deviance, abs=1e-6)


@pytest.mark.parametrize("start", [1e-3, 1.0, 30.0])
def test_any_start_ends_at_the_same_point(data, reference, start):
    with engine(1) as pool:
        problem = prepare(build_design(parse("y ~ x + (x | g) + (1 | h)"), open_source(data)), "reml", pool)
        theta = theta_of(problem, {"g": np.eye(2) * start**2, "h": np.eye(1) * start**2})
        found = minimise(problem.criterion, theta, tolerance=1e-9, max_iterations=200)
        assert found.converged
        assert found.at.deviance == pytest.approx(reference.info.deviance, abs=1e-6)


def test_a_perfect_correlation_is_found_and_flagged():
    rng = np.random.default_rng(4)
    n = 2000
    g, x = rng.integers(0, 30, n), rng.normal(size=n)
    y = rng.normal(size=30)[g] * (1 + 0.5 * x) + rng.normal(size=n)
    model = fit("y ~ x + (x | g)", {"y": y, "x": x, "g": g})
    assert model.info.converged
    assert model.info.singular == (abs(sds(model)["g", "(Intercept)", "x"]) > 0.9999)
    assert sds(model)["g", "(Intercept)", "x"] > 0.95


def test_three_nested_levels_with_known_truth():
    rng = np.random.default_rng(5)
    c = rng.integers(0, 1200, 12_000)
    b, a = c % 240, c % 40
    truth = {"c:b:a": 0.6, "b:a": 0.9, "a": 1.2, "Residual": 1.0}
    y = 0.6 * rng.normal(size=1200)[c] + 0.9 * rng.normal(size=240)[b] + 1.2 * rng.normal(size=40)[a]
    model = fit("y ~ 1 + (1 | a/b/c)", {"y": y + rng.normal(size=len(c)), "a": a, "b": b, "c": c})
    assert model.info.converged
    for row in model.varcorr:
        # three standard errors: one in 100 such tests would fail by chance, and the seed is fixed
        assert abs(row.vcov - truth[row.grp] ** 2) < 3 * row.se


def test_duplicated_factors_and_slopes_converge_and_have_no_standard_error(data):
    model = fit("y ~ x + (1 | g) + (1 | g2)", {**data, "g2": data["g"] + 100})
    assert model.info.converged
    alone = fit("y ~ x + (1 | g)", data)
    total = sum(row.vcov for row in model.varcorr[:-1])
    assert total == pytest.approx(alone.varcorr[0].vcov, rel=1e-6)
    assert [np.isnan(row.se) for row in model.varcorr] == [True, True, False]


def test_a_response_constant_within_levels_is_an_error():
    rng = np.random.default_rng(6)
    g = rng.integers(0, 20, 200)
    with pytest.raises(FitError, match=r"'g'.*reproduce the response y exactly"):
        fit("y ~ 1 + (1 | g)", {"y": rng.normal(size=20)[g], "g": g})
    with pytest.raises(FitError, match="fixed effects reproduce the response exactly"):
        fit("y ~ x + (1 | g)", {"y": 2.0 * g + 1, "x": g, "g": g})


def test_a_response_that_a_factor_determines_is_an_error_up_to_rounding(data):
    """Whatever else is in the model; and a little noise is enough for the right standard errors."""
    rng = np.random.default_rng(7)
    level = rng.normal(size=60)[data["g"]]
    determined = {
        "y ~ x + (1 | g)": level,
        "y ~ x + (1 | h) + (1 | g)": level,
        "y ~ x + (x | g)": level * data["x"],
        "y ~ x + (1 | g) + (1 | h)": level + 3 * data["x"],
    }
    for formula, y in determined.items():
        for noise in (0.0, 1e-8):
            with pytest.raises(FitError, match=r"'g'.*exactly"):
                fit(formula, {**data, "y": y + noise * rng.normal(size=len(y))})
    z = rng.normal(size=60)[data["g"]]
    se = [
        np.sqrt(fit("y ~ z + (1 | g)", {**data, "z": z, "y": level + e * rng.normal(size=len(z))}).vcov[1, 1])
        for e in (1e-4, 1e-2)
    ]
    assert se[0] == pytest.approx(se[1], rel=0.01)


def test_too_few_iterations_are_said(data):
    model = fit("y ~ x + (x | g) + (1 | h)", data, max_iterations=1)
    assert not model.info.converged
    assert model.info.gradient > 1e-3


def test_history_holds_every_evaluation(reference):
    assert [step.iteration for step in reference.info.history] == list(range(reference.info.iterations))
    accepted = [step.deviance for step in reference.info.history if step.accepted]
    assert all(b <= a + 1e-9 for a, b in pairwise(accepted))
    assert reference.info.history[-1].decrement < 1e-9


def test_columns_of_lambda_end_with_a_positive_diagonal(data):
    with engine(1) as pool:
        problem = prepare(build_design(parse("y ~ x + (x | g) + (1 | h)"), open_source(data)), "reml", pool)
        found = [
            minimise(problem.criterion, np.array(start), tolerance=1e-9, max_iterations=100).at.theta
            for start in ([0.9, 0.1, 0.4, 0.6], [-0.9, -0.1, -0.4, -0.6])
        ]
        np.testing.assert_allclose(found[0], found[1], rtol=1e-4)
        theta = np.array([-1.0, 2.0, -3.0, -4.0])
        for a, b in zip(
            problem.layout.factors(theta), problem.layout.factors(problem.layout.canonical(theta)), strict=True
        ):
            np.testing.assert_allclose(a @ a.T, b @ b.T)
            assert np.all(np.diag(b) >= 0)
