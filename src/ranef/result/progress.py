"""Progress on stderr, for work that takes more than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ranef.learn.minimise import Step

FloatArray = npt.NDArray[np.float64]
Count: TypeAlias = Callable[[int, int], None]  # how many are done, and of how many

SECONDS = 1.0


def steps(progress: bool | None) -> Callable[[Step, float, Mapping[str, FloatArray]], None] | None:
    """What a search calls at every step: step, residual variance, covariance of each factor; None for silence.

    Parameters
    ----------
    progress : bool or None
        None: on a terminal, from the second second on.
    """
    if _silent(progress):
        return None

    def report(step: Step, sigma2: float, covariances: Mapping[str, FloatArray]) -> None:
        if progress is None and step.seconds < SECONDS:
            return
        sds = ", ".join(f"{name} {np.sqrt(np.diag(c)).round(4).tolist()}" for name, c in covariances.items())
        note = "" if step.accepted else "  (refused)"
        # the stochastic search has no deviance to show
        value = "" if np.isnan(step.deviance) else f"deviance {step.deviance:.4f}, "
        line = f"step {step.iteration}: {value}to gain {step.decrement:.2g}, {step.seconds:.1f} s"
        _write(f"{line}; sd {sds}, residual {sigma2**0.5:.4f}{note}\n")

    return report


def counter(what: str, progress: bool | None) -> Count | None:
    """What a repetition calls after each of its pieces; a line a second at most, on a terminal one that is rewritten.

    Parameters
    ----------
    what : str
        The pieces, such as ``"bootstrap refits"``.
    progress : bool or None
        None: on a terminal, from the second second on.
    """
    if _silent(progress):
        return None
    begun = shown = time.perf_counter()
    start, end = ("\r", "") if sys.stderr.isatty() else ("", "\n")

    def report(done: int, total: int) -> None:
        nonlocal shown
        now = time.perf_counter()
        last = done == total and (progress or shown > begun)
        if now - shown < SECONDS and not last:
            return
        shown = now
        _write(f"{start}{what}: {done:,} of {total:,}, {now - begun:.0f} s{chr(10) if last else end}")

    return report


def _silent(progress: bool | None) -> bool:
    return progress is False or (progress is None and not sys.stderr.isatty())


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
