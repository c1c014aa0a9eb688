"""The examples in the docstrings of `ranef.evaluate` run."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = ["splits", "interactions", "ranking", "curve", "metrics", "predictions", "fits", "fit_scores"]
MODULES += ["baselines.ratings"]


@pytest.mark.parametrize("module", MODULES)
def test_examples(module):
    found = doctest.testmod(import_module(f"ranef.evaluate.{module}"))
    assert found.attempted
    assert not found.failed
