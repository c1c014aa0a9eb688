"""Logs of events: in memory, or in a store, where they are safe before anybody is told so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import lmdb

from ranef.errors import StoreError
from ranef.serve.store.base import Store
from ranef.serve.store.lmdb_store import LmdbStore
from ranef.serve.store.redis_store import RedisStore


class EventLog(Protocol):
    """Events in the order in which they came, numbered from 1."""

    @property
    def lasts(self) -> bool:
        """Whether what was appended is there after the process was killed."""

    @property
    def quick(self) -> bool:
        """Whether every request can ask for the number of the last event."""

    def append(self, events: Sequence[bytes]) -> int:
        """Add events, all or none, and return the number of the last one, when they are safe."""

    def last(self) -> int:
        """The number of the last event; 0 without any."""

    def after(self, number: int, count: int) -> list[tuple[int, bytes]]:
        """Up to ``count`` events that came after a number."""

    def close(self) -> None:
        """Let go of files and connections."""


@dataclass(eq=False)
class MemoryLog:
    """Events of this process, which end with it."""

    events: list[bytes] = field(default_factory=list)
    lasts: bool = False
    quick: bool = True

    def append(self, events: Sequence[bytes]) -> int:
        self.events += events
        return len(self.events)

    def last(self) -> int:
        return len(self.events)

    def after(self, number: int, count: int) -> list[tuple[int, bytes]]:
        return list(enumerate(self.events[number : number + count], number + 1))

    def close(self) -> None:
        self.events.clear()


@dataclass(frozen=True, eq=False)
class LmdbLog:
    """Events in a database of a store's folder: a transaction is on the disk when ``append`` returns."""

    store: LmdbStore
    events: lmdb._Database
    lasts: bool = True
    quick: bool = True

    @classmethod
    def of(cls, store: LmdbStore) -> LmdbLog:
        """The log of a store."""
        return cls(store, store.environment.open_db(b"events"))

    def append(self, events: Sequence[bytes]) -> int:
        with self.store.transaction(write=True) as transaction:
            last = self._last(transaction)
            for number, event in enumerate(events, last + 1):
                transaction.put(number.to_bytes(8, "big"), event, db=self.events, append=True)
        return last + len(events)

    def last(self) -> int:
        with self.store.transaction() as transaction:
            return self._last(transaction)

    def after(self, number: int, count: int) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        with self.store.transaction() as transaction, transaction.cursor(self.events) as cursor:
            if cursor.set_range((number + 1).to_bytes(8, "big")):
                for key, value in cursor:
                    found.append((int.from_bytes(key, "big"), bytes(value)))
                    if len(found) == count:
                        break
        return found

    def close(self) -> None:
        self.store.close()

    def _last(self, transaction: lmdb.Transaction[bytes]) -> int:
        with transaction.cursor(self.events) as cursor:
            return int.from_bytes(cursor.key(), "big") if cursor.last() else 0


@dataclass(frozen=True, eq=False)
class RedisLog:
    """Events in a list of a Redis server. They are as safe as it keeps its data: see its ``appendfsync``."""

    store: RedisStore
    lasts: bool = True
    quick: bool = False

    @property
    def _key(self) -> str:
        return f"{self.store.prefix}:events"

    def append(self, events: Sequence[bytes]) -> int:
        with self.store.failures():
            found: Any = self.store.client.rpush(self._key, *events)
        return int(found)

    def last(self) -> int:
        with self.store.failures():
            found: Any = self.store.client.llen(self._key)
        return int(found)

    def after(self, number: int, count: int) -> list[tuple[int, bytes]]:
        with self.store.failures():
            found: Any = self.store.client.lrange(self._key, number, number + count - 1)
        return list(enumerate(found, number + 1))

    def close(self) -> None:
        self.store.close()


def event_log(store: Store | None) -> EventLog:
    """The log of a store; without one, a log in memory.

    Raises
    ------
    StoreError
    """
    if store is None:
        return MemoryLog()
    if isinstance(store, LmdbStore):
        store.settle()
        return LmdbLog.of(store)
    if isinstance(store, RedisStore):
        return RedisLog(store)
    raise StoreError(f"{store.url} keeps no events")
