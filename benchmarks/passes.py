"""Where the time of a large fit goes, how far one pass is from what the machine allows, and what was tried instead.

    python -m benchmarks.passes [--rows 5e6] [--out benchmarks/PASSES.md]

A pass applies the Schur complement of the eliminated factor to right-hand sides: nearly all of a stochastic search.
Each candidate computes the same product on the same levels; those that lost are kept here with their times.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from benchmarks.report import processor
from ranef import data
from ranef.kernel.eliminate import apply_rest
from ranef.kernel.panels import WIDEST
from ranef.solve.panels import add_panels, aligned_zeros
from ranef.solve.panels import panels as aligned_panels

FloatArray = npt.NDArray[np.float64]

SIDES = 12
ITEMS = 59_047
ROWS_A_USER = 154
REPEATS = 5
# functions whose time is told, in the order they run
PHASES = {
    "build_design": "read, encode",
    "cross_products": "sort, cross products",
    "draw_probes": "draw probes",
    "coarse_start": "search, 2 probes",
    "find_root": "search, all probes",
    "stochastic_deviance": "log-likelihood",
    "fixed_effects": "standard errors",
    "draw_posterior": "draws for intervals",
    "assemble": "assemble the model",
    "summary_text": "summary",
}


# --- candidates: subtract (TR)'(TR) x of every level, one coefficient a level


@njit(nogil=True, fastmath={"contract"})
def all_sides(offsets, columns, values, x, out):
    """Rows of all sides at once: columns and values are read once, whole rows of ``x`` and ``out`` move."""
    half = np.empty(x.shape[1], x.dtype)
    for g in range(offsets.shape[0] - 1):
        half[:] = 0.0
        for j in range(offsets[g], offsets[g + 1]):
            for s in range(x.shape[1]):
                half[s] += values[j] * x[columns[j], s]
        for j in range(offsets[g], offsets[g + 1]):
            for s in range(x.shape[1]):
                out[columns[j], s] -= values[j] * half[s]


@njit(nogil=True, fastmath={"contract"})
def four_sides(offsets, columns, values, x, out):
    """Panels of four sides, in scalar arithmetic: Numba's compiler makes no vectors of it."""
    for panel in range(x.shape[0]):
        xs, to = x[panel], out[panel]
        for g in range(offsets.shape[0] - 1):
            a = b = c = d = 0.0
            for j in range(offsets[g], offsets[g + 1]):
                w, n = values[j], np.uint32(columns[j])
                a += w * xs[n, 0]
                b += w * xs[n, 1]
                c += w * xs[n, 2]
                d += w * xs[n, 3]
            for j in range(offsets[g], offsets[g + 1]):
                w, n = values[j], np.uint32(columns[j])
                # all loads before the stores, or the compiler must fear that they overlap
                t0, t1, t2, t3 = to[n, 0] - w * a, to[n, 1] - w * b, to[n, 2] - w * c, to[n, 3] - w * d
                to[n, 0], to[n, 1], to[n, 2], to[n, 3] = t0, t1, t2, t3


@njit(nogil=True, fastmath={"contract"})
def eight_sides(offsets, columns, values, x, out):
    """Panels of eight sides, in scalar arithmetic and wherever memory begins."""
    for panel in range(x.shape[0]):
        xs, to = x[panel], out[panel]
        for g in range(offsets.shape[0] - 1):
            a = b = c = d = e = f = h = i = 0.0
            for j in range(offsets[g], offsets[g + 1]):
                w, n = values[j], np.uint32(columns[j])
                a += w * xs[n, 0]
                b += w * xs[n, 1]
                c += w * xs[n, 2]
                d += w * xs[n, 3]
                e += w * xs[n, 4]
                f += w * xs[n, 5]
                h += w * xs[n, 6]
                i += w * xs[n, 7]
            for j in range(offsets[g], offsets[g + 1]):
                w, n = values[j], np.uint32(columns[j])
                t0, t1, t2, t3 = to[n, 0] - w * a, to[n, 1] - w * b, to[n, 2] - w * c, to[n, 3] - w * d
                t4, t5, t6, t7 = to[n, 4] - w * e, to[n, 5] - w * f, to[n, 6] - w * h, to[n, 7] - w * i
                to[n, 0], to[n, 1], to[n, 2], to[n, 3] = t0, t1, t2, t3
                to[n, 4], to[n, 5], to[n, 6], to[n, 7] = t4, t5, t6, t7


@njit(nogil=True, fastmath={"contract"})
def single_precision(offsets, columns, values, x, out):
    """Panels of four sides of float32, summed in float64."""
    for panel in range(x.shape[0]):
        xs, to = x[panel], out[panel]
        for g in range(offsets.shape[0] - 1):
            a = b = c = d = 0.0
            for j in range(offsets[g], offsets[g + 1]):
                w, n = values[j], np.uint32(columns[j])
                a += w * np.float64(xs[n, 0])
                b += w * np.float64(xs[n, 1])
                c += w * np.float64(xs[n, 2])
                d += w * np.float64(xs[n, 3])
            for j in range(offsets[g], offsets[g + 1]):
                w, n = values[j], np.uint32(columns[j])
                t0, t1, t2, t3 = to[n, 0] - w * a, to[n, 1] - w * b, to[n, 2] - w * c, to[n, 3] - w * d
                to[n, 0], to[n, 1], to[n, 2], to[n, 3] = t0, t1, t2, t3


@njit(nogil=True, fastmath={"contract"})
def blocked_columns(offsets, columns, values, x, out, cuts):
    """Panels of four sides, the columns in blocks: each block of ``x`` and ``out`` stays in the first cache.

    ``cuts`` (blocks + 1, levels) says where a level's columns of a block begin.
    """
    half = np.empty((offsets.shape[0] - 1, 4))
    for panel in range(x.shape[0]):
        xs, to = x[panel], out[panel]
        half[:] = 0.0
        for block in range(cuts.shape[0] - 1):
            for g in range(half.shape[0]):
                a = b = c = d = 0.0
                for j in range(cuts[block, g], cuts[block + 1, g]):
                    w, n = values[j], np.uint32(columns[j])
                    a += w * xs[n, 0]
                    b += w * xs[n, 1]
                    c += w * xs[n, 2]
                    d += w * xs[n, 3]
                half[g, 0] += a
                half[g, 1] += b
                half[g, 2] += c
                half[g, 3] += d
        for block in range(cuts.shape[0] - 1):
            for g in range(half.shape[0]):
                a, b, c, d = half[g, 0], half[g, 1], half[g, 2], half[g, 3]
                for j in range(cuts[block, g], cuts[block + 1, g]):
                    w, n = values[j], np.uint32(columns[j])
                    t0, t1, t2, t3 = to[n, 0] - w * a, to[n, 1] - w * b, to[n, 2] - w * c, to[n, 3] - w * d
                    to[n, 0], to[n, 1], to[n, 2], to[n, 3] = t0, t1, t2, t3


def panels(x: FloatArray, width: int) -> FloatArray:
    """(columns, sides) as (panels, columns, width)."""
    return np.ascontiguousarray(x.reshape(len(x), -1, width).transpose(1, 0, 2))


def flat(x: npt.NDArray[Any]) -> FloatArray:
    """The inverse of `panels`."""
    return x.transpose(1, 0, 2).reshape(x.shape[1], -1).astype(np.float64)


def candidates(rows: int) -> Iterator[tuple[str, Callable[[], FloatArray], FloatArray | None]]:
    """Name, the pass, and the order of columns that its result is in, for users and items of unequal popularity."""
    users = max(2, rows // ROWS_A_USER)
    table = data.simulate(rows, {"user": users, "item": ITEMS}, seed=1).data
    user, item = (np.unique(np.asarray(table[name]), return_inverse=True)[1] for name in ("user", "item"))
    order = np.lexsort((item, user))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user))]).astype(np.int64)
    columns = item[order].astype(np.int32)
    rng = np.random.default_rng(0)
    values, x = rng.normal(size=len(columns)), rng.normal(size=(columns.max() + 1, SIDES))
    four, eight = panels(x, 4), panels(np.pad(x, ((0, 0), (0, -SIDES % 8))), 8)

    def current(columns: npt.NDArray[np.int32] = columns, x: FloatArray = x) -> FloatArray:
        source, out = aligned_panels(x), np.zeros_like(x)
        total = aligned_zeros(source.shape)
        apply_rest(0, len(offsets) - 1, 1, offsets, columns, values, 0, source, total)
        add_panels(total, out)
        return out

    def run(kernel: Any, source: npt.NDArray[Any], *more: Any) -> FloatArray:
        out = np.zeros_like(source)
        kernel(offsets, columns, values, source, out, *more)
        return out.astype(np.float64) if source.ndim == 2 else flat(out)[:, :SIDES]

    yield "panels of eight sides, vectors, aligned (what is used)", current, None
    yield "all sides at once", lambda: run(all_sides, x), None
    yield "panels of four sides, scalars", lambda: run(four_sides, four), None
    yield "panels of eight sides, scalars", lambda: run(eight_sides, eight), None
    yield (
        "float32 sides in panels of four, float64 sums, scalars",
        lambda: run(single_precision, four.astype(np.float32)),
        None,
    )
    for blocks in (4, 16):
        bounds = np.linspace(0, len(x), blocks + 1)[:, None]
        keys = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * (len(x) + 1.0) + columns
        starts = np.searchsorted(keys, np.arange(len(offsets) - 1) * (len(x) + 1.0) + bounds)
        yield (
            f"columns in {blocks} blocks, panels of four, scalars",
            lambda starts=starts: run(blocked_columns, four, starts),
            None,
        )
    often = np.argsort(-np.bincount(columns), kind="stable")
    rank = np.empty(len(often), np.int32)
    rank[often] = np.arange(len(often), dtype=np.int32)
    renumbered = rank[columns]
    yield "items renumbered by frequency", lambda: current(renumbered, x[often]), rank


def seconds(work: Callable[[], Any]) -> float:
    """Median time, after one run to warm up."""
    work()
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


def pass_section(rows: int) -> list[str]:
    """The candidates and the floor."""
    lines, reference, first = [], None, 0.0
    for name, work, rank in candidates(rows):
        result = work()
        result = result if rank is None else result[rank]
        reference = result if reference is None else reference
        off = float(np.max(np.abs(result - reference)) / np.max(np.abs(reference)))
        taken = seconds(work)
        first = first or taken
        lines.append(f"| {name} | {taken / rows * 1e9:.1f} | {taken / first:.2f} | {off:.0e} |")
        print(lines[-1], flush=True)
    memory = np.ones(50_000_000)
    bandwidth = memory.nbytes / seconds(memory.sum)
    count = -(-SIDES // WIDEST)
    bytes_a_row = 12 * count * 2
    floor = bytes_a_row / bandwidth * 1e9
    size = ITEMS * 8 * WIDEST / 2**20
    return [
        "## One pass",
        "",
        f"{rows:,} rows, {rows // ROWS_A_USER:,} users, {ITEMS:,} items, {SIDES} sides, one thread;",
        f"median of {REPEATS}.",
        "",
        "| candidate | ns a row | of the first | largest relative difference |",
        "|---|---|---|---|",
        *lines,
        "",
        f"Floor: each panel of eight sides reads a row's column (4 bytes) and value (8) twice, {bytes_a_row:.0f}",
        f"bytes a row for {SIDES} sides; one thread reads {bandwidth / 1e9:.1f} GB/s here, so {floor:.1f} ns a row.",
        f"A row takes {4 * SIDES} floating-point operations, and {2 * count} cache lines of the sides are gathered or",
        f"updated at random: a panel's sides are {size:.1f} MiB to read and as much to write, more than the second",
        f"cache holds. The pass that is used takes {first / rows * 1e9 / floor:.1f} times the floor: it waits for the",
        "second and third cache, not for memory.",
        "",
    ]


def phase_section(rows: int) -> list[str]:
    """A whole fit from Parquet, in a process of its own, by phase."""
    users, name = rows // ROWS_A_USER, "y ~ 1 + (1 | user) + (1 | item)"
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "rows.parquet")
        data.simulate(rows, {"user": users, "item": ITEMS}, sd={"user": 0.45, "item": 0.6}, seed=1, path=path)
        command = [sys.executable, "-m", "benchmarks.passes", "--fit", name, path]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [
        "## A whole fit",
        "",
        f"`{name}`, {rows:,} rows, from Parquet to the printed summary; kernels compiled, all threads, in a",
        "process of its own, under the profiler.",
        "",
        "| phase | calls | seconds | share, % |",
        "|---|---|---|---|",
        *done.stdout.splitlines(),
        "",
    ]


def _profile(formula: str, path: str) -> None:
    import ranef

    profiler = cProfile.Profile()
    begun = time.perf_counter()
    profiler.enable()
    str(ranef.fit(formula, path, solver="stochastic"))
    profiler.disable()
    total = time.perf_counter() - begun
    found = {key[2]: value for key, value in pstats.Stats(profiler).stats.items() if "ranef" in key[0]}
    for function, phase in PHASES.items():
        if function in found:
            calls, taken = found[function][0], found[function][3]
            print(f"| {phase} | {calls} | {taken:.2f} | {100 * taken / total:.0f} |")
    print(f"| whole |  | {total:.2f} | 100 |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=5e6)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("PASSES.md"))
    parser.add_argument("--fit", nargs=2, metavar=("FORMULA", "PATH"), help="profile one fit and print its phases")
    asked = parser.parse_args()
    if asked.fit:
        _profile(*asked.fit)
        return
    lines = [
        "# Where the time goes",
        "",
        f"{date.today()}, {processor()}. Made by `python -m benchmarks.passes`; not edited by hand.",
        "",
        *phase_section(int(asked.rows)),
        *pass_section(int(asked.rows)),
    ]
    asked.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
