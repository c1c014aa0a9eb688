"""Implicit feedback at the size of MovieLens-20M: time to the same objective, beside the library ``implicit``."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

import ranef
from benchmarks.latent.peers import kept_folder, measured
from benchmarks.studies.large import parquet
from benchmarks.studies.page import Bar, Section, table
from ranef import data

DRAWN, GROUPS = 17_250_000, {"user": 138_493, "item": 26_744}
# implicit weighs what was seen WEIGHT and everything else 1; ranef what was seen 1 + UNOBSERVED and the rest UNOBSERVED
WEIGHT, PENALTY = 11.0, 10.0
UNOBSERVED = 1.0 / (WEIGHT - 1.0)
SWEEPS, MOST_SWEEPS = 8, 24
LEAST: Mapping[int, float] = {32: 1.5, 64: 1.5, 128: 1.0}


def run(rank: int) -> Section:
    """Both libraries at one rank."""
    seen = simulated()
    users, items = seen.nonzero()
    rows = pa.table({"user": users.astype(np.int32), "item": items.astype(np.int32)})
    theirs, their_seconds = _implicit(seen, rank)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ranef.ConvergenceWarning)  # sweeps enough to compare, not to converge
        fit = ranef.fit(
            f"1 ~ latent(user, item, rank={rank})",
            rows,
            family="implicit",
            unobserved=UNOBSERVED,
            penalty=PENALTY / (WEIGHT - 1.0),
            exponent=0.0,
            max_iterations=MOST_SWEEPS,
            threads=2,
        )
    lines, factor = [], 0.0
    for sweep in (2, 4, SWEEPS):
        wanted, seconds = theirs[sweep - 1], their_seconds[sweep - 1]
        reached = next((one for one in fit.history if one.objective <= wanted), None)
        factor = 0.0 if reached is None else seconds / reached.seconds
        ours = ["never", ""] if reached is None else [f"{reached.seconds:.1f}", reached.iteration]
        lines.append([sweep, f"{wanted:,.0f}", f"{seconds:.1f}", *ours, f"{factor:.2f}"])
    bars = [
        Bar(f"implicit's seconds to its objective after sweep {SWEEPS}, of ranef's", factor, LEAST[rank], float("inf"))
    ]
    body = [
        f"Rank {rank}. {seen.nnz:,} pairs of {seen.shape[0]:,} users and {seen.shape[1]:,} items, the distinct ones of",
        f"{DRAWN:,} rows of `ranef simulate`; two threads, one run. `implicit` (conjugate gradients, one BLAS thread)",
        f"with alpha {WEIGHT:g} and regularization {PENALTY:g}; ranef with the same objective, which is the former's",
        f"over {WEIGHT - 1:g}, in float64. Seconds are those of the sweeps, without reading and ordering the pairs;",
        f"ranef's whole call took {fit.seconds:.1f} s for {fit.iterations} sweeps.",
        "",
        *table(["sweep of implicit", "objective", "its seconds", "ranef's seconds", "ranef's sweep", "factor"], lines),
    ]
    return Section("data seed 1, starts' seed 0", bars, body)


def simulated() -> sparse.csr_array:
    """Who has what, shape (users, items); kept in the folder that RANEF_PEERS_KEEP names."""
    kept = kept_folder()
    file = None if kept is None else kept / f"seen-{DRAWN}.npz"
    if file is not None and file.exists():
        return sparse.csr_array(sparse.load_npz(file))
    with parquet() as path:
        data.simulate(DRAWN, GROUPS, seed=1, path=path)
        rows = pq.read_table(path, columns=list(GROUPS))
    user, item = (np.asarray(rows[name]) for name in GROUPS)
    seen = sparse.coo_array((np.ones(len(user), np.float32), (user, item)), shape=tuple(GROUPS.values())).tocsr()
    seen.data[:] = 1.0
    if file is not None:
        sparse.save_npz(file, seen, compressed=False)
    return seen


def _implicit(seen: sparse.csr_array, rank: int) -> tuple[list[float], list[float]]:
    """Objective, in ranef's units, and seconds so far after every sweep."""

    def prepare(folder: Path) -> None:
        sparse.save_npz(folder / "seen.npz", seen, compressed=False)

    with measured("als", prepare, rank, PENALTY, WEIGHT, SWEEPS) as folder:
        seconds = json.loads((folder / "said.json").read_text(encoding="utf-8"))["seconds"]
        values = [
            objective(seen, np.load(folder / f"users-{sweep}.npy"), np.load(folder / f"items-{sweep}.npy"))
            for sweep in range(SWEEPS)
        ]
    return values, np.cumsum(seconds).tolist()


def objective(seen: sparse.csr_array, users: np.ndarray, items: np.ndarray) -> float:
    """``sum over seen (1 + w) (1 - s)^2 + w sum over the others s^2 + penalties``, in float64."""
    p, q = users.astype(np.float64), items.astype(np.float64)
    everything = float(np.sum((p.T @ p) * (q.T @ q)))
    of_seen = 0.0
    rows, columns = seen.nonzero()
    for at in range(0, len(rows), 1 << 20):
        some = slice(at, at + (1 << 20))
        s = np.einsum("nk,nk->n", p[rows[some]], q[columns[some]])
        of_seen += float(np.sum((1.0 + UNOBSERVED) * (1.0 - s) ** 2 - UNOBSERVED * s**2))
    penalties = PENALTY / (WEIGHT - 1.0) * (float(np.sum(p**2)) + float(np.sum(q**2)))
    return UNOBSERVED * everything + of_seen + penalties
