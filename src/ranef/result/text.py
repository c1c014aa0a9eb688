"""Numbers and tables as text, formatted as R prints them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ranef.artifact.model import FitInfo

SMALLEST_P = 2.2e-16


class Text(str):
    """Text that shows itself as it is, also where a notebook or prompt shows a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def family_text(info: FitInfo) -> str:
    """The family with its link, and the structure of an ordinal one's thresholds."""
    structure = "" if info.thresholds is None else f", {info.thresholds} thresholds"
    return f"{info.family.replace('_', ' ')} ({info.link}){structure}"


def format_numbers(values: Sequence[float] | npt.NDArray[np.float64], digits: int = 4) -> list[str]:
    """A column of numbers with the decimals that the most demanding one needs to show ``digits`` significant digits.

    As R's ``format``: powers of ten where that is shorter; NaN is blank.
    """
    finite = [float(v) for v in values if np.isfinite(v)]
    decimals, mantissa = 0, 0
    for value in finite:
        significant, exponent = _scientific(value, digits)
        decimals = max(decimals, significant - 1 - exponent)
        mantissa = max(mantissa, significant - 1)
    fixed = max((len(f"{v:.{decimals}f}") for v in finite), default=0)
    powers = max((len(f"{v:.{mantissa}e}") for v in finite), default=0)
    style = f".{decimals}f" if fixed <= powers else f".{mantissa}e"
    return ["" if np.isnan(v) else format(float(v), style) if np.isfinite(v) else f"{v}" for v in values]


def _scientific(value: float, digits: int) -> tuple[int, int]:
    """Significant digits after rounding to ``digits`` (zeros at the end are not), and the power of ten."""
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return max(1, len(mantissa.lstrip("-").replace(".", "").rstrip("0"))), int(exponent) if value else 0


def format_p(values: Sequence[float] | npt.NDArray[np.float64], digits: int = 3) -> list[str]:
    """A column of p values: ``0.00321``, ``3.26e-06``, ``<2e-16``; NaN is blank."""
    plain = [v for v in values if v >= 1e-3]
    shown = iter(format_numbers(plain, digits))
    out = []
    for value in values:
        if np.isnan(value):
            out.append("")
        elif value < SMALLEST_P:
            out.append("<2e-16")
        elif value >= 1e-3:
            out.append(next(shown))
        else:
            out.append(format_numbers([value], digits)[0])
    return out


def align(header: Sequence[str], columns: Sequence[Sequence[str]], left: int = 1, indent: str = "") -> list[str]:
    """Lines of a table: the first ``left`` columns flush left, the others flush right."""
    widths = [max(len(name), *(len(cell) for cell in column), 0) for name, column in zip(header, columns, strict=True)]
    rows = [header, *zip(*columns, strict=True)]
    return [
        indent
        + " ".join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def r_coefficients(estimate: npt.NDArray[np.float64], se: npt.NDArray[np.float64], digits: int = 4) -> list[list[str]]:
    """Estimates and standard errors with common decimals, as R's ``printCoefmat`` chooses them."""
    both = np.concatenate([estimate, se])
    size = np.abs(both[np.isfinite(both) & (both != 0)])
    if not len(size):
        return [format_numbers(estimate, digits), format_numbers(se, digits)]
    # the smallest number keeps its digits, the largest at least one decimal
    decimals = max(1, digits - 1 - int(np.floor(np.log10(size.min()))))
    shown = format_numbers(np.round(both, decimals), digits)
    return [shown[: len(estimate)], shown[len(estimate) :]]
