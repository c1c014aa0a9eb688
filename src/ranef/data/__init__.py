"""Data to learn from and to test with: the literature's tables, MovieLens, and simulation with known truth."""

from ranef.data.named import MovieLens, movielens
from ranef.data.pairs import cooccurrence
from ranef.data.simulation import Simulated, Truth, simulate
from ranef.data.tables import (
    NAMES,
    bacteria,
    cake,
    cbpp,
    dyestuff,
    dyestuff2,
    epil,
    grouseticks,
    insteval,
    load,
    pastes,
    penicillin,
    salamanders,
    sleepstudy,
    soup,
    verbagg,
    wine,
)

__all__ = [
    "NAMES",
    "MovieLens",
    "Simulated",
    "Truth",
    "bacteria",
    "cake",
    "cbpp",
    "cooccurrence",
    "dyestuff",
    "dyestuff2",
    "epil",
    "grouseticks",
    "insteval",
    "load",
    "movielens",
    "pastes",
    "penicillin",
    "salamanders",
    "simulate",
    "sleepstudy",
    "soup",
    "verbagg",
    "wine",
]


def __dir__() -> list[str]:
    return __all__
