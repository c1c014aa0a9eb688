"""Pushing a million lists of recommendations to a store."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.studies.page import Bar, Section, table
from ranef.errors import StoreError
from ranef.serve.store import Reader, open_store, push
from ranef.serve.store.records import records_of

KEYS, K = 1_000_000, 10
MOST = {"LMDB": 20.0, "Redis": 60.0}


def million() -> Section:
    """A million keys to LMDB, and to a server where there is one."""
    rng = np.random.default_rng(0)
    lines, bars = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recs.parquet"
        columns = {
            "user_id": np.repeat(np.arange(KEYS), K),
            "rank": np.tile(np.arange(1, K + 1), KEYS),
            "item_id": rng.integers(0, 60_000, KEYS * K),
            "score": rng.normal(size=KEYS * K),
        }
        pq.write_table(pa.table(columns), path)
        urls = {"LMDB": str(Path(folder) / "store")}
        program = shutil.which("valkey-server") or shutil.which("redis-server")
        server = None
        if program is not None:
            socket = Path(folder) / "socket"
            words = [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", folder]
            server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            urls["Redis"] = f"unix://{socket}"
            _wait(urls["Redis"])
        try:
            for name, url in urls.items():
                store = open_store(url, make=True)
                done = push(records_of(path), store)
                reader, ids = Reader(store), rng.integers(0, KEYS, 5_000).tolist()
                begun = time.perf_counter()
                for one in ids:
                    reader.lists([one])
                read = (time.perf_counter() - begun) / len(ids)
                store.close()
                lines.append([name, f"{done.records:,}", f"{done.seconds:.1f}", f"{1e6 * read:.0f}"])
                bars.append(Bar(f"{name}: seconds", done.seconds, -float("inf"), MOST[name], 1))
        finally:
            if server is not None:
                server.terminate()
                server.wait()
    body = [
        f"`ranef push` of {KEYS:,} users with {K} items each from Parquet: lists written in transactions of 20,000, "
        "then every one read back and",
        "compared, then the switch. Redis 7 on the same machine by a Unix socket, without saving to disk. Read: one "
        "list by `Reader`, microseconds.",
        "",
        *table(["", "keys", "seconds", "read, µs"], lines),
    ]
    return Section("seed 0", bars, body)


def _wait(url: str) -> None:
    while True:
        try:
            open_store(url).close()
            return
        except StoreError:
            time.sleep(0.05)
