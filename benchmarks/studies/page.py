"""A study's section of the page, and the page: a run replaces the sections of the studies that it ran."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from benchmarks.report import processor

PREFACE = """\
# Studies with known truth

Made by `python -m benchmarks.studies`; not edited by hand. Every section is one study, run when it says: the stochastic
solver beside the exact one and the truth, and families beside lme4 and ordinal. Data are simulated. `se` is a standard
error, `mcse` the Monte-Carlo standard error that the fit prints. Large fits run in a process of their own: peak memory
is the largest resident memory of that process, interpreter and data included.
"""
PACKAGES = ("ranef", "numpy", "scipy", "numba", "pyarrow")


@dataclass(frozen=True)
class Bar:
    """Something measured that must lie between two bounds."""

    what: str
    measured: float
    low: float
    high: float
    digits: int = 2

    @property
    def met(self) -> bool:
        return self.low <= self.measured <= self.high

    def cells(self) -> list[str]:
        low, high = (f"{bound:.{self.digits}f}" for bound in (self.low, self.high))
        asked = f"at most {high}" if self.low == -float("inf") else f"at least {low}"
        if abs(self.low) < float("inf") and self.high < float("inf"):
            asked = f"{low} to {high}"
        return [self.what, f"{self.measured:.{self.digits}f}", asked, "yes" if self.met else "**no**"]


@dataclass(frozen=True)
class Section:
    """What a study found, as Markdown.

    Attributes
    ----------
    seeds : str
        In words.
    bars : sequence of Bar
    body : sequence of str
        Lines: explanations and tables.
    """

    seeds: str
    bars: Sequence[Bar]
    body: Sequence[str]


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table and the empty line after it."""
    lines = [list(heads), ["---"] * len(heads), *rows]
    return [*("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines), ""]


def write(
    path: Path,
    name: str,
    section: Section,
    share: float,
    seconds: float,
    order: Sequence[str],
    preface: str = PREFACE,
) -> None:
    """Replace one section of the page, which is made if there is none; the others stay as they are."""
    sections = _sections(path.read_text(encoding="utf-8")) if path.exists() else {}
    sections[name] = "\n".join(
        [
            f"{date.today().isoformat()}, {seconds:.0f} s, {_size(share)}; {section.seeds}. {_machine()}.",
            "",
            *table(["what", "measured", "bar", "met"], [bar.cells() for bar in section.bars]),
            *section.body,
        ]
    ).strip()
    parts = [f"## {name}\n\n{sections[name]}\n" for name in order if name in sections]
    path.write_text("\n".join([preface, *parts]), encoding="utf-8")


def _sections(text: str) -> dict[str, str]:
    _, *parts = text.split("\n## ")
    named = (part.split("\n", 1) for part in parts)
    return {name.strip(): body.strip() for name, body in named}


def _size(share: float) -> str:
    return "full size" if share == 1 else f"**{share:.3g} of the full size: a rehearsal, not the proof**"


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    return f"{packages}, Python {platform.python_version()}; {processor()}, {os.cpu_count()} cores{load}"
