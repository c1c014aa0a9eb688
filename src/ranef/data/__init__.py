"""Data to learn from and to test with: the literature's example tables, and simulation with a known truth."""

from ranef.data.simulation import Simulated, Truth, simulate
from ranef.data.tables import NAMES, cake, dyestuff, dyestuff2, insteval, load, pastes, penicillin, sleepstudy

__all__ = [
    "NAMES",
    "Simulated",
    "Truth",
    "cake",
    "dyestuff",
    "dyestuff2",
    "insteval",
    "load",
    "pastes",
    "penicillin",
    "simulate",
    "sleepstudy",
]


def __dir__() -> list[str]:
    return __all__
