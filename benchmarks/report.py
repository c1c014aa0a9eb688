"""The results as a page: times beside estimates, so that nobody is fast and wrong unseen."""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.problems import Problem

PREFACE = """\
# Benchmarks

Made by `make bench`; not edited by hand. The clock runs from the rows in memory to the estimates. Every line is a
process of its own, with one fit to warm up and then the repeats, as many as 30 seconds hold; the warm-up counts only if
it is the only fit. `seconds` is the median. `-2 log L` is the REML criterion where the method is REML. Memory is the
peak of the process that fits, with interpreter and data. Times are compared with ranef's with the same threads.
Where ranef's time goes, and how far that is from what the machine allows, is in PASSES.md; fits from Parquet to the
summary are in SCALE.md, clicks and star ratings in CLICKS.md, Diamond's comparison (variances learned on samples,
coefficients of everyone given these) in DIAMOND.md.
"""


@dataclass(frozen=True)
class Result:
    """One line of the report: the outcome of a process, or why there is none."""

    problem: str
    peer: str
    threads: int | None
    seconds: Sequence[float] = ()
    m2loglik: float | None = None
    components: Mapping[str, float] = field(default_factory=dict)
    peak_mib: float | None = None
    failure: str | None = None

    @property
    def timed(self) -> Sequence[float]:
        """Seconds without the warm-up, unless it is all there is."""
        return self.seconds[1:] or self.seconds

    @property
    def median(self) -> float:
        """Median of the timed seconds."""
        return statistics.median(self.timed)


def report(
    problems: Sequence[Problem],
    results: Sequence[Result],
    versions: Mapping[str, str | None],
    before: str,
    order: Sequence[str],
) -> str:
    """The whole page, Markdown: sections of the problems are new; of other problems and peers all stays as before."""
    sections = {part.split("\n", 1)[0].strip(): f"## {part.strip()}\n" for part in before.split("\n## ")[1:]}
    sections |= {problem.name: "\n".join(_section(problem, results)) for problem in problems}
    kept = dict(re.findall(r"^- ([^:\n]+): (.+)$", before.split("\n## ")[0], re.MULTILINE))
    peers = {name: version for name, version in kept.items() if name not in ("Last run", "Machine")} | dict(versions)
    return "\n".join([PREFACE, *_machine(peers), *(sections[name] for name in order if name in sections)])


def _machine(versions: Mapping[str, str | None]) -> Iterator[str]:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    yield f"- Last run: {datetime.date.today().isoformat()}; each section has its own date"
    yield f"- Machine: {processor()}, {os.cpu_count()} cores, {pages * size / 2**30:.0f} GiB, {platform.system()}"
    yield f"- Python {platform.python_version()}"
    for name, version in versions.items():
        yield f"- {name}: {version or 'not installed here'}"
    yield ""


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _section(problem: Problem, results: Sequence[Result]) -> Iterator[str]:
    lines = [result for result in results if result.problem == problem.name]
    labels = list(dict.fromkeys(label for result in lines for label in result.components))
    yield f"## {problem.name}"
    yield ""
    today = datetime.date.today().isoformat()
    yield f"`{problem.formula}`, {problem.method.upper()}; {problem.note}; {today}"
    yield ""
    heads = ["peer", "threads", "seconds", "range", "of ranef", "MiB", "-2 log L", *labels]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for result in lines:
        yield f"| {' | '.join(_cells(result, lines, labels))} |"
    yield ""


def _cells(result: Result, beside: Sequence[Result], labels: Sequence[str]) -> list[str]:
    who = [result.peer, str(result.threads or "all")]
    if result.failure:
        return [*who, result.failure.replace("|", "/"), *[""] * (4 + len(labels))]
    ranef = next((r for r in beside if r.peer == "ranef" and r.threads == result.threads and r.timed), None)
    return [
        *who,
        _seconds(result.median),
        f"{_seconds(min(result.timed))} to {_seconds(max(result.timed))}",
        f"{result.median / ranef.median:.3g}" if ranef else "",
        f"{result.peak_mib:.0f}" if result.peak_mib is not None else "",
        f"{result.m2loglik:.4f}",
        *(f"{result.components[label]:.6g}" if label in result.components else "" for label in labels),
    ]


def _seconds(value: float) -> str:
    return f"{value:.4f}" if value < 1 else f"{value:.2f}"
