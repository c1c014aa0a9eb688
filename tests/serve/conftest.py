"""Stores to test with: LMDB in a folder, and a real Redis or Valkey server where one is installed."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

pytest.importorskip("lmdb", reason="the extra serve is not installed")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        pytest.skip("neither valkey-server nor redis-server is installed")
    redis = pytest.importorskip("redis")
    folder = tmp_path_factory.mktemp("redis")
    socket = folder / "socket"
    words = [program, "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(200):
                try:
                    with redis.Redis(unix_socket_path=str(socket)) as client:
                        client.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            yield f"unix://{socket}"
        finally:
            server.terminate()


@pytest.fixture(params=["lmdb", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store."""
    if request.param == "lmdb":
        return str(tmp_path / "store")
    return f"{request.getfixturevalue('redis_url')}?prefix=test-{uuid4().hex}"
