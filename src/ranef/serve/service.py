"""The running service: the model that is served now, its events, and the look-out for a new model."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from threadpoolctl import threadpool_limits

from ranef.artifact.manifest import MANIFEST_FILE
from ranef.errors import RanefError
from ranef.serve.event_log import EventLog, event_log
from ranef.serve.memory import give_back
from ranef.serve.metrics import Metrics
from ranef.serve.online import Online
from ranef.serve.served import load_served
from ranef.serve.settings import Settings, read_token
from ranef.serve.store import open_store

# how often a log that is far away is asked for the events of other processes
REFRESH = 0.2

log = logging.getLogger("ranef.serve")


class Service:
    """What the endpoints of one process share.

    Parameters
    ----------
    settings : Settings

    Raises
    ------
    RanefError
        Model, store or token cannot be read.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        # one row times all items is quick on one thread; several would wait for each other, and for other workers
        threadpool_limits(1)
        self.token = read_token(settings.token_file)
        self.metrics = Metrics()
        self.path = Path(settings.model)
        self._stamp = self._look()
        store = None if settings.store is None else open_store(settings.store, make=True)
        self.log: EventLog = event_log(store)
        self.online = self._load()
        self.stopping = False

    def online_now(self) -> Online:
        """The model with all events that are known of by now."""
        online = self.online
        if self.log.quick:
            online.catch_up()
        return online

    async def watch(self) -> None:
        """Load the model anew whenever its directory has changed; requests go on with the old one meanwhile."""
        while True:
            await asyncio.sleep(self.settings.poll)
            stamp = self._look()
            # while one directory takes the place of another there is none for a moment
            if stamp is None or stamp == self._stamp:
                continue
            self._stamp = stamp
            try:
                self.online = await asyncio.to_thread(self._load)
            except RanefError as error:
                self.metrics.reloads.labels("failed").inc()
                log.warning("the new model is not served, and the old one still is: %s", error)
            else:
                await asyncio.to_thread(give_back)
                self.metrics.reloads.labels("loaded").inc()
                log.info("model %s is served now", self.online.served.version)

    async def refresh(self) -> None:
        """Take in the events of other processes from a log that is far away."""
        while True:
            await asyncio.sleep(REFRESH)
            try:
                await asyncio.to_thread(self.online.catch_up)
            except RanefError as error:
                log.warning("the log of events cannot be read: %s", error)

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """The tasks beside the requests, from start to end."""
        tasks = [asyncio.create_task(self.watch())]
        if not self.log.quick:
            tasks.append(asyncio.create_task(self.refresh()))
        try:
            yield
        finally:
            self.stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.log.close()

    def _load(self) -> Online:
        online = Online(load_served(self.path, self.settings.entity, self.settings.target), self.log)
        online.catch_up()
        # what was loaded stays: the collector need not look at it again
        gc.collect()
        gc.freeze()
        return online

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = (self.path / MANIFEST_FILE).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
