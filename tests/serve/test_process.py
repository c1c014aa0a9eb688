"""The service as a process: it starts, shares the port, keeps events through kill -9, and ends when asked to."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ranef
from ranef.cli import main

COMMAND = "import sys; from ranef.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    user, item = rng.integers(0, 20, 400), rng.integers(0, 15, 400)
    y = 3 + rng.normal(size=20)[user] + rng.normal(size=15)[item] + rng.normal(size=400)
    path = tmp_path_factory.mktemp("models") / "model"
    ranef.fit("y ~ 1 + (1 | user) + (1 | item)", {"y": y, "user": user, "item": item}).save(path)
    return path


class Server:
    """A process and how to ask it."""

    def __init__(self, port: int, process: subprocess.Popen[str]):
        self.port, self.process = port, process

    def ask(self, method: str, path: str, message: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            headers = {"Content-Type": "application/json"} if message is not None else {}
            connection.request(method, path, None if message is None else json.dumps(message), headers)
            answer = connection.getresponse()
            body = answer.read().decode()
            return answer.status, json.loads(body) if body.startswith("{") else body
        finally:
            connection.close()


@contextmanager
def serving(model: Path, *options: str) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-c", COMMAND, "serve", str(model), "--port", str(port), *options]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        server = Server(port, process)
        try:
            for _ in range(600):
                try:
                    if server.ask("GET", "/readyz")[0] == 200:
                        break
                except OSError:
                    assert process.poll() is None, process.stderr and process.stderr.read()
                    time.sleep(0.05)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def test_events_survive_a_kill_and_requests_a_stop(model: Path, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    with serving(model, "--store", store) as server:
        for item in range(10):
            message = {"events": [{"user": 1000, "item": item, "value": float(item)}]}
            assert server.ask("POST", "/v1/events", message) == (200, {**ANSWER, "model": model_of(server)})
        before = server.ask("POST", "/v1/recommend", {"user": 1000})
        server.process.kill()
        server.process.wait()
    with serving(model, "--store", store) as server:
        assert server.ask("POST", "/v1/recommend", {"user": 1000}) == before
        assert before[1]["fallback"] == "events"
        answers: list[int] = []

        def ask() -> None:
            while True:
                try:
                    answers.append(server.ask("POST", "/v1/recommend", {"user": 3})[0])
                except OSError:
                    return

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert len(answers) > 3
        assert set(answers) == {200}


ANSWER = {"accepted": 1, "kept": True}


def model_of(server: Server) -> str:
    return str(server.ask("GET", "/v1/model")[1]["model"])


def test_workers_know_of_each_others_events(model: Path) -> None:
    with serving(model, "--workers", "2") as server:
        message = {"events": [{"user": 1000, "item": 3, "value": 9.0}]}
        assert server.ask("POST", "/v1/events", message)[1] == {**ANSWER, "kept": False, "model": model_of(server)}
        # every connection may meet another worker
        answers = [server.ask("POST", "/v1/recommend", {"user": 1000}) for _ in range(20)]
        assert all(one == answers[0] for one in answers)
        assert answers[0][1]["fallback"] == "events"
        text = server.ask("GET", "/metrics")[1]
        assert 'ranef_requests_total{path="/v1/recommend",status="200"} 20.0' in text


def test_what_is_wrong_is_said_before_it_starts(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tmp_path / "none")]) == 2
    assert "none" in capsys.readouterr().err
    (tmp_path / "token").write_text("short")
    assert main(["serve", str(model), "--token-file", str(tmp_path / "token")]) == 2
    assert main(["serve", str(model), "--store", "http://elsewhere"]) == 2
