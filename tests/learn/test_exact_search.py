"""What makes the exact search of a generalized model short does not change what it finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ranef import data, fit
from ranef.engine.threads import engine
from ranef.errors import FitError
from ranef.learn import generalized
from ranef.learn.laplace import EXACT, followed
from ranef.learn.mode import Exact
from tests.learn.laplace_problems import laplace_problem


@pytest.mark.parametrize(
    ("name", "link"), [("bernoulli", "logit"), ("ordinal", "probit"), ("negative_binomial", "log")]
)
@pytest.mark.parametrize("joint", [False, True])
def test_the_mode_follows_to_first_order(name: str, link: str, joint: bool) -> None:
    with engine(1) as pool:
        problem, parameters = laplace_problem("nested and crossed", name, link, joint, pool)
        at = problem.evaluate(parameters)
        direction = np.random.default_rng(0).standard_normal(len(parameters))
        lengths = []
        for step in (0.02, 0.01):
            moved = parameters + step * direction
            guess, mode = followed(problem, at, moved), problem.evaluate(moved).mode.u
            lengths.append(
                max(np.abs(a - b).max() for a, b in zip(guess.stages, mode.stages, strict=True))
                + np.abs(guess.rest - mode.rest)[: problem.cross.random].max()
            )
    # half the step, a quarter of the error
    assert lengths[1] < 0.3 * lengths[0]


@pytest.mark.parametrize("terms", ["crossed", "nested and crossed"])
def test_a_point_whose_rows_are_weighed_once_less_is_the_same(terms: str) -> None:
    with engine(1) as pool:
        problem, parameters = laplace_problem(terms, "poisson", "log", False, pool)
        at = problem.evaluate(parameters)
        moved = parameters + 1e-4 * np.random.default_rng(0).standard_normal(len(parameters))
        short = replace(problem, solver=EXACT).evaluate(moved, at)
        whole = replace(problem, solver=Exact(1e-14)).evaluate(moved, at)
    assert short.mode.steps == 1
    assert whole.mode.steps > 1
    assert short.deviance == pytest.approx(whole.deviance, abs=1e-9)
    np.testing.assert_allclose(short.gradient, whole.gradient, rtol=1e-6, atol=1e-6)


def test_a_stochastic_start_ends_at_the_same_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = data.simulate(
        3_000, {"user": 60, "item": 40}, family="bernoulli", sd={"user": 0.8, "item": 0.6}, fixed={"(Intercept)": 0.3}
    )

    def fitted(columns: int) -> tuple[np.ndarray, list[float], int]:
        monkeypatch.setattr(generalized, "START_COLUMNS", columns)
        found = fit(simulated.formula, simulated.data, family="bernoulli", solver="exact")
        rows = found.varcorr()
        table = np.array([*rows["vcov"], *found.fixef()["estimate"]], dtype=float)
        return table, [*rows["se"], *found.fixef()["se"]], found.iterations

    (plain, plain_se, many), (started, started_se, few) = fitted(10_000), fitted(10)
    assert few < many
    np.testing.assert_array_less(np.abs(started - plain), 5e-4 * np.array(plain_se, dtype=float))
    # where the Hessian was made it differs by up to a hundredth
    np.testing.assert_allclose(np.array(started_se, dtype=float), np.array(plain_se, dtype=float), rtol=5e-3)


def test_without_such_a_start_the_search_begins_at_joint_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    simulated = data.simulate(600, {"user": 30, "item": 20}, family="bernoulli", sd={"user": 0.8, "item": 0.6})
    plain = fit(simulated.formula, simulated.data, family="bernoulli", solver="exact")

    def fail(*_: object) -> None:
        raise FitError("out of range")

    monkeypatch.setattr(generalized, "START_COLUMNS", 10)
    # the first point cannot be computed
    monkeypatch.setattr(generalized.Coarse, "at", fail)
    again = fit(simulated.formula, simulated.data, family="bernoulli", solver="exact")
    assert again.iterations == plain.iterations
    assert again.deviance == plain.deviance
