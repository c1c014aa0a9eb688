"""Early stopping on validation rows, callbacks, Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

import ranef
from ranef.errors import ConvergenceWarning, DataError, OptionError
from ranef.learn.factor.sweeping import PATIENCE

FORMULA = "y ~ 1 + (1 | user) + (1 | item) + latent(user, item, rank=4)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    users, items, rows = 150, 60, 3000
    user, item = rng.integers(0, users, rows), rng.integers(0, items, rows)
    eta = 3 + 0.5 * rng.standard_normal(users)[user] + 0.4 * rng.standard_normal(items)[item]
    eta += np.sum(rng.standard_normal((users, 2))[user] * 0.6 * rng.standard_normal((items, 2))[item], axis=1)
    return {"y": eta + 0.8 * rng.standard_normal(rows), "user": user, "item": item}


def part(data, rows):
    return {name: column[rows] for name, column in data.items()}


@pytest.fixture(scope="module")
def held(data):
    return ranef.fit(FORMULA, data, validation=0.2)


def test_a_share_is_held_out_by_seed_and_counted(held, data):
    assert held.model.info.validation_rows == 600
    assert held.nobs == 2400
    assert held.dropped == 0
    again = ranef.fit(FORMULA, part(data, held.kept), max_iterations=1, callbacks=lambda _: True)
    assert again.nobs == 2400
    other = ranef.fit(FORMULA, data, validation=0.2, seed=1, callbacks=lambda _: True)
    assert 0 < np.mean(other.kept == held.kept) < 1
    assert "600 validation rows" in str(held)


def test_scores_are_those_of_the_predictions(held, data):
    rest = part(data, ~held.kept)
    error = np.sqrt(np.mean((held.predict(rest) - rest["y"]) ** 2))
    # the additive part is fitted once more after the sweeps
    assert abs(held.model.info.score - error) < 0.005
    scores = [one.score for one in held.history]
    assert np.isfinite(scores).all()
    assert held.model.info.score == min(scores)
    assert held.iterations == 1 + int(np.argmin(scores))


def test_the_best_sweep_is_kept(held, data):
    train, test = part(data, held.kept), part(data, ~held.kept)
    # a fit to the rows themselves: what the vectors take for signal is noise on others
    formula = "y ~ 1 + (1 | item) + latent(user, item, rank=4)"
    few = {**train, "user": np.arange(len(train["y"])) % 600}
    other = {**test, "user": np.arange(len(test["y"])) % 600}
    fit = ranef.fit(formula, few, validation=other, tolerance=1e-9)
    assert fit.model.info.stopped == "validation"
    assert len(fit.history) == fit.iterations + PATIENCE
    assert fit.converged
    with pytest.warns(ConvergenceWarning):
        short = ranef.fit(formula, few, max_iterations=fit.iterations, tolerance=1e-9)
    test = other
    np.testing.assert_array_equal(fit.predict(test), short.predict(test))
    assert fit.sigma == short.sigma


def test_callbacks_hear_of_every_sweep_and_may_end_them(data):
    heard = []
    fit = ranef.fit(FORMULA, data, callbacks=[heard.append, lambda one: one.number == 3])
    assert [one.number for one in heard] == [1, 2, 3]
    assert fit.iterations == 3
    assert fit.model.info.stopped == "callback"
    assert not fit.converged
    assert "Ended by a callback after 3 sweeps" in str(fit)
    assert np.isnan(heard[0].gain)
    assert heard[2].gain == pytest.approx((heard[2].bound - heard[1].bound) / 3000)
    assert heard[2].seconds > heard[1].seconds
    assert np.isnan(heard[0].score)


@pytest.fixture
def interruptible():
    """A process that was started in the background may ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="a signal to one process is POSIX")
def test_an_interrupt_keeps_the_last_sweep(data, interruptible):
    before = signal.getsignal(signal.SIGINT)
    press = lambda one: os.kill(os.getpid(), signal.SIGINT) if one.number == 2 else None  # noqa: E731
    with pytest.warns(ConvergenceWarning, match="interrupted: this is the fit after 2 sweeps"):
        fit = ranef.fit(FORMULA, data, callbacks=press)
    assert fit.model.info.stopped == "interrupt"
    assert signal.getsignal(signal.SIGINT) is before
    assert np.isfinite(fit.predict(part(data, slice(5)))).all()


@pytest.mark.skipif(os.name != "posix", reason="a signal to one process is POSIX")
def test_a_second_interrupt_ends_the_fit(data, interruptible):
    def press(_):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        ranef.fit(FORMULA, data, callbacks=press)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_fit_too(data):
    found = []
    stop = lambda one: True  # noqa: E731
    work = threading.Thread(target=lambda: found.append(ranef.fit(FORMULA, data, callbacks=stop)))
    work.start()
    work.join()
    assert found[0].iterations == 1


def test_saved_with_its_scores(held, tmp_path):
    held.save(tmp_path / "model")
    again = ranef.load(tmp_path / "model")
    assert [one.score for one in again.history] == [one.score for one in held.history]
    assert again.model.info.score == held.model.info.score
    assert "600 validation rows" in str(again)


def test_what_cannot_be_is_an_error(data):
    with pytest.raises(OptionError, match="between 0 and 1"):
        ranef.fit(FORMULA, data, validation=1.5)
    with pytest.raises(OptionError, match="goes with latent"):
        ranef.fit("y ~ 1 + (1 | user)", data, validation=0.1)
    with pytest.raises(OptionError, match="goes with latent"):
        ranef.fit("y ~ 1 + (1 | user)", data, callbacks=print)
    with pytest.raises(OptionError, match="give a function"):
        ranef.fit(FORMULA, data, callbacks="stop")
    with pytest.raises(DataError, match="no row has a response"):
        ranef.fit(FORMULA, data, validation={**part(data, slice(2)), "y": np.array([np.nan, np.nan])})
    with pytest.raises(OptionError, match="no column 'y'"):
        ranef.fit(FORMULA, data, validation={"user": [1], "item": [2]})


def test_attributes_come_from_tables_while_sweeps_run(data):
    users = {"user": np.arange(150), "job": np.arange(150) % 4}
    formula = FORMULA.replace("latent(user,", "latent(user + job,")
    fit = ranef.fit(formula, data, tables={"user": users}, validation=0.2)
    rest = part(data, ~fit.kept)
    assert abs(fit.model.info.score - np.sqrt(np.mean((fit.predict(rest) - rest["y"]) ** 2))) < 0.005
    # one of which nothing is read is no error
    unused = {"item": np.arange(80), "kind": np.arange(80) % 3}
    other = ranef.fit(formula, part(data, fit.kept), tables={"user": users, "item": unused}, validation=rest)
    assert other.model.info.score == fit.model.info.score
