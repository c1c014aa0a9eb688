"""The peers' side: which interpreter has them, and what they said on the same rows."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clicks.real import Unavailable
from benchmarks.latent import blocks
from benchmarks.latent.score import FloatArray
from benchmarks.latent.splits import Split

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Said:
    """Predictions of the test rows; the seconds of the fit, and those that it computed (it has one thread)."""

    predicted: FloatArray
    seconds: float
    computed: float


def myfm(split: Split, what: Sequence[str], rank: int, draws: int, kept: int) -> Said:
    """myFM by Gibbs draws; `blocks.sides` says what of."""

    def prepare(folder: Path) -> None:
        blocks.save(folder, split, what)

    with measured(
        "myfm", prepare, rank, draws, kept, key=f"{split.train.num_rows}{rows_sum(split)}{'+'.join(what)}"
    ) as folder:
        found = json.loads((folder / "said.json").read_text(encoding="utf-8"))
        return Said(np.load(folder / "predicted.npy"), found["seconds"], found["computed"])


@contextmanager
def measured(kind: str, prepare: Callable[[Path], None], *numbers: float, key: str = "") -> Iterator[Path]:
    """A folder with what a peer has written, and ``said.json``.

    With the environment variable RANEF_PEERS_KEEP, a folder, runs with a ``key`` are kept there and not made again.

    Raises
    ------
    Unavailable
        The interpreter (RANEF_PEERS_PYTHON, or this one) has no such peer.
    """
    keep = kept_folder()
    with tempfile.TemporaryDirectory() as scratch:
        name = f"{kind}-{'-'.join(f'{one:g}' for one in numbers)}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        folder = Path(scratch) if keep is None or not key else keep / name
        if not (folder / "said.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            prepare(folder)
            (folder / "said.json").write_text(json.dumps(_run(kind, folder, numbers)), encoding="utf-8")
        yield folder


def kept_folder() -> Path | None:
    """The folder that RANEF_PEERS_KEEP names."""
    keep = os.environ.get("RANEF_PEERS_KEEP")
    return Path(keep) if keep else None


def _run(kind: str, folder: Path, numbers: Sequence[float]) -> Any:
    python = os.environ.get("RANEF_PEERS_PYTHON", sys.executable)
    command = [python, str(HERE / "peer.py"), kind, str(folder), *map(str, numbers)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "ModuleNotFoundError" in done.stderr:
        raise Unavailable(f"needs a Python with {kind}, named by RANEF_PEERS_PYTHON: {done.stderr.splitlines()[-1]}")
    if done.returncode:
        raise RuntimeError(f"{kind} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rows_sum(split: Split) -> str:
    """Tells one split's rows from another's."""
    return hashlib.sha256(np.ascontiguousarray(split.y).tobytes()).hexdigest()
