"""20 million binary rows: learned, with covariances given, and how biased Laplace's approximation itself is."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import ranef
from benchmarks.alone import fit_alone
from benchmarks.clicks.simulated import INTERCEPT, SD, clicks
from benchmarks.studies.large import parquet
from benchmarks.studies.page import Bar, Section, table
from ranef.result.document import document

MOST_SECONDS, MOST_BYTES, MOST_SECONDS_GIVEN = 75.0, 3e9, 15.0
MOST_OFF, MOST_SHARE_OFF = 3.0, 0.01
GRADIENT = 1e-6
NODES = 25
SUBSETS = (300_000, 1_000_000)


def run() -> Section:
    """Simulate once, fit three ways."""
    with parquet() as path:
        simulated = clicks(path)
        learned = fit_alone(simulated.formula, path, {"family": "bernoulli", "solver": "stochastic"})
        options = {"family": "bernoulli", "covariance": str(_given(path.with_name("given.csv"))), "tolerance": GRADIENT}
        given = fit_alone(simulated.formula, path, options)
        bias = _bias(path, simulated.truth)
    truth = {"(Intercept)": INTERCEPT, **{group: sd**2 for group, sd in SD.items()}}
    estimates = [(row["term"], row["estimate"], row["se"], None) for row in learned["fixef"]]
    estimates += [(row["grp"], row["vcov"], row["se"], row["mcse"]) for row in learned["varcorr"]]
    lines, offs = [], []
    for name, value, se, mcse in estimates:
        off = (value - truth[name]) / se
        offs.append(0.0 if abs(value / truth[name] - 1.0) <= MOST_SHARE_OFF else abs(off))
        cells = [f"{truth[name]:.4f}", f"{value:.6f}", f"{se:.6f}", "" if mcse is None else f"{mcse:.6f}"]
        lines.append([name, *cells, f"{off:+.2f}", f"{100 * (value / truth[name] - 1):+.2f} %"])
    peak = max(fit["peak"] for fit in (learned, given)) * 2**20
    bars = [
        Bar("learned: seconds, Parquet to printed summary", learned["wall"], -float("inf"), MOST_SECONDS, 1),
        Bar("largest peak, GB", peak / 1e9, -float("inf"), MOST_BYTES / 1e9),
        Bar("largest |estimate - truth| / se of those off by over 1 %", max(offs), -float("inf"), MOST_OFF),
        Bar("given: seconds, Parquet to printed summary", given["wall"], -float("inf"), MOST_SECONDS_GIVEN, 1),
        Bar(
            "given: relative norm of the gradient, in millionths",
            1e6 * given["gradient"],
            -float("inf"),
            1e6 * GRADIENT,
        ),
    ]
    levels = ", ".join(f"{count:,} {group}s" for group, count in learned["groups"].items())
    body = [
        f"`{simulated.formula}`, family bernoulli, {simulated.rows:,} rows, {levels}; stochastic solver, Laplace,",
        f"{learned['iterations']} evaluations, {learned['probes']} probes; peak {learned['peak']:.0f} MiB, "
        f"error of the log-likelihood {learned['loglik_mcse']:.1f}.",
        "",
        *table(["", "truth", "estimate", "se", "mcse", "off, in se", "off"], lines),
        f"With the true covariances given: {given['iterations']} steps to a gradient of {given['gradient']:.1e} of",
        f"that without random effects, peak {given['peak']:.0f} MiB, intercept",
        f"{given['fixef'][0]['estimate']:.6f} ({given['fixef'][0]['se']:.6f}).",
        "",
        "Laplace's own bias, where levels have few rows: the first rows of the same data, which are a random part of",
        f"them, one factor `(1 | user)`, the true effects of the items as an offset. Quadrature has {NODES} nodes.",
        "",
        *bias,
    ]
    return Section("data seed 1, probes' seed 0", bars, body)


def _given(path: Path) -> Path:
    """The true covariances as a table in a file."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["grp", "var1", "var2", "vcov"])
        writer.writerows([group, "(Intercept)", "", sd**2] for group, sd in SD.items())
    return path


def _bias(path: Path, truth: Any) -> list[str]:
    """Both approximations on rows of one factor."""
    lines = []
    for count in SUBSETS:
        rows = next(pq.ParquetFile(path).iter_batches(count))
        known = truth.effects["item"][np.asarray(rows["item"]), 0]
        subset = pa.table({"y": rows["y"], "user": rows["user"], "known": known})
        for name, nodes in (("Laplace", 1), ("quadrature", NODES)):
            fit = ranef.fit("y ~ 1 + offset(known) + (1 | user)", subset, family="bernoulli", quadrature=nodes)
            lines.append([f"{count:,}", *_told(name, document(fit))])
    return table(["rows", "", "rows a user", "(Intercept)", "off, in se", "user", "off, in se", "off"], lines)


def _told(name: str, found: Mapping[str, Any]) -> list[str]:
    (fixed,), (random,) = found["fixef"], found["varcorr"]
    true = SD["user"] ** 2
    return [
        name,
        f"{found['nobs'] / found['groups']['user']:.1f}",
        f"{fixed['estimate']:.5f}",
        f"{(fixed['estimate'] - INTERCEPT) / fixed['se']:+.2f}",
        f"{random['vcov']:.5f}",
        f"{(random['vcov'] - true) / random['se']:+.2f}",
        f"{100 * (random['vcov'] / true - 1):+.2f} %",
    ]
