"""The peers' side: which interpreter has them, and what they said on the same rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.clicks.real import Unavailable

HERE = Path(__file__).parent


@contextmanager
def measured(kind: str, prepare: Callable[[Path], None], *numbers: float) -> Iterator[Path]:
    """A folder with what a peer has written, and ``said.json``.

    Raises
    ------
    Unavailable
        The interpreter (RANEF_PEERS_PYTHON, or this one) has no such peer.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
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
