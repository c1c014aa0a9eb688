"""Response families: ``bernoulli()``, ``poisson()``, ``ordinal(link="probit")``, or by name, ``family("poisson")``.

A family knows the distribution of a response given its linear predictor: the log-likelihood with its derivatives, its
own parameters, residuals and simulation. It knows nothing of terms, data or fitting.
"""

from __future__ import annotations

from collections.abc import Callable

from ranef.errors import OptionError, nearest
from ranef.family.base import Family, Kind
from ranef.family.bernoulli import Bernoulli
from ranef.family.binomial import Binomial
from ranef.family.gamma import Gamma
from ranef.family.gaussian import Gaussian
from ranef.family.negative_binomial import NegativeBinomial
from ranef.family.ordinal import Ordinal
from ranef.family.poisson import Poisson
from ranef.family.ratings import Ratings
from ranef.family.thresholds import Structure

__all__ = [
    "Family",
    "Kind",
    "bernoulli",
    "binomial",
    "family",
    "gamma",
    "gaussian",
    "negative_binomial",
    "ordinal",
    "poisson",
    "ratings",
]


def bernoulli(link: str = "logit") -> Bernoulli:
    """Responses of 0 or 1.

    Parameters
    ----------
    link : {"logit", "probit", "cloglog"}

    Raises
    ------
    OptionError
        There is no such link; so too below.
    """
    return Bernoulli(link)


def binomial(link: str = "logit") -> Binomial:
    """Successes out of trials; a response of 0 or 1 is one trial.

    Parameters
    ----------
    link : {"logit", "probit", "cloglog"}
    """
    return Binomial(link)


def poisson(link: str = "log") -> Poisson:
    """Counts whose variance is their mean.

    Parameters
    ----------
    link : {"log"}
    """
    return Poisson(link)


def negative_binomial(link: str = "log") -> NegativeBinomial:
    """Counts of mean ``mu`` and variance ``mu + mu^2 / theta``, ``theta`` learned; R's ``nbinom2``.

    Parameters
    ----------
    link : {"log"}
    """
    return NegativeBinomial(link)


def gamma(link: str = "log") -> Gamma:
    """Positive numbers of mean ``mu`` and variance ``dispersion mu^2``, the dispersion learned.

    Parameters
    ----------
    link : {"log"}
    """
    return Gamma(link)


def gaussian(link: str = "identity") -> Gaussian:
    """Numbers whose variance does not depend on their mean.

    Parameters
    ----------
    link : {"identity"}
    """
    return Gaussian(link)


def ordinal(link: str = "logit", thresholds: Structure = "flexible") -> Ordinal:
    """Ordered categories, by a cumulative link model.

    Parameters
    ----------
    link : {"logit", "probit", "cloglog"}
    thresholds : {"flexible", "symmetric", "equidistant"}
        Each threshold free; symmetric around the middle one or two; or equally far apart.
    """
    return Ordinal(link, thresholds)


def ratings(link: str = "logit") -> Ratings:
    """Evenly spaced numbers, from the smallest to the largest of the data, whose mean stays between these.

    Parameters
    ----------
    link : {"logit"}
    """
    return Ratings(link)


_MAKERS: dict[str, Callable[..., Family]] = {
    "gaussian": gaussian,
    "bernoulli": bernoulli,
    "binomial": binomial,
    "poisson": poisson,
    "negative_binomial": negative_binomial,
    "gamma": gamma,
    "ordinal": ordinal,
    "ratings": ratings,
}

_SYNONYMS = {
    "normal": "gaussian",
    "binary": "bernoulli",
    "logistic": "bernoulli",
    "nbinom2": "negative_binomial",
    "nbinom": "negative_binomial",
    "negbin": "negative_binomial",
    "negativebinomial": "negative_binomial",
    "nb": "negative_binomial",
    "nb2": "negative_binomial",
    "cumulative": "ordinal",
    "clm": "ordinal",
    "clmm": "ordinal",
    "polr": "ordinal",
    "rating": "ratings",
}


def family(name: str | Family | Callable[..., Family], link: str | None = None) -> Family:
    """The family of a name, with a link.

    Parameters
    ----------
    name : str or Family
        ``"gaussian"``, ``"bernoulli"``, ``"binomial"``, ``"poisson"``, ``"negative_binomial"``, ``"gamma"``,
        ``"ordinal"`` or ``"ratings"``, in any case; R's names for them; or a family, which comes back.
    link : str, optional
        The family's own default if not given.

    Raises
    ------
    OptionError
        There is no such family, or it has no such link.
    """
    if link is not None and not isinstance(link, str):
        raise OptionError(f"link={link!r}: give the name of a link, such as 'logit'")
    if isinstance(name, Family):
        if link is not None and link != name.link:
            raise OptionError(f"the family has link {name.link!r} and link={link!r} was given; give it once")
        return name
    if isinstance(name, str):
        word = name.strip().lower().replace(" ", "_").replace("-", "_")
        maker = _MAKERS.get(_SYNONYMS.get(word.replace("_", ""), word))
    else:
        word, maker = repr(name), next((m for m in _MAKERS.values() if m is name), None)
    if maker is None:
        close = nearest(word, [*_MAKERS, *_SYNONYMS], 1)
        hint = f"; did you mean {_SYNONYMS.get(close[0], close[0])!r}?" if close else ""
        raise OptionError(f"family={name!r} is not known: use {', '.join(map(repr, _MAKERS))}{hint}")
    return maker() if link is None else maker(link.strip().lower())
