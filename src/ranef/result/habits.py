"""Arguments that a function does not have, met with what it has instead; many come to ranef with lme4's words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec, TypeVar

from ranef.errors import OptionError, nearest

P = ParamSpec("P")
T = TypeVar("T")

FIT: Mapping[str, str] = {
    "REML": "method='reml' or method='ml'",
    "nAGQ": "quadrature= (method='joint' for nAGQ=0)",
    "subset": "filter the data before",
    "na_action": "missing='drop' or missing='raise'",
    "control": "tolerance=, max_iterations= and solver=",
    "verbose": "progress=True",
    "thresholds": "family=ranef.ordinal(thresholds=...)",
    "contrasts": 'C(x, "sum") and the like in the formula',
}
PREDICT: Mapping[str, str] = {
    "newdata": "data=",
    "re_form": "include='fixed' for the population's value, or the terms to include",
    "allow_new_levels": "new_levels='population' or new_levels='raise'",
    "se_fit": "interval='confidence'",
}


def with_habits(instead: Mapping[str, str]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Refuse unknown arguments with `OptionError` and say what to use; the signature stays the function's own.

    Parameters
    ----------
    instead : mapping of str to str
        What to use for arguments of other packages.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        known = inspect.signature(function).parameters

        @wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            for name in kwargs:
                if name not in known:
                    close = [f"{one}=" for one in nearest(name, known, 1)]
                    use = instead.get(name) or " ".join(close) or ", ".join(f"{one}=" for one in known if one != "self")
                    raise OptionError(f"{function.__name__}() has no argument {name}=; use {use}")
            return function(*args, **kwargs)

        return wrapper

    return decorate
