"""GPBoost and lme4's glmer on rows of a file, crossed random intercepts and a Bernoulli response, Laplace.

Each fits once, in a process of its own; the clock runs from the rows in memory to the estimates.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.clicks.real import Unavailable

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Found:
    """What a peer found.

    Attributes
    ----------
    seconds : float
    m2loglik : float
        Minus twice the Laplace log-likelihood.
    intercept : float
    intercept_se : float
        NaN if it is not asked for.
    variances : mapping of str to float
        By grouping factor.
    """

    seconds: float
    m2loglik: float
    intercept: float
    intercept_se: float
    variances: Mapping[str, float]


def gpboost(path: Path, response: str, groups: Sequence[str], inversion: str, timeout: float) -> Found | None:
    """Fit with as many threads as it takes.

    Parameters
    ----------
    path : path
        Parquet.
    response : str
        A column of 0 and 1.
    groups : sequence of str
        Grouping factors.
    inversion : str
        GPBoost's ``matrix_inversion_method``: ``"default"``, ``"iterative"`` or ``"cholesky"``.
    timeout : float
        Seconds.

    Returns
    -------
    Found or None
        None if the time was up.
    """
    words = [str(path), response, ",".join(groups), inversion]
    command = [sys.executable, "-m", "benchmarks.clicks.peer", *words]
    try:
        done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None
    return Found(**json.loads(done.stdout.splitlines()[-1]))


def glmer(rows: pa.Table, response: str, groups: Sequence[str], timeout: float) -> Found | None:
    """`lme4::glmer` with ``nAGQ = 1``; see `gpboost`."""
    if shutil.which("Rscript") is None:
        raise Unavailable("needs R with lme4 beside it")
    formula = f"{response} ~ 1 + " + " + ".join(f"(1 | {group})" for group in groups)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        pyarrow.csv.write_csv(rows.select([response, *groups]), path)
        command = ["Rscript", str(HERE / "glmer.R"), str(path), ",".join(groups), formula]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return None
    said = [line.split("\t") for line in done.stdout.splitlines()]
    number = {line[0]: float(line[1]) for line in said if len(line) == 2}
    variances = {line[1]: float(line[2]) for line in said if line[0] == "variance"}
    return Found(number["seconds"], number["m2loglik"], number["intercept"], number["se"], variances)


def _gpboost(path: str, response: str, groups: str, inversion: str) -> None:
    import gpboost as gpb
    import numpy as np

    names = groups.split(",")
    frame = pq.read_table(path).to_pandas()
    y = frame[response].to_numpy(dtype=float)
    begun = time.perf_counter()
    model = gpb.GPModel(group_data=frame[names], likelihood="bernoulli_logit", matrix_inversion_method=inversion)
    model.fit(y=y, X=np.ones((len(y), 1)))
    seconds = time.perf_counter() - begun
    variances = np.asarray(model.get_cov_pars(format_pandas=False)).ravel()
    found = {
        "seconds": seconds,
        "m2loglik": 2.0 * float(model.get_current_neg_log_likelihood()),
        "intercept": float(np.asarray(model.get_coef(format_pandas=False)).ravel()[0]),
        "intercept_se": float("nan"),
        "variances": dict(zip(names, map(float, variances), strict=True)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    _gpboost(*sys.argv[1:])
