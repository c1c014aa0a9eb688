"""Peers, each in a process of its own whose interpreter has them; it needs neither ranef nor pyarrow.

``python peer.py als FOLDER FACTORS PENALTY WEIGHT SWEEPS`` reads and writes NumPy files in the folder, and prints what
it measured as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse


def als(folder: Path, factors: int, penalty: float, weight: float, sweeps: int) -> dict[str, Any]:
    """Alternating least squares on binary feedback, by conjugate gradients; writes the factors after every sweep and
    gives the seconds of each."""
    from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    seen = sparse.csr_matrix(sparse.load_npz(folder / "seen.npz")).astype(np.float32)
    model = AlternatingLeastSquares(
        factors=factors,
        regularization=penalty,
        alpha=weight,
        iterations=sweeps,
        use_cg=True,
        num_threads=2,
        random_state=0,
    )
    seconds = []

    def keep(sweep: int, elapsed: float, *_: object) -> None:
        seconds.append(elapsed)
        np.save(folder / f"users-{sweep}.npy", model.user_factors)
        np.save(folder / f"items-{sweep}.npy", model.item_factors)

    with threadpool_limits(1, "blas"):
        model.fit(seen, show_progress=False, callback=keep)
    return {"seconds": seconds}


if __name__ == "__main__":
    _, kind, place, *numbers = sys.argv
    arguments = [float(one) if "." in one else int(one) for one in numbers]
    print(json.dumps({"als": als}[kind](Path(place), *arguments)))
