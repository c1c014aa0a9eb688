"""A store in an LMDB folder: readers of any process see the last transaction that was committed, whole.

One database holds the versions, each with a number, and the name of the current one. The other holds the records: a key
begins with the number of its version, four bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lmdb
import msgspec

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

# addresses only: the file grows as it is filled
MAP_SIZE = 1 << 38
DATA_FILE = "data.mdb"

_META = b"meta"
_RECORDS = b"records"
_NUMBER = b"number"
_CURRENT = b"current"
_VERSION = b"version:"


@dataclass(frozen=True, eq=False)
class LmdbStore:
    """Use `open_store`."""

    url: str
    environment: lmdb.Environment
    meta: lmdb._Database
    records: lmdb._Database
    keeps_time: bool = False

    @classmethod
    def open(cls, path: Path, *, make: bool) -> LmdbStore:
        """The store in a folder; with ``make`` an empty one where there is none."""
        if not (path / DATA_FILE).is_file():
            if not make:
                raise OptionError(f"{path} holds no store; ranef push makes one")
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise OptionError(f"{path} is there and is no store; choose another name")
        try:
            path.mkdir(parents=True, exist_ok=True)
            environment = lmdb.open(str(path), map_size=MAP_SIZE, max_dbs=8, max_readers=1024)
            environment.reader_check()  # gives back the places of readers that were killed
            meta, records = environment.open_db(_META), environment.open_db(_RECORDS)
        except (lmdb.Error, OSError) as error:
            raise _failed(path, error) from error
        return cls(str(path), environment, meta, records)

    def versions(self) -> dict[str, Version]:
        with self.transaction() as transaction:
            found = []
            with transaction.cursor(self.meta) as cursor:
                if cursor.set_range(_VERSION):
                    for key, value in cursor:
                        if not bytes(key).startswith(_VERSION):
                            break
                        found.append(_decode(value)[1])
            return {version.name: version for version in sorted(found, key=lambda one: (one.created, one.name))}

    def current(self) -> str | None:
        with self.transaction() as transaction:
            return self._current(transaction)

    def begin(self, version: Version) -> None:
        with self.transaction(write=True) as transaction:
            if transaction.get(_VERSION + version.name.encode(), db=self.meta) is not None:
                raise OptionError(f"the store has a version {version.name} already; choose another name")
            # numbers are not used again: a reader may be in a transaction that knows the old one
            number = int.from_bytes(transaction.get(_NUMBER, b"", db=self.meta), "big") + 1
            transaction.put(_NUMBER, number.to_bytes(4, "big"), db=self.meta)
            self._write(transaction, number.to_bytes(4, "big"), version)

    def settle(self) -> None:
        # LMDB repairs the number of the last transaction when the next writer begins
        with self.transaction(write=True):
            pass

    def append(self, name: str, start: int, pairs: Sequence[Pair]) -> None:
        with self.transaction(write=True) as transaction:
            number, version = self._known(transaction, name)
            check_start(name, version.records, start)
            with transaction.cursor(self.records) as cursor:
                _, added = cursor.putmulti(sorted((number + key, value) for key, value in pairs), overwrite=False)
            if added != len(pairs):
                raise twice(name)
            self._write(transaction, number, msgspec.structs.replace(version, records=start + len(pairs)))

    def finish(self, name: str, *, use: bool) -> None:
        with self.transaction(write=True) as transaction:
            number, version = self._known(transaction, name)
            self._write(transaction, number, msgspec.structs.replace(version, complete=True))
            if use:
                transaction.put(_CURRENT, name.encode(), db=self.meta)

    def use(self, name: str) -> None:
        complete_version(self.versions(), name)
        with self.transaction(write=True) as transaction:
            self._known(transaction, name)
            transaction.put(_CURRENT, name.encode(), db=self.meta)

    def remove(self, name: str) -> None:
        check_removable(self.versions(), name, self.current())
        with self.transaction(write=True) as transaction:
            if self._current(transaction) == name:
                raise StoreError(f"version {name} has become the current one just now; it stays")
            number, _ = self._known(transaction, name)
            transaction.delete(_VERSION + name.encode(), db=self.meta)
            with transaction.cursor(self.records) as cursor:
                there = cursor.set_range(number)
                while there and bytes(cursor.key()).startswith(number):
                    there = cursor.delete()

    def fetch(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        with self.transaction() as transaction:
            number, _ = self._known(transaction, name)
            return [transaction.get(number + key, db=self.records) for key in keys]

    def read(self, keys: Sequence[bytes]) -> Read:
        with self.transaction() as transaction:
            name = self._current(transaction)
            if name is None:
                return Read(None, (None,) * len(keys))
            number, version = self._known(transaction, name)
            return Read(version, tuple(transaction.get(number + key, db=self.records) for key in keys))

    def close(self) -> None:
        self.environment.close()

    @contextmanager
    def transaction(self, write: bool = False) -> Iterator[lmdb.Transaction[bytes]]:
        """A transaction: a view that does not change, or what is committed at the end; errors are `StoreError`."""
        try:
            with self.environment.begin(write=write) as transaction:
                yield transaction
        except lmdb.MapFullError as error:
            raise StoreError(f"{self.url} is full ({MAP_SIZE >> 30} GiB): remove versions, or make another") from error
        except lmdb.Error as error:
            raise _failed(self.url, error) from error

    def _known(self, transaction: lmdb.Transaction[bytes], name: str) -> tuple[bytes, Version]:
        found = transaction.get(_VERSION + name.encode(), db=self.meta)
        if found is None:
            raise StoreError(f"version {name} is not in the store any more: another process has removed it")
        return _decode(found)

    def _current(self, transaction: lmdb.Transaction[bytes]) -> str | None:
        name = transaction.get(_CURRENT, db=self.meta)
        return None if name is None else bytes(name).decode()

    def _write(self, transaction: lmdb.Transaction[bytes], number: bytes, version: Version) -> None:
        transaction.put(_VERSION + version.name.encode(), number + msgspec.json.encode(version), db=self.meta)


def _decode(value: bytes) -> tuple[bytes, Version]:
    return bytes(value[:4]), msgspec.json.decode(value[4:], type=Version)


def _failed(path: Path | str, error: Exception) -> StoreError:
    return StoreError(f"the store {path} cannot be used: {error}; see that the folder can be written and has room")
