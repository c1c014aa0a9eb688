"""Run a service until it is told to stop."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

import msgspec
import uvicorn

from ranef.serve.app import make_app
from ranef.serve.metrics import FOLDER
from ranef.serve.service import Service
from ranef.serve.settings import Settings

# seconds that open requests have when the service stops
GRACE = 10
# seconds that an idle connection stays open
IDLE = 75


def run(settings: Settings, host: str, port: int, workers: int, say: Callable[[str], None]) -> None:
    """Serve a model.

    Parameters
    ----------
    settings : Settings
    host : str
    port : int
    workers : int
        Processes that share the port.
    say : callable
        Told where the service is.

    Raises
    ------
    RanefError
        Model, store or token cannot be read.
    """
    options = {
        "host": host,
        "port": port,
        "access_log": False,
        "log_level": "warning",
        "server_header": False,
        "timeout_keep_alive": IDLE,
        "timeout_graceful_shutdown": GRACE,
    }
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if workers == 1:
        service = Service(settings)
        say(f"serving {settings.model}, version {service.online.served.version}, at {where}")
        uvicorn.run(make_app(service), **options)  # type: ignore[arg-type]
        return
    with tempfile.TemporaryDirectory(prefix="ranef-serve-") as folder:
        if settings.store is None:
            # workers know of each other's events
            settings = msgspec.structs.replace(settings, store=f"{folder}/events", lasting=False)
        service = Service(settings)  # what is wrong is said once, and not by every worker
        say(f"serving {settings.model}, version {service.online.served.version}, at {where}, by {workers} processes")
        service.log.close()
        del service
        settings.to_environment()
        numbers = os.path.join(folder, "metrics")
        os.mkdir(numbers)
        os.environ[FOLDER] = numbers
        uvicorn.run("ranef.serve.app:worker", factory=True, workers=workers, **options)  # type: ignore[arg-type]
