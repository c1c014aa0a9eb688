"""Blocks of coefficients of one factor: parts, prior and what the model knows of a level."""

import numpy as np
import pytest

import ranef
from ranef.errors import ConvergenceWarning, OptionError
from ranef.score.merged import level_state, merged_factor, merged_factors, prior_covariance, prior_state
from tests.result.test_latent import simulated


@pytest.fixture(scope="module")
def model():
    table, _ = simulated()
    formula = "y ~ 1 + (1 | user) + (1 | item) + (1 | job) + latent(user, item, rank=2)"
    with pytest.warns(ConvergenceWarning):
        return ranef.fit(formula, {name: column[:2000] for name, column in table.items()}, max_iterations=5).model


def test_parts_of_a_block(model):
    user = merged_factor(model, "user")
    assert (user.sizes, user.fields, user.effects, user.size) == ((1, 2), ((0, 0, 0),), 1, 3)
    assert {one.name: one.sizes for one in merged_factors(model)} == {"user": (1, 2), "item": (1, 2), "job": (1,)}
    with pytest.raises(OptionError, match="did you mean 'user'"):
        merged_factor(model, "usr")


def test_states_are_the_parts_of_the_model(model):
    user = merged_factor(model, "user")
    group, field = model.groups[user.group], model.latent[0].sides[0][0]
    prior = prior_covariance(model, user)
    np.testing.assert_array_equal(prior[1:, 1:], field.covariance)
    np.testing.assert_allclose(prior_state(model, user).covariance, prior, rtol=1e-9, atol=1e-12)
    state = level_state(model, user, 5)
    np.testing.assert_array_equal(state.mean, [*group.modes[5], *field.vectors[5]])
    np.testing.assert_allclose(state.covariance[0, 0], group.conditional[5, 0, 0])
    i, j = np.tril_indices(2)
    np.testing.assert_allclose(state.covariance[1:, 1:][i, j], field.spread[5], rtol=1e-5, atol=1e-8)
    assert not state.precision[0, 1:].any()
