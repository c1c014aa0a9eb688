"""What every store can do. A push writes a new version beside the others; one transaction makes it the current one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ranef.errors import OptionError, StoreError, nearest

Pair = tuple[bytes, bytes]


class Version(msgspec.Struct, frozen=True):
    """What a store knows of one version.

    Attributes
    ----------
    name : str
    kind : {"lists", "vectors"}
        Lists of recommendations, one for each key, or the vectors of a model's two towers.
    source : str
        Fingerprint of what was pushed; a push that was cut off is resumed by it.
    columns : tuple of str
        The column of the keys, and those of a record in its order.
    created : float
        Seconds since 1970.
    records : int
        Written so far.
    complete : bool
        False while it is written; such a version is never current.
    expires : int or None
        Seconds since 1970, when the records of this version vanish.
    about : mapping of str to str
        What else the writer has to say, such as the model's formula.
    """

    name: str
    kind: str
    source: str
    columns: tuple[str, ...]
    created: float
    records: int = 0
    complete: bool = False
    expires: int | None = None
    about: dict[str, str] = {}


class Read(msgspec.Struct, frozen=True):
    """Records of one version: the current one at the moment of reading, None of an empty store."""

    version: Version | None
    values: tuple[bytes | None, ...]


class Store(Protocol):
    """Versions of records by key."""

    @property
    def url(self) -> str:
        """Where it is, without a password."""

    @property
    def keeps_time(self) -> bool:
        """Whether records can expire."""

    def versions(self) -> dict[str, Version]:
        """All versions, oldest first."""

    def current(self) -> str | None:
        """The name of the version that readers see."""

    def begin(self, version: Version) -> None:
        """Make an empty, incomplete version."""

    def settle(self) -> None:
        """Let readers see whatever was committed, also by a writer that was killed before it could say so."""

    def append(self, name: str, start: int, pairs: Sequence[Pair]) -> None:
        """Write further records, and that there are ``start + len(pairs)`` now: both or neither.

        Raises
        ------
        StoreError
            There are not ``start`` records, since another process writes too, or a key is there already.
        """

    def finish(self, name: str, *, use: bool) -> None:
        """Mark the version as complete and, in the same transaction, make it the current one."""

    def use(self, name: str) -> None:
        """Make another complete version the current one."""

    def remove(self, name: str) -> None:
        """Delete a version that is not current."""

    def fetch(self, name: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The records of a version."""

    def read(self, keys: Sequence[bytes]) -> Read:
        """The records of the current version, all of the same one."""

    def close(self) -> None:
        """Let go of files and connections."""


def complete_version(versions: dict[str, Version], name: str) -> Version:
    """The version of this name, if readers may see it.

    Raises
    ------
    OptionError
        There is none, or it is not complete.
    """
    version = known_version(versions, name)
    if not version.complete:
        raise OptionError(f"version {name} is not complete: push it again to resume it, or remove it")
    return version


def known_version(versions: dict[str, Version], name: str) -> Version:
    """The version of this name.

    Raises
    ------
    OptionError
        There is none.
    """
    if name not in versions:
        close = nearest(name, versions) or list(versions)[-3:]
        there = f"there {'is' if len(close) == 1 else 'are'} {', '.join(close)}" if close else "it is empty"
        raise OptionError(f"no version {name!r} in the store; {there}")
    return versions[name]


def check_removable(versions: dict[str, Version], name: str, current: str | None) -> None:
    """Raise OptionError if there is no such version, or readers see it."""
    known_version(versions, name)
    if name == current:
        raise OptionError(f"version {name} is the current one: use another version first, then remove this one")


def check_start(name: str, there: int, start: int) -> None:
    """Raise StoreError unless a version holds as many records as its writer thinks."""
    if there != start:
        raise StoreError(
            f"version {name} holds {there:,} records and not {start:,}: another process pushes it too; let one of them "
            "finish"
        )


def twice(name: str) -> StoreError:
    """The error of a key that comes a second time."""
    return StoreError(
        f"version {name}: a key comes a second time after others; rows of one key must stand together: sort the rows "
        "by the key and push again"
    )
