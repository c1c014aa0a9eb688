"""One fit from a file in a process of its own: what came out, the seconds and the peak of its memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.child import peak_mib

HERE = Path(__file__).parent


def fit_alone(formula: str, path: str | Path, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Fit in a new process.

    Parameters
    ----------
    formula : str
    path : path
        Parquet.
    options : mapping, optional
        Keywords of `ranef.fit`, as what JSON can hold.

    Returns
    -------
    dict
        The document that ``ranef fit --json`` prints, and ``probes``, ``wall`` (seconds from importing ranef to the
        printed summary), ``process`` (seconds of the whole process), ``peak`` (MiB), ``gradient`` (of a joint mode: the
        norm of its gradient over that without random effects).
    """
    command = [sys.executable, "-m", "benchmarks.alone", formula, str(path), json.dumps(dict(options or {}))]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"the fit of {formula} failed:\n{done.stderr[-2000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "process": seconds}


def _fit(formula: str, path: str, options: str) -> None:
    begun = time.perf_counter()
    import ranef
    from ranef.result.document import document

    fit = ranef.fit(formula, path, **json.loads(options))
    text = str(fit)
    seconds = time.perf_counter() - begun
    print(text)
    found = {
        "probes": fit.model.info.probes,
        "wall": seconds,
        "peak": peak_mib(),
        "gradient": fit.model.info.mode_gradient,
    }
    print(json.dumps({**document(fit), **found}))


if __name__ == "__main__":
    _fit(*sys.argv[1:])
