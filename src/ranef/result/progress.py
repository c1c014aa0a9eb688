"""Progress on stderr, for work that takes more than a second."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ranef.learn.factor.sweeping import Sweep
from ranef.learn.gaussian import STOCHASTIC_TOLERANCE, TOLERANCE
from ranef.learn.minimise import Step

FloatArray = npt.NDArray[np.float64]
Count: TypeAlias = Callable[[int, int], None]  # how many are done, and of how many

SECONDS = 1.0
# steps whose time tells that of the next ones
RECENT = 3


def compiling(progress: bool | None) -> Callable[[], None] | None:
    """What says that kernels are being compiled; None for silence."""
    if _silent(progress):
        return None
    return lambda: _write("compiling for this machine, once: later fits load what is compiled now from a cache\n")


def steps(
    progress: bool | None, tolerance: float | None = None, residual: bool = True
) -> Callable[[Step, float, Mapping[str, FloatArray]], None] | None:
    """What a search calls at every step: step, residual variance, covariance of each factor; None for silence.

    Parameters
    ----------
    progress : bool or None
        None: on a terminal, from the second second on.
    tolerance : float, optional
        Where the search ends, as in `ranef.fit`.
    residual : bool
        There is a residual variance to show: the response is Gaussian.
    """
    if _silent(progress):
        return None
    taken: list[Step] = []

    def report(step: Step, sigma2: float, covariances: Mapping[str, FloatArray]) -> None:
        taken.append(step)
        if progress is None and step.seconds < SECONDS:
            return
        # the stochastic search has no deviance to show
        stochastic = math.isnan(step.deviance)
        end = tolerance or (STOCHASTIC_TOLERANCE if stochastic else TOLERANCE)
        sds = ", ".join(f"{name} {np.sqrt(np.diag(c)).round(4).tolist()}" for name, c in covariances.items())
        note = "" if step.accepted else "  (refused)"
        value = "" if stochastic else f"deviance {step.deviance:.4f}, "
        line = f"step {step.iteration}: {value}to gain {step.decrement:.2g}, {step.seconds:.1f} s"
        noise = f", residual {sigma2**0.5:.4f}" if residual else ""
        _write(f"{line}{_left(remaining(taken, end))}; sd {sds}{noise}{note}\n")

    return report


def sweeps(progress: bool | None) -> Callable[[Sweep], None] | None:
    """What sweeps over latent terms call after each; None for silence.

    Parameters
    ----------
    progress : bool or None
        None: on a terminal, from the second second on.
    """
    if _silent(progress):
        return None

    def report(one: Sweep) -> None:
        if progress or one.seconds >= SECONDS:
            gain = "" if math.isnan(one.gain) else f", rose by {one.gain:.2g} a row"
            score = "" if math.isnan(one.score) else f", score on the validation rows {one.score:.4f}"
            _write(f"sweep {one.number}: {one.seconds:.0f} s{gain}{score}\n")

    return report


def remaining(taken: Sequence[Step], tolerance: float) -> float | None:
    """Seconds until a search ends, if what is to gain keeps falling by the factor of its last step.

    Searches mostly speed up towards their end, so it is rather too much. What comes after the search (standard errors,
    draws) is not in it, nor more probes.

    Parameters
    ----------
    taken : sequence of Step
        All steps so far.
    tolerance : float
        The search ends when less is to gain.

    Returns
    -------
    float or None
        None where it cannot be told: at the first step, after a refused one, or if there is not less to gain than
        before.
    """
    accepted = [step for step in taken if step.accepted]
    if len(accepted) < 2 or not taken[-1].accepted:
        return None
    before, last = accepted[-2].decrement, accepted[-1].decrement
    if last <= tolerance:
        return 0.0
    if not last < before:
        return None
    to_come = math.ceil(math.log(last / tolerance) / math.log(before / last))
    recent = taken[-1 - RECENT :]
    return to_come * max(0.0, recent[-1].seconds - recent[0].seconds) / (len(recent) - 1)


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
    width = 0
    start, end = ("\r", "") if sys.stderr.isatty() else ("", "\n")

    def report(done: int, total: int) -> None:
        nonlocal shown, width
        now = time.perf_counter()
        last = done == total and (progress or shown > begun)
        if now - shown < SECONDS and not last:
            return
        shown = now
        left = _left((now - begun) / done * (total - done)) if done else ""
        text = f"{what}: {done:,} of {total:,}, {now - begun:.0f} s{left}"
        # over what the last line leaves
        padding = " " * (width - len(text)) if start else ""
        width = len(text)
        _write(f"{start}{text}{padding}{chr(10) if last else end}")

    return report


def _left(seconds: float | None) -> str:
    """Time to go in words; nothing where it is not known, or there is none."""
    if not seconds:
        return ""
    if seconds < SECONDS:
        return ", less than 1 s left"
    return f", about {seconds:.0f} s left" if seconds < 100 else f", about {seconds / 60:.0f} min left"


def _silent(progress: bool | None) -> bool:
    return progress is False or (progress is None and not sys.stderr.isatty())


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
