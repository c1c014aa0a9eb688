"""Binary rows at the size of MovieLens-20M, with known truth."""

from __future__ import annotations

from pathlib import Path

from ranef import data

ROWS = 20_000_000
GROUPS = {"user": 138_493, "item": 26_744}
SD = {"user": 0.8, "item": 1.0}
INTERCEPT = 0.3


def clicks(path: Path, seed: int = 1) -> data.Simulated:
    """Write the rows; levels are unevenly active, as users and items are."""
    return data.simulate(
        ROWS, GROUPS, sd=SD, fixed={"(Intercept)": INTERCEPT}, family="bernoulli", seed=seed, path=path
    )
