"""The service under load from wrk, and over a long time from hey, with new models and events meanwhile."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.clicks.real import Unavailable
from benchmarks.serving.large import save_large
from benchmarks.studies.page import Bar, Section, table

USERS, ITEMS, RANK = 50_000, 60_000, 64
SECONDS = 15
COMMAND = "import sys; from ranef.cli import main; sys.exit(main(sys.argv[1:]))"
SCRIPT = """
local n = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  n = n + 7919
  return wrk.format(nil, "/v1/PATH", nil, BODY)
end
"""
BODIES = {
    "recommend": """'{"user": ' .. (n % USERS) .. ', "k": 10}'""",
    "score": """'{"user": ' .. (n % USERS) .. ', "items": [' .. items(n) .. ']}'""",
}
HUNDRED = """
function items(n)
  local found = {}
  for i = 1, 100 do found[i] = (n * 31 + i * 599) % ITEMS end
  return table.concat(found, ",")
end
"""


class Server:
    """A running service."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]):
        self.port, self.process = port, process

    def ask(self, method: str, path: str, message: Any = None) -> tuple[int, Any]:
        """Status and body of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/json"} if message is not None else {}
        try:
            connection.request(method, path, None if message is None else json.dumps(message), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def serving(model: Path, *options: str) -> Iterator[Server]:
    """The service as a process of its own, ready."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-c", COMMAND, "serve", str(model), "--port", str(port), *options])
    server = Server(port, process)
    try:
        while True:
            try:
                if server.ask("GET", "/readyz")[0] == 200:
                    break
            except OSError:
                time.sleep(0.1)
                if process.poll() is not None:
                    raise SystemExit(f"the service ended with {process.returncode}") from None
        yield server
    finally:
        process.terminate()
        process.wait()


def load() -> Section:
    """Latency of one connection, and throughput of many."""
    wrk = _program("wrk")
    lines, bars = [], []
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        save_large(model, USERS, ITEMS, RANK)
        with serving(model) as server:
            for path, most in (("recommend", 1.0), ("score", 0.6)):
                found = _wrk(wrk, server, path, 1, Path(folder))
                lines.append([f"{path}, 1 worker, 1 connection", *found.cells()])
                bars.append(Bar(f"{path}: median, ms", found.median, -float("inf"), most))
                if path == "recommend":
                    bars.append(Bar(f"{path}: 99 %, ms", found.most, -float("inf"), 5.0))
        with serving(model, "--workers", "2") as server:
            found = _wrk(wrk, server, "recommend", 32, Path(folder))
            lines.append(["recommend, 2 workers, 32 connections", *found.cells()])
    body = [
        f"`ranef serve` of a model with {USERS:,} users, {ITEMS:,} items and rank {RANK} (simulated vectors whose "
        "variances fall along them), Gaussian;",
        f"wrk on the same two cores, {SECONDS} s each, connections kept alive. `recommend` is the best 10 of all "
        "items, `score` of 100 items; milliseconds.",
        "",
        *table(["", "median", "99 %", "requests a second", "errors"], lines),
    ]
    return Section("seed 0", bars, body)


def soak() -> Section:
    """Ten minutes of load, new models and events, and a kill -9."""
    return _soak(600)


def soak_short() -> Section:
    """Two minutes of the same."""
    return _soak(120)


def _soak(seconds: int) -> Section:
    hey = _program("hey")
    with tempfile.TemporaryDirectory() as folder:
        models = [Path(folder) / name for name in ("model", "next")]
        for seed, path in enumerate(models):
            save_large(path, 5_000, 20_000, 32, seed)
        store = str(Path(folder) / "store")
        taken: list[int] = []
        wrong: list[str] = []
        over = threading.Event()
        versions: set[bytes] = set()
        with serving(models[0], "--store", store) as server:
            capacity = _hey(hey, server, 10, None)[0]

            def events() -> None:
                number = 0
                while not over.is_set():
                    event = {"user": number % 5_000, "item": number * 7 % 20_000, "value": number % 5}
                    try:
                        status = server.ask("POST", "/v1/events", {"events": [event]})[0]
                    except OSError as error:
                        wrong.append(str(error))
                        continue
                    if status == 200:
                        taken.append(number)
                    else:
                        wrong.append(str(status))
                    number += 1
                    time.sleep(0.02)

            def reloads() -> None:
                while not over.wait(30):
                    aside = Path(folder) / "aside"
                    models[0].rename(aside)
                    models[1].rename(models[0])
                    aside.rename(models[1])
                    over.wait(10)
                    versions.add(server.ask("GET", "/readyz")[1])

            threads = [threading.Thread(target=one) for one in (events, reloads)]
            before = 0
            for thread in threads:
                thread.start()
            time.sleep(5)
            before = _resident(server.process.pid)
            rate, errors = _hey(hey, server, seconds, 0.7 * capacity)
            after = _resident(server.process.pid)
            over.set()
            for thread in threads:
                thread.join()
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        kept = _events_in(store)
        with serving(models[0], "--store", store) as server:
            again = server.ask("POST", "/v1/recommend", {"user": taken[-1] % 5_000})[0]
    bars = [
        Bar("requests that failed", errors + len(wrong), -float("inf"), 0, 0),
        Bar("events that were lost", len(taken) - kept, -float("inf"), 0, 0),
        Bar("memory at the end over that at the start", after / before, -float("inf"), 1.25),
    ]
    body = [
        f"{seconds} s of `recommend` at 70 % of capacity ({capacity:,.0f} a second by hey with 8 connections; "
        f"{rate:,.0f} held), one worker, 5,000 users, 20,000",
        f"items, rank 32. Meanwhile {len(taken):,} events, each on the disk before its answer, and another model every "
        f"30 s, {len(versions)} of them seen in turn. Then",
        f"kill -9, and a restart that answers with {again}. Memory: {before >> 20:,} MiB resident 5 s into the run, "
        f"{after >> 20:,} MiB at its end.",
        "",
    ]
    return Section("seeds 0 and 1", bars, body)


class _Wrk:
    """What wrk found: milliseconds, requests a second, errors."""

    def __init__(self, text: str):
        self.median, self.most = (_milliseconds(text, share) for share in ("50%", "99%"))
        self.rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])  # type: ignore[index]
        self.errors = sum(
            int(one) for one in re.findall(r"(?:Non-2xx or 3xx responses: |read |write |timeout )(\d+)", text)
        )

    def cells(self) -> list[str]:
        return [f"{self.median:.2f}", f"{self.most:.2f}", f"{self.rate:,.0f}", str(self.errors)]


def _wrk(wrk: str, server: Server, path: str, connections: int, folder: Path) -> _Wrk:
    text = SCRIPT.replace("PATH", path).replace("BODY", BODIES[path]) + HUNDRED
    script = folder / f"{path}.lua"
    script.write_text(text.replace("USERS", str(USERS)).replace("ITEMS", str(ITEMS)))
    address = f"http://127.0.0.1:{server.port}"
    words = [wrk, "-t1", f"-c{connections}", "-s", str(script), "--latency"]
    subprocess.run([*words, "-d2s", address], check=True, capture_output=True)
    said = subprocess.run([*words, f"-d{SECONDS}s", address], check=True, capture_output=True, text=True)
    return _Wrk(said.stdout)


def _hey(hey: str, server: Server, seconds: int, rate: float | None) -> tuple[float, int]:
    """Requests a second, and how many failed."""
    words = [hey, "-z", f"{seconds}s", "-c", "8", "-m", "POST", "-T", "application/json", "-d", '{"user": 77, "k": 10}']
    words += [] if rate is None else ["-q", f"{rate / 8:.0f}"]
    said = subprocess.run(
        [*words, f"http://127.0.0.1:{server.port}/v1/recommend"], check=True, capture_output=True, text=True
    ).stdout
    counts = {status: int(count) for status, count in re.findall(r"\[(\d+)\]\s+(\d+) responses", said)}
    broken = sum(int(one) for one in re.findall(r"^\s+\[(\d+)\]\s+(?!\d+ responses)", said, re.MULTILINE))
    found = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]
    return found, broken + sum(count for status, count in counts.items() if status != "200")


def _milliseconds(text: str, share: str) -> float:
    found = re.search(rf"{share}\s+([\d.]+)(us|ms|s)\s", text)
    if found is None:
        raise SystemExit(f"wrk did not say its {share}:\n{text}")
    return float(found[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found[2]]


def _events_in(store: str) -> int:
    from ranef.serve.event_log import event_log
    from ranef.serve.store import open_store

    log = event_log(open_store(store))
    count = log.last()
    log.close()
    return count


def _resident(process: int) -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is not installed: apt-get install {name}")
    return found
