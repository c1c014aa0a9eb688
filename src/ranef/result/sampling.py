"""Options of a Bayesian fit: how many draws, and the priors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranef.errors import OptionError
from ranef.learn.chains import Lengths
from ranef.learn.hyperprior import Prior, read_prior
from ranef.result.options import check_whole

DEFAULTS = Lengths(chains=4, warmup=500, draws=1_000, thin=1)
# with latent terms, where a sweep costs more and predictions need fewer draws: those of one chain are alike, so that
# short chains from several starts predict better than a long one
DEFAULTS_LATENT = Lengths(chains=4, warmup=25, draws=50, thin=1)
# half a chain is what R-hat compares
LEAST_DRAWS = 8


@dataclass(frozen=True)
class Sampling:
    """What `ranef.fit` was told of the posterior that is drawn from."""

    prior: Prior
    lengths: Lengths


def read_sampling(
    bayesian: bool, own: Mapping[str, Any], others: Mapping[str, bool], defaults: Lengths = DEFAULTS
) -> Sampling | None:
    """The options of a Bayesian fit; None for any other.

    Parameters
    ----------
    bayesian : bool
    own : mapping of str to object
        ``draws``, ``warmup``, ``chains``, ``thin``, ``prior``; None where not given.
    others : mapping of str to bool
        Options that draws have no use for, as they are written: whether they are at their default.
    defaults : Lengths

    Raises
    ------
    OptionError
        An option has a wrong value, or goes with another method.
    """
    if not bayesian:
        for name, value in own.items():
            if value is not None:
                raise OptionError(f"{name}= goes with method='gibbs' only; leave it out, or choose that method")
        return None
    for name, default in others.items():
        if not default:
            raise OptionError(f"{name} has no use with method='gibbs', which draws every parameter; leave it out")

    def whole(name: str, default: int, least: int) -> int:
        value = own[name]
        if value is None:
            return default
        check_whole(name, value, least)
        return int(value)

    lengths = Lengths(
        chains=whole("chains", defaults.chains, 1),
        warmup=whole("warmup", defaults.warmup, 0),
        draws=whole("draws", defaults.draws, LEAST_DRAWS),
        thin=whole("thin", defaults.thin, 1),
    )
    return Sampling(read_prior(own["prior"]), lengths)
