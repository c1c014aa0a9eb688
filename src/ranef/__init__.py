"""ranef: mixed models with lme4's formulas and numbers, for anyone with users, items and responses.

>>> import ranef
>>> fit = ranef.fit("Reaction ~ Days + (Days | Subject)", ranef.data.sleepstudy())
>>> print(fit)                                                            # doctest: +SKIP

Everything is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranef import data as data
    from ranef import errors as errors
    from ranef import evaluate as evaluate
    from ranef.errors import CategoryOrderWarning as CategoryOrderWarning
    from ranef.errors import ConvergenceWarning as ConvergenceWarning
    from ranef.errors import DataError as DataError
    from ranef.errors import DroppedColumnsWarning as DroppedColumnsWarning
    from ranef.errors import DroppedRowsWarning as DroppedRowsWarning
    from ranef.errors import FitError as FitError
    from ranef.errors import FormulaError as FormulaError
    from ranef.errors import LevelError as LevelError
    from ranef.errors import ModelFileError as ModelFileError
    from ranef.errors import OptionError as OptionError
    from ranef.errors import RanefError as RanefError
    from ranef.errors import RanefWarning as RanefWarning
    from ranef.errors import SingularFitWarning as SingularFitWarning
    from ranef.errors import UnknownLevelWarning as UnknownLevelWarning
    from ranef.family import bernoulli as bernoulli
    from ranef.family import binomial as binomial
    from ranef.family import gamma as gamma
    from ranef.family import gaussian as gaussian
    from ranef.family import negative_binomial as negative_binomial
    from ranef.family import ordinal as ordinal
    from ranef.family import poisson as poisson
    from ranef.family import ratings as ratings
    from ranef.result.anova import anova as anova
    from ranef.result.fit import Fit as Fit
    from ranef.result.fit import load as load
    from ranef.result.front import fit as fit

__version__ = "0.1.0"

_HOME = {
    "fit": "ranef.result.front",
    "Fit": "ranef.result.fit",
    "load": "ranef.result.fit",
    "anova": "ranef.result.anova",
    **dict.fromkeys(
        ("bernoulli", "binomial", "gamma", "gaussian", "negative_binomial", "ordinal", "poisson", "ratings"),
        "ranef.family",
    ),
    **dict.fromkeys(
        (
            "RanefError",
            "FormulaError",
            "DataError",
            "LevelError",
            "OptionError",
            "FitError",
            "ModelFileError",
            "RanefWarning",
            "CategoryOrderWarning",
            "ConvergenceWarning",
            "SingularFitWarning",
            "DroppedRowsWarning",
            "DroppedColumnsWarning",
            "UnknownLevelWarning",
        ),
        "ranef.errors",
    ),
}

__all__ = [
    "CategoryOrderWarning",
    "ConvergenceWarning",
    "DataError",
    "DroppedColumnsWarning",
    "DroppedRowsWarning",
    "Fit",
    "FitError",
    "FormulaError",
    "LevelError",
    "ModelFileError",
    "OptionError",
    "RanefError",
    "RanefWarning",
    "SingularFitWarning",
    "UnknownLevelWarning",
    "__version__",
    "anova",
    "bernoulli",
    "binomial",
    "data",
    "errors",
    "evaluate",
    "fit",
    "gamma",
    "gaussian",
    "load",
    "negative_binomial",
    "ordinal",
    "poisson",
    "ratings",
]


def __getattr__(name: str) -> Any:
    if name in ("data", "errors", "evaluate"):
        return import_module(f"ranef.{name}")
    if name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'ranef' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
