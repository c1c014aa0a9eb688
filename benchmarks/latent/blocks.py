"""Users and items of a split as sparse rows, one block of columns for each thing known of them: what myFM takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy import sparse

from benchmarks.latent.splits import Split

WHAT = ("ids", "history", "attributes")


@dataclass(frozen=True, eq=False)
class Side:
    """One side of the rows.

    Attributes
    ----------
    train, test : int64 array, shape (rows,)
        The row of ``blocks`` for each rating.
    blocks : list of sparse array, shape (units, columns)
    """

    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]
    blocks: list[sparse.csr_array]


def sides(split: Split, what: Sequence[str]) -> tuple[Side, Side]:
    """Users and items.

    Parameters
    ----------
    split : Split
    what : sequence of {"ids", "history", "attributes"}
        Histories are of the training rows: the other side's units, each 1 / sqrt(count), as are bags of attributes.
    """
    codes = [_codes(split, name) for name in ("user_id", "item_id")]
    counts = [len(ids) for ids, _, _ in codes]
    made = []
    for own, (ids, train, test) in enumerate(codes):
        blocks = [sparse.eye_array(counts[own], format="csr")] if "ids" in what else []
        if "history" in what:
            other = codes[1 - own][1]
            seen = sparse.coo_array((np.ones(len(train)), (train, other)), shape=(counts[own], counts[1 - own])).tocsr()
            seen.data[:] = 1.0
            blocks.append(_scaled(seen))
        table = split.items if own else split.users
        if "attributes" in what and table is not None:
            key = "item_id" if own else "user_id"
            blocks += [_attribute(table, key, name, ids) for name in table.column_names if name != key]
        made.append(Side(train, test, blocks))
    return made[0], made[1]


def save(folder: Path, split: Split, what: Sequence[str]) -> None:
    """Write both sides and the training ratings, for a process that has no ranef."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "y.npy", np.asarray(split.train["rating"], dtype=np.float64))
    for name, side in zip(("user", "item"), sides(split, what), strict=True):
        np.save(folder / f"{name}-train.npy", side.train)
        np.save(folder / f"{name}-test.npy", side.test)
        np.save(folder / f"{name}-widths.npy", [block.shape[1] for block in side.blocks])
        sparse.save_npz(folder / f"{name}.npz", sparse.hstack(side.blocks, format="csr"))


def _codes(split: Split, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Ids that occur in either part, and the codes of both parts."""
    train, test = (np.asarray(part[name]).astype(np.int64) for part in (split.train, split.test))
    ids, codes = np.unique(np.concatenate([train, test]), return_inverse=True)
    return ids, codes[: len(train)], codes[len(train) :]


def _attribute(table: pa.Table, key: str, name: str, ids: npt.NDArray[np.int64]) -> sparse.csr_array:
    """Indicators of the values, of text between ``|`` of each of them."""
    held = dict(zip(table[key].to_pylist(), table[name].to_pylist(), strict=True))
    lists = [[one for one in (held.get(one) or "").split("|") if one] for one in ids.tolist()]
    values = sorted({one for some in lists for one in some})
    code_of = {value: code for code, value in enumerate(values)}
    rows = np.repeat(np.arange(len(ids)), [len(some) for some in lists])
    columns = np.array([code_of[one] for some in lists for one in some], np.int64)
    shape = (len(ids), len(values))
    return _scaled(sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=shape).tocsr())


def _scaled(block: sparse.csr_array) -> sparse.csr_array:
    counts = np.maximum(np.diff(block.indptr), 1)
    return sparse.csr_array(
        (block.data / np.repeat(np.sqrt(counts), np.diff(block.indptr)), block.indices, block.indptr), block.shape
    )
