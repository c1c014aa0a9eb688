"""What variational Bayes makes of vectors that do not pay for what they cost, and says of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import ranef
from ranef.errors import SingularFitWarning
from ranef.result.embedding import Embedding, axes_table
from ranef.table import Levels

FORMULA = "y ~ 1 + (1 | user) + (1 | item)"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(2)
    users, items, rows = 400, 200, 4000
    user, item = rng.integers(0, users, rows), rng.integers(0, items, rows)
    y = 3 + 0.5 * rng.standard_normal(users)[user] + 0.5 * rng.standard_normal(items)[item]
    return {"y": y + rng.standard_normal(rows), "user": user, "item": item}


def test_a_dropped_term_is_said(data):
    with pytest.warns(SingularFitWarning, match=r"variational Bayes dropped latent\(user, item, rank = 2\)"):
        fit = ranef.fit(f"{FORMULA} + latent(user, item, rank=2)", data)
    assert fit.model.info.dropped_terms == ("latent(user, item, rank = 2)",)
    assert "Dropped: the vectors are as good as zero" in str(fit)
    mixed = ranef.fit(FORMULA, data)
    np.testing.assert_allclose(fit.predict(data), mixed.predict(data), atol=0.1)
    with pytest.warns(SingularFitWarning, match="dropped"):
        two = mixed.extend("latent(user, item, rank=2)")
    assert two.model.info.dropped_terms


def test_vanished_axes_are_left_out():
    vectors = np.random.default_rng(0).standard_normal((6, 3)) * [2, 1, 1e-9]
    embedding = Embedding("item", Levels(pa.array(range(6))), vectors, None, np.eye(3))
    assert set(axes_table(embedding, 1, None)["axis"]) == {1, 2}
    nothing = Embedding("item", Levels(pa.array(range(6))), 0 * vectors, None, np.eye(3))
    assert set(axes_table(nothing, 1, None)["axis"]) == {1, 2, 3}
