"""The stochastic solver against the exact one, within the Monte-Carlo errors that it reports."""

import numpy as np
import pytest

import ranef
import ranef.data
from ranef.engine.threads import engine
from ranef.learn.criterion import Criterion, evaluate
from ranef.learn.noise import coverage_factor, precise_enough, standard_error
from ranef.learn.probes import draw_probes
from ranef.learn.stochastic import estimate, estimating, stochastic_deviance
from ranef.solve import order
from ranef.solve.cross_products import cross_products
from tests.oracle import KINDS, example, some_theta

pytestmark = pytest.mark.filterwarnings("ignore::ranef.errors.SingularFitWarning")


def both(kind, reml, pool, probes=64, seed=0, weighted=True):
    rows, layout = example(kind, weighted=weighted)
    criterion = Criterion(cross_products(rows, pool), layout, reml, pool)
    equations = estimating(criterion, draw_probes(rows, criterion.cross, pool, probes, seed))
    return criterion, equations, some_theta(layout)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_score_and_metric(kind, reml):
    with engine(2) as pool:
        criterion, equations, theta = both(kind, reml, pool)
        exact, found = evaluate(criterion, theta), estimate(equations, theta)
        assert found.sigma2 == pytest.approx(exact.sigma2, rel=1e-6)
        # conjugate gradients stop at a residual: levels that meet each other are a little further from the solution
        digits = 5e-5 if "bag" in kind else 1e-5
        for a, b in zip(exact.scores, found.scores, strict=True):
            np.testing.assert_allclose(b, a, atol=digits * np.abs(a).max())
        # with a handful of levels a probe says a skewed number: five errors are exceeded once in a hundred times
        errors = np.sqrt(np.diag(found.gradient_covariance))
        assert np.all(np.abs(found.gradient - exact.gradient) < 7 * errors + 1e-6)
        for a, b, e in zip(exact.slopes, found.slopes, found.slope_errors, strict=True):
            assert np.all(np.abs(b - a) < 7 * e + 1e-6)


@pytest.mark.parametrize("reml", [False, True])
def test_what_is_known_of_shifts_takes_most_of_the_noise(reml):
    rows, layout = example("crossed", weighted=True)
    with engine(1) as pool:
        criterion = Criterion(cross_products(rows, pool), layout, reml, pool)
        exact = evaluate(criterion, some_theta(layout)).gradient
        spread = []
        for exact_shifts in (False, True):
            found = [
                estimate(
                    estimating(criterion, draw_probes(rows, criterion.cross, pool, 8, seed), exact_shifts),
                    some_theta(layout),
                ).gradient
                for seed in range(50)
            ]
            # unbiased either way: a mean of 50 is off by more than 4 of its errors once in 10,000 times
            error = np.std(found, axis=0) / np.sqrt(50)
            assert np.all(np.abs(np.mean(found, axis=0) - exact) < 4 * error)
            spread.append(error)
    assert np.all(spread[1] < 0.3 * spread[0])


def test_a_factor_without_variance_has_no_shift():
    rows, layout = example("crossed")
    with engine(1) as pool:
        criterion = Criterion(cross_products(rows, pool), layout, True, pool)
        equations = estimating(criterion, draw_probes(rows, criterion.cross, pool, 8, 0))
        for theta in (np.array([0.7, 0.0]), np.array([0.0, 0.7]), np.zeros(2)):
            found, exact = estimate(equations, theta), evaluate(criterion, theta)
            for a, b, e in zip(exact.slopes, found.slopes, found.slope_errors, strict=True):
                assert np.all(np.abs(b - a) < 7 * e + 1e-6)


def test_three_printed_errors_hold_as_much_as_three_known_ones():
    rng = np.random.default_rng(0)
    for count in (4, 8, 64):
        draws = rng.normal(size=(20_000, count))
        error = coverage_factor(count) * draws.std(axis=1, ddof=1) / np.sqrt(count)
        # 99.73 %, within 4 binomial errors
        assert np.mean(np.abs(draws.mean(axis=1)) < 3 * error) == pytest.approx(0.9973, abs=0.0015)
    assert standard_error(draws[0]) == pytest.approx(error[0])


def test_the_mean_over_seeds_is_the_exact_score_and_the_errors_are_honest():
    with engine(1) as pool:
        criterion, _, theta = both("crossed slopes", True, pool)
        exact = evaluate(criterion, theta).gradient
        rows, _ = example("crossed slopes", weighted=True)
        values, errors = [], []
        for seed in range(100):
            found = estimate(estimating(criterion, draw_probes(rows, criterion.cross, pool, 8, seed)), theta)
            values.append(found.gradient - exact)
            errors.append(np.sqrt(np.diag(found.gradient_covariance)))
        spread = np.std(values, axis=0)
        # a mean of 100 is off by more than 4 of its errors once in 10,000 times
        assert np.all(np.abs(np.mean(values, axis=0)) < 4 * spread / 10)
        # the mean square of the reported errors is the variance, up to 14 % for 100 normal draws
        np.testing.assert_allclose(np.sqrt(np.mean(np.square(errors), axis=0)), spread, rtol=0.35)


@pytest.mark.parametrize("reml", [False, True])
@pytest.mark.parametrize("kind", ["crossed", "crossed slopes", "chain and crossed"])
def test_deviance(kind, reml):
    with engine(1) as pool:
        criterion, equations, theta = both(kind, reml, pool, probes=8)
        exact = evaluate(criterion, theta).deviance
        draws = stochastic_deviance(criterion, estimate(equations, theta), "abcd", 64, 1)
        error = draws.std() / 8
        assert abs(draws.mean() - exact) < 5 * error + 1e-6
        assert error < 1.0


def test_threads_change_no_bit(monkeypatch):
    monkeypatch.setattr(order, "ROWS_A_PARTITION", 10)
    results = []
    for threads in (1, 2, 5):
        with engine(threads) as pool:
            _, equations, theta = both("chain and crossed", True, pool, probes=8)
            found = estimate(equations, theta)
            results.append([found.gradient, found.metric, *found.slopes, *found.scores])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def insteval():
    return ranef.data.insteval()


@pytest.mark.parametrize("formula", ["y ~ 1 + (1 | s) + (1 | d)", "y ~ 1 + service + (1 + service | d) + (1 | s)"])
@pytest.mark.parametrize("method", ["ml", "reml"])
def test_whole_fits(insteval, formula, method):
    exact = ranef.fit(formula, insteval, method=method, solver="exact")
    found = ranef.fit(formula, insteval, method=method, solver="stochastic")
    assert found.converged
    assert found.solver == "stochastic"
    for a, b in zip(exact.model.varcorr, found.model.varcorr, strict=True):
        # reported errors come from 8 probes: t with 7 degrees of freedom
        assert abs(a.vcov - b.vcov) < 6 * b.mcse + 1e-6 * abs(a.vcov)
        assert b.mcse < 0.06 * b.se
        assert b.se == pytest.approx(a.se, rel=0.02)
    np.testing.assert_allclose(found.model.beta, exact.model.beta, atol=0.01 * np.sqrt(np.diag(exact.model.vcov)).min())
    np.testing.assert_allclose(np.diag(found.model.vcov), np.diag(exact.model.vcov), rtol=1e-2)
    assert abs(found.loglik - exact.loglik) < 5 * found.loglik_mcse
    for a, b in zip(exact.model.groups, found.model.groups, strict=True):
        np.testing.assert_allclose(b.modes, a.modes, atol=5e-3)
        ratio = np.einsum("gaa->ga", b.conditional) / np.einsum("gaa->ga", a.conditional)
        assert np.abs(np.median(ratio) - 1) < 0.05
        assert ratio.min() > 0.5


def test_a_saved_stochastic_model_predicts_the_same_with_intervals(insteval, tmp_path):
    exact = ranef.fit("y ~ 1 + service + (1 | s) + (1 | d)", insteval)
    fit = ranef.fit("y ~ 1 + service + (1 | s) + (1 | d)", insteval, solver="stochastic", probes=32)
    fit.save(tmp_path / "model")
    rows = insteval.slice(0, 3000)
    kept, again = (
        fit.predict(rows, interval="confidence"),
        ranef.load(tmp_path / "model").predict(rows, interval="confidence"),
    )
    np.testing.assert_array_equal(kept["upr"].to_numpy(), np.asarray(again["upr"]))
    reference = exact.predict(rows, interval="confidence")
    width = kept["upr"].to_numpy() - kept["lwr"].to_numpy()
    ratio = width / (reference["upr"].to_numpy() - reference["lwr"].to_numpy())
    # a standard deviation from 32 draws has a relative error of an eighth, of the part that is drawn
    assert np.abs(np.median(ratio) - 1) < 0.05
    assert np.quantile(np.abs(ratio - 1), 0.95) < 0.3


def test_no_signal_ends_at_the_boundary():
    rng = np.random.default_rng(0)
    n = 5000
    data = {"y": rng.normal(size=n), "g": rng.integers(0, 300, n), "h": rng.integers(0, 200, n)}
    exact = ranef.fit("y ~ 1 + (1 | g) + (1 | h)", data, solver="exact")
    found = ranef.fit("y ~ 1 + (1 | g) + (1 | h)", data, solver="stochastic")
    assert found.converged
    for a, b in zip(exact.model.varcorr, found.model.varcorr, strict=True):
        assert abs(a.vcov - b.vcov) < 0.1 * a.se if np.isfinite(a.se) else b.sdcor < 0.05


def test_auto_takes_the_path_by_size(monkeypatch, insteval):
    assert ranef.fit("y ~ 1 + (1 | s) + (1 | d)", insteval).solver == "exact"
    monkeypatch.setattr("ranef.learn.gaussian.EXACT_COLUMNS", 500)
    assert ranef.fit("y ~ 1 + (1 | s) + (1 | d)", insteval).solver == "stochastic"
    # one factor: everything is eliminated and nothing is left to sample
    assert ranef.fit("y ~ 1 + (1 | s)", insteval, solver="stochastic").solver == "exact"


def test_the_seed_decides_and_options_are_checked(insteval):
    a, b, c = (
        ranef.fit("y ~ 1 + (1 | s) + (1 | d)", insteval, solver="stochastic", probes=4, seed=s) for s in (1, 1, 2)
    )
    assert a.model.varcorr == b.model.varcorr
    assert a.model.varcorr != c.model.varcorr
    for wrong in ({"probes": 1}, {"probes": 65}, {"probes": "many"}, {"seed": -1}, {"seed": 0.5}):
        with pytest.raises(ranef.OptionError):
            ranef.fit("y ~ 1 + (1 | s)", insteval, **wrong)


def test_a_log_likelihood_gets_as_many_probes_as_it_needs():
    numbers = np.random.default_rng(0).normal(size=64)
    asked = []

    def values(scale):
        def some(count, skip):
            asked.append((skip, count))
            return scale * numbers[skip:count]

        return some

    assert len(precise_enough(values(0.1), 8)) == 8
    assert asked == [(0, 8)]
    # the error of eight tells how many there must be, and it is checked again
    found = precise_enough(values(5.0), 8)
    np.testing.assert_array_equal(found, 5.0 * numbers[: len(found)])
    assert standard_error(found) <= 1.0
    spread = 5.0 * numbers[:8].std(ddof=1)
    expected = next(n for n in range(16, 64, 8) if coverage_factor(n) * spread / np.sqrt(n) <= 1)
    assert asked[1:3] == [(0, 8), (8, expected)]
    assert len(precise_enough(values(500.0), 8)) == 64
