"""Who fits: ranef and its peers. Each turns a problem into seconds, a criterion and variances.

The clock runs from the rows in memory, in the form the peer likes best, to the estimates. Libraries are imported where
they are used, so that the report can be made without them.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from benchmarks.problems import Problem

ENOUGH_SECONDS = 30.0  # no further repeat once this much time is spent


@dataclass(frozen=True)
class Outcome:
    """What one process found.

    Attributes
    ----------
    seconds : tuple of float
        Of each fit in turn; the first one warms up.
    m2loglik : float
        Minus twice the log-likelihood (ML) or restricted log-likelihood (REML).
    components : mapping of str to float
        Variances and covariances: ``group coefficient`` or ``group coefficient coefficient``, and ``Residual``.
    peak_mib : float or None
        Largest resident memory of the process that fitted; None to let the caller measure its own.
    """

    seconds: tuple[float, ...]
    m2loglik: float
    components: Mapping[str, float]
    peak_mib: float | None = None


@dataclass(frozen=True)
class Peer:
    """A library that fits mixed models.

    Attributes
    ----------
    name : str
    version : callable
        Its version here, or None if it is not installed.
    declines : callable
        Why it cannot fit a problem, or None if it can.
    fit : callable (problem, table, threads, repeats) -> Outcome
        ``threads`` is 1 or None for as many as it takes.
    thread_counts : tuple
        The values of ``threads`` worth a row in the report.
    """

    name: str
    version: Callable[[], str | None]
    declines: Callable[[Problem], str | None]
    fit: Callable[[Problem, pa.Table, int | None, int], Outcome]
    thread_counts: tuple[int | None, ...] = (1, None)


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _repeat(fit: Callable[[], Any], repeats: int) -> tuple[Any, tuple[float, ...]]:
    """Fit once to warm up and ``repeats`` times more, or until enough time is spent."""
    seconds: list[float] = []
    found = None
    while len(seconds) <= repeats and sum(seconds) < ENOUGH_SECONDS:
        start = time.perf_counter()
        found = fit()
        seconds.append(time.perf_counter() - start)
    return found, tuple(seconds)


# ---- ranef ---------------------------------------------------------------------------------------------------------


def _fit_ranef(problem: Problem, table: pa.Table, threads: int | None, repeats: int, solver: str = "auto") -> Outcome:
    import narwhals

    import ranef

    options: dict[str, Any] = {"solver": solver} | ({} if threads is None else {"threads": threads})
    fit, seconds = _repeat(lambda: ranef.fit(problem.formula, table, method=problem.method, **options), repeats)
    components = {}
    for row in narwhals.from_native(fit.varcorr(), eager_only=True).iter_rows(named=True):
        label = " ".join(str(row[key]) for key in ("grp", "var1", "var2") if isinstance(row[key], str) and row[key])
        components[label] = float(row["vcov"])
    return Outcome(seconds, float(fit.deviance), components)


# ---- lme4 ----------------------------------------------------------------------------------------------------------


def _version_lme4() -> str | None:
    if shutil.which("Rscript") is None:
        return None
    asked = """
        blas <- normalizePath(extSoftVersion()[["BLAS"]])
        blas <- file.path(basename(dirname(blas)), basename(blas))
        cat(as.character(getRversion()), packageDescription("lme4")$Version, blas)
    """
    said = subprocess.run(["Rscript", "-e", asked], capture_output=True, text=True, check=False)
    words = said.stdout.split()
    return f"{words[1]}, R {words[0]}, {words[2]}" if said.returncode == 0 and len(words) == 3 else None


def _fit_lme4(problem: Problem, table: pa.Table, threads: int | None, repeats: int) -> Outcome:
    # threads are those of the BLAS: the runner sets them in the environment
    factors = {f.name for f in table.schema if pa.types.is_dictionary(f.type)} | set(problem.groups)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        used = [problem.response, *problem.fixed, *problem.groups]
        pyarrow.csv.write_csv(table.select(used), path)
        script = Path(__file__).with_name("lme4.R")
        command = ["Rscript", script, path, ",".join(factors & set(used)), problem.formula, problem.method, repeats]
        said = subprocess.run(
            [str(word) for word in [*command, ENOUGH_SECONDS]], capture_output=True, text=True, check=False
        )
    if said.returncode:
        raise RuntimeError(said.stderr.strip().splitlines()[-1])
    lines = [line.split("\t") for line in said.stdout.splitlines()]
    peak = [float(line[1]) / 1024 for line in lines if line[0] == "peak_kib"]
    return Outcome(
        tuple(float(line[1]) for line in lines if line[0] == "seconds"),
        next(float(line[1]) for line in lines if line[0] == "m2loglik"),
        {line[1]: float(line[2]) for line in lines if line[0] == "component"},
        peak[0] if peak else None,
    )


# ---- GPBoost -------------------------------------------------------------------------------------------------------


def _declines_gpboost(problem: Problem) -> str | None:
    if problem.slopes:
        return "no correlated slopes"
    return "no REML" if problem.method == "reml" else None


def _fit_gpboost(problem: Problem, table: pa.Table, threads: int | None, repeats: int) -> Outcome:
    import gpboost
    import pandas

    frame = table.to_pandas()
    y = frame[problem.response].to_numpy(dtype=float)
    columns = frame[list(problem.fixed)].assign(intercept=1.0)
    columns = pandas.get_dummies(columns, drop_first=True).astype(float)
    x, groups = columns.to_numpy(), frame[list(problem.groups)]

    def fit() -> Any:
        model = gpboost.GPModel(group_data=groups, likelihood="gaussian", num_parallel_threads=threads or -1)
        return model.fit(y=y, X=x)

    model, seconds = _repeat(fit, repeats)
    values = [float(value) for value in model.get_cov_pars(format_pandas=False).ravel()]
    labels = ["Residual", *(f"{group} (Intercept)" for group in problem.groups)]
    return Outcome(seconds, 2.0 * float(model.get_current_neg_log_likelihood()), dict(zip(labels, values, strict=True)))


# ---- statsmodels ---------------------------------------------------------------------------------------------------


def _declines_statsmodels(problem: Problem) -> str | None:
    return None if len(problem.groups) == 1 else "one grouping factor only at this size"


def _fit_statsmodels(problem: Problem, table: pa.Table, threads: int | None, repeats: int) -> Outcome:
    import statsmodels.formula.api as api

    (group,) = problem.groups
    frame = table.to_pandas()
    fixed = f"{problem.response} ~ {' + '.join(['1', *problem.fixed])}"
    slopes = list(problem.slopes.get(group, ()))
    random = f"~ {' + '.join(['1', *slopes])}"

    def fit() -> Any:
        return api.mixedlm(fixed, frame, groups=frame[group], re_formula=random).fit(reml=problem.method == "reml")

    found, seconds = _repeat(fit, repeats)
    names = ["(Intercept)", *slopes]
    covariance = found.cov_re.to_numpy()
    components = {f"{group} {name}": float(covariance[k, k]) for k, name in enumerate(names)}
    for i, first in enumerate(names):
        for j in range(i + 1, len(names)):
            components[f"{group} {first} {names[j]}"] = float(covariance[i, j])
    return Outcome(seconds, -2.0 * float(found.llf), {**components, "Residual": float(found.scale)})


PEERS: tuple[Peer, ...] = (
    Peer("ranef", lambda: _installed("ranef"), lambda problem: None, _fit_ranef),
    Peer(
        "ranef, stochastic",
        lambda: _installed("ranef"),
        lambda problem: None if len(problem.groups) > 1 else "nothing to sample",
        partial(_fit_ranef, solver="stochastic"),
    ),
    Peer("lme4", _version_lme4, lambda problem: None, _fit_lme4),
    Peer("GPBoost", lambda: _installed("gpboost"), _declines_gpboost, _fit_gpboost),
    Peer("statsmodels", lambda: _installed("statsmodels"), _declines_statsmodels, _fit_statsmodels, (1,)),
)
