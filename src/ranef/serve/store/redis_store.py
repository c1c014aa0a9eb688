"""A store in Redis or Valkey.

Keys, all after a prefix (``ranef`` unless the address says otherwise): ``current`` is the name of the current version,
``versions`` a hash from names to JSON, and ``data:VERSION:KEY`` a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
import redis

from ranef.errors import OptionError, StoreError
from ranef.serve.store.base import (
    Pair,
    Read,
    Version,
    check_removable,
    check_start,
    complete_version,
    twice,
)

_SCAN = 10_000
_A_COMMAND = 1_000
_MOST_SWITCHES = 100


@dataclass(frozen=True, eq=False)
class RedisStore:
    """Use `open_store`."""

    url: str
    client: redis.Redis
    prefix: str
    keeps_time: bool = True

    @classmethod
    def connect(cls, url: str) -> RedisStore:
        """The store behind an address; it answers."""
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        prefix = query.pop("prefix", "ranef")
        if not prefix or set(prefix) & set("*?[]\\"):
            raise OptionError(f"prefix={prefix}: letters, digits and any of _-.: make a prefix")
        scheme = {"valkey": "redis", "valkeys": "rediss"}.get(parts.scheme, parts.scheme)
        address = f"{scheme}://{parts.netloc}{parts.path}{'?' if query else ''}{urlencode(query)}"
        shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        try:
            client = redis.Redis.from_url(address, socket_connect_timeout=10, socket_timeout=60)
        except (ValueError, TypeError) as error:
            raise OptionError(f"{shown} is no address of a Redis server: {error}") from error
        store = cls(shown, client, prefix)
        with store.failures():
            client.ping()
        return store

    def versions(self) -> dict[str, Version]:
        with self.failures():
            found: dict[bytes, bytes] = self.client.hgetall(self._key("versions"))  # type: ignore[assignment]
        decoded = [msgspec.json.decode(value, type=Version) for value in found.values()]
        return {version.name: version for version in sorted(decoded, key=lambda one: (one.created, one.name))}

    def current(self) -> str | None:
        with self.failures():
            name: Any = self.client.get(self._key("current"))
        return None if name is None else name.decode()

    def begin(self, version: Version) -> None:
        with self.failures():
            new = self.client.hsetnx(self._key("versions"), version.name, msgspec.json.encode(version))
        if not new:
            raise OptionError(f"the store has a version {version.name} already; choose another name")

    def settle(self) -> None:
        """Nothing to do: the server has one view."""

    def append(self, name: str, start: int, pairs: Sequence[Pair]) -> None:
        def write(pipe: Any, version: Version, current: str | None) -> Version:
            check_start(name, version.records, start)
            if version.expires is None:
                for first in range(0, len(pairs), _A_COMMAND):
                    some = pairs[first : first + _A_COMMAND]
                    pipe.msetnx({self._record(name, key): value for key, value in some})
            else:
                for key, value in pairs:
                    pipe.set(self._record(name, key), value, nx=True, exat=version.expires)
            return msgspec.structs.replace(version, records=start + len(pairs))

        answers = self._change(name, write)
        if not all(answers[:-1]):
            raise twice(name)

    def finish(self, name: str, *, use: bool) -> None:
        def write(pipe: Any, version: Version, current: str | None) -> Version:
            if use:
                pipe.set(self._key("current"), name)
            return msgspec.structs.replace(version, complete=True)

        self._change(name, write)

    def use(self, name: str) -> None:
        def write(pipe: Any, version: Version, current: str | None) -> Version:
            complete_version({name: version}, name)
            pipe.set(self._key("current"), name)
            return version

        complete_version(self.versions(), name)
        self._change(name, write)

    def remove(self, name: str) -> None:
        def write(pipe: Any, version: Version, current: str | None) -> Version:
            check_removable({name: version}, name, current)
            # nobody can use it from here on, and if this is cut off it can be removed again
            return msgspec.structs.replace(version, complete=False)

        check_removable(self.versions(), name, self.current())
        self._change(name, write)
        with self.failures():
            for keys in self._keys(self._record(name, b"")):
                self.client.unlink(*keys)
            self.client.hdel(self._key("versions"), name)

    def fetch(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        with self.failures():
            found: Any = self.client.mget([self._record(name, key) for key in keys])
        return list(found)

    def read(self, keys: Sequence[bytes]) -> Read:
        for _ in range(_MOST_SWITCHES):
            name = self.current()
            if name is None:
                return Read(None, (None,) * len(keys))
            with self.failures():
                pipe: Any = self.client.pipeline(transaction=True)
                pipe.get(self._key("current"))
                pipe.hget(self._key("versions"), name)
                if keys:
                    pipe.mget([self._record(name, key) for key in keys])
                now, text, *found = pipe.execute()
            # one transaction: these records are those of the version that was current at that moment
            if now == name.encode() and text is not None:
                return Read(msgspec.json.decode(text, type=Version), tuple(found[0]) if keys else ())
        raise StoreError(f"the current version of {self.url} keeps changing; try again")

    def close(self) -> None:
        self.client.close()

    def _change(self, name: str, write: Callable[[Any, Version, str | None], Version]) -> list[Any]:
        """Change a version in one transaction, which fails if somebody else changes the versions meanwhile."""
        with self.failures(), self.client.pipeline(transaction=True) as pipe:
            pipe.watch(self._key("versions"), self._key("current"))  # type: ignore[no-untyped-call]
            text: Any = pipe.hget(self._key("versions"), name)
            current: Any = pipe.get(self._key("current"))
            now = None if current is None else current.decode()
            if text is None:
                raise StoreError(f"version {name} is not in the store any more: another process has removed it")
            pipe.multi()
            changed = write(pipe, msgspec.json.decode(text, type=Version), now)
            pipe.hset(self._key("versions"), name, msgspec.json.encode(changed))
            try:
                return list(pipe.execute())
            except redis.WatchError:
                raise StoreError(
                    f"another process changed the versions of {self.url} at the same time; run the command again: a "
                    "push goes on where it was"
                ) from None

    def _key(self, name: str) -> str:
        return f"{self.prefix}:{name}"

    def _record(self, name: str, key: bytes) -> bytes:
        return f"{self.prefix}:data:{name}:".encode() + key

    def _keys(self, start: bytes) -> Iterator[list[bytes]]:
        place = 0
        while True:
            answer: Any = self.client.scan(place, match=start + b"*", count=_SCAN)
            place, keys = answer
            if keys:
                yield keys
            if not place:
                return

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Errors of the client as `StoreError`."""
        try:
            yield
        except redis.RedisError as error:
            raise StoreError(f"the store {self.url} cannot be used: {error}") from error
