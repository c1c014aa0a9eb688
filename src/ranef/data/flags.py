"""`ranef simulate`: the arguments of :func:`ranef.data.simulate` as words of a command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ranef.data.simulation import Simulated, simulate
from ranef.errors import OptionError


def simulate_from_flags(
    rows: str,
    group: Sequence[str],
    out: str | os.PathLike[str],
    *,
    sd: Sequence[str] = (),
    slope: Sequence[str] = (),
    correlation: Sequence[str] = (),
    fixed: Sequence[str] = (),
    binary: Sequence[str] = (),
    nested: Sequence[str] = (),
    activity: Sequence[str] = (),
    family: str = "gaussian",
    residual_sd: float | None = None,
    trials: int | None = None,
    threshold: Sequence[float] = (),
    ids: str = "int",
    seed: int = 0,
) -> Simulated:
    """Simulate into a Parquet file, each option as its flag has it.

    Parameters
    ----------
    rows : str
        ``--rows 1e6``.
    group : sequence of str
        ``--group user=6000``, once a factor.
    out : path
        ``--out FILE.parquet``.
    sd : sequence of str
        ``--sd user=0.45``, once a factor.
    slope : sequence of str
        ``--slope user=0.3``, a random slope of ``x``; or ``--slope user:age=0.3``, of the covariate ``age``.
    correlation : sequence of str
        ``--correlation user=0.2``, between every two coefficients of a level.
    fixed : sequence of str
        ``--fixed age=0.5``; ``--fixed "(Intercept)=3.5"``.
    binary : sequence of str
        ``--binary service=-0.1``.
    nested : sequence of str
        ``--nested class=school``: classes within schools.
    activity : sequence of str
        ``--activity user=1.2`` or ``--activity item=zipf:1.1``.
    family, residual_sd, trials, ids, seed
        As in :func:`ranef.data.simulate`.
    threshold : sequence of float
        ``--threshold -1 --threshold 0.5``.

    Returns
    -------
    Simulated
        Its ``data`` is the path of the file, its ``truth.document()`` is ready for JSON.

    Raises
    ------
    OptionError
        A flag is wrong; the message names it.

    See Also
    --------
    ranef.data.simulate : what the options mean.
    """
    _check_out(Path(out))
    slopes: dict[str, dict[str, float]] = {}
    for place, value in _numbers("slope", slope).items():
        factor, _, covariate = place.partition(":")
        slopes.setdefault(factor, {})[covariate or "x"] = value
    return simulate(
        _number("rows", rows),
        _numbers("group", group),
        sd=_numbers("sd", sd),
        slopes=slopes,
        correlation=_numbers("correlation", correlation),
        fixed=_numbers("fixed", fixed),
        binary=_numbers("binary", binary),
        nested=_pairs("nested", nested),
        activity={
            name: word if ":" in word else _number("activity", word)
            for name, word in _pairs("activity", activity).items()
        },
        family=family,
        residual_sd=residual_sd,
        trials=trials,
        thresholds=tuple(threshold) or None,
        ids=ids,
        seed=seed,
        path=out,
    )


def _check_out(out: Path) -> None:
    if out.suffix != ".parquet":
        raise OptionError(f"--out {out}: the extension must be .parquet")
    if not out.parent.is_dir():
        raise OptionError(f"--out {out}: there is no folder {out.parent}; make it first")


def _pairs(flag: str, given: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in given:
        name, equals, value = word.rpartition("=")
        if not (equals and name and value):
            raise OptionError(f"--{flag} takes NAME=VALUE, not {word!r}")
        if name in pairs:
            raise OptionError(f"--{flag} names {name!r} twice")
        pairs[name] = value
    return pairs


def _numbers(flag: str, given: Sequence[str]) -> dict[str, float]:
    return {name: _number(flag, value) for name, value in _pairs(flag, given).items()}


def _number(flag: str, word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise OptionError(f"--{flag} takes a number, not {word!r}") from None
