"""Peers, each in a process of its own whose interpreter has them; it needs neither ranef nor pyarrow.

``python peer.py myfm FOLDER RANK DRAWS KEPT``, ``als FOLDER FACTORS PENALTY WEIGHT SWEEPS``, ``word2vec FOLDER SIZE
WINDOW EPOCHS``: reads and writes NumPy files in the folder, and prints what it measured as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse


def myfm(folder: Path, rank: int, draws: int, kept: int) -> dict[str, Any]:
    """Gibbs draws of a factorization machine over blocks of users and items; every block of columns has a prior of its
    own. Writes the predictions of the test rows."""
    from myfm import MyFMRegressor, RelationBlock

    y = np.load(folder / "y.npy")
    held = {name: sparse.csr_matrix(sparse.load_npz(folder / f"{name}.npz")) for name in ("user", "item")}
    widths = [int(width) for name in held for width in np.load(folder / f"{name}-widths.npy")]
    train, test = (
        [RelationBlock(np.load(folder / f"{name}-{part}.npy"), rows) for name, rows in held.items()]
        for part in ("train", "test")
    )
    model = MyFMRegressor(rank=rank, random_seed=0)
    begun, computed = time.perf_counter(), time.process_time()
    model.fit(None, y, X_rel=train, n_iter=draws, n_kept_samples=kept, group_shapes=widths)
    said = {"seconds": time.perf_counter() - begun, "computed": time.process_time() - computed}
    np.save(folder / "predicted.npy", model.predict(None, test))
    return said


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


def word2vec(folder: Path, size: int, window: int, epochs: int) -> dict[str, Any]:
    """Skip-gram with negative samples on ``corpus.txt``; writes ``words.txt`` and ``vectors.npy``."""
    from gensim.models import Word2Vec
    from gensim.models.word2vec import LineSentence

    begun = time.perf_counter()
    model = Word2Vec(
        LineSentence(str(folder / "corpus.txt")),
        vector_size=size,
        window=window,
        epochs=epochs,
        min_count=5,
        sg=1,
        negative=5,
        workers=2,
        seed=0,
    )
    seconds = time.perf_counter() - begun
    (folder / "words.txt").write_text("\n".join(model.wv.index_to_key), encoding="utf-8")
    np.save(folder / "vectors.npy", model.wv.vectors)
    return {"seconds": seconds}


if __name__ == "__main__":
    _, kind, place, *numbers = sys.argv
    arguments = [float(one) if "." in one else int(one) for one in numbers]
    print(json.dumps({"myfm": myfm, "als": als, "word2vec": word2vec}[kind](Path(place), *arguments)))
