"""Push: write a version, read it back, and only then let readers see it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ranef.errors import OptionError, StoreError
from ranef.serve.store.base import Pair, Store, Version, twice
from ranef.serve.store.records import Records

# records of a transaction; a push that is cut off loses no more than these
A_TRANSACTION = 20_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes
    ----------
    version : str
    records : int
        In the version.
    written : int
        By this push: fewer where it went on with an earlier one, none where the version was there.
    removed : tuple of str
        Older versions that made room.
    seconds : float
    """

    version: str
    records: int
    written: int
    removed: tuple[str, ...]
    seconds: float


def push(
    records: Records,
    store: Store,
    *,
    name: str | None = None,
    ttl: int | None = None,
    keep: int | None = None,
    use: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Pushed:
    """Write records into a store as a new version and make it the current one.

    A version of the same records that is incomplete is completed; one that is complete is used again. Readers see the
    version that was current before until the last record has been read back from the store.

    Parameters
    ----------
    records : Records
    store : Store
    name : str, optional
        Of the version; by default from the time and the records.
    ttl : int, optional
        Seconds until the records vanish, in stores that can.
    keep : int, optional
        Complete versions to keep, the current one among them; by default all.
    use : bool
        Whether readers shall see it.
    progress : callable, optional
        Called with the number of records written so far.

    Returns
    -------
    Pushed

    Raises
    ------
    OptionError
        An option is wrong.
    StoreError
        The store fails, a key comes twice, or a record is not read back as it was written.
    """
    begun = time.perf_counter()
    _check_options(store, name, ttl, keep)
    source = records.fingerprint()
    now = time.time()
    store.settle()
    same = [
        one
        for one in store.versions().values()
        if one.source == source and name in (None, one.name) and (one.expires is None or one.expires > now)
    ]
    if same:
        version = same[-1]
    else:
        version = Version(
            name or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{source[:8]}",
            records.kind,
            source,
            records.columns,
            now,
            expires=None if ttl is None else int(now) + ttl,
            about=records.about,
        )
        store.begin(version)
    written = 0
    if not version.complete:
        count = version.records
        for pairs in _after(_chunks(records.pairs()), count):
            if len({key for key, _ in pairs}) < len(pairs):
                raise twice(version.name)
            store.append(version.name, count, pairs)
            count += len(pairs)
            written += len(pairs)
            if progress is not None:
                progress(count)
        _verify(records, store, version.name, count)
        store.finish(version.name, use=use)
    elif use:
        store.use(version.name)
    removed = _remove_old(store, keep)
    done = store.versions()[version.name]
    return Pushed(done.name, done.records, written, removed, time.perf_counter() - begun)


def _check_options(store: Store, name: str | None, ttl: int | None, keep: int | None) -> None:
    if name is not None and not _NAME.fullmatch(name):
        raise OptionError(f"name={name!r}: letters, digits and any of . _ - make the name of a version, 100 at most")
    if ttl is not None and ttl < 1:
        raise OptionError(f"ttl={ttl}: give seconds, 1 or more")
    if ttl is not None and not store.keeps_time:
        raise OptionError(f"ttl={ttl}: records of {store.url} cannot expire; Redis and Valkey can do this")
    if keep is not None and keep < 1:
        raise OptionError(f"keep={keep}: give the number of versions to keep, 1 or more")


def _chunks(lists: Iterator[list[Pair]]) -> Iterator[list[Pair]]:
    held: list[Pair] = []
    for pairs in lists:
        held += pairs
        while len(held) >= A_TRANSACTION:
            yield held[:A_TRANSACTION]
            held = held[A_TRANSACTION:]
    if held:
        yield held


def _after(chunks: Iterator[list[Pair]], count: int) -> Iterator[list[Pair]]:
    """The chunks without the first ``count`` pairs."""
    for pairs in chunks:
        if count < len(pairs):
            yield pairs[count:]
        count = max(0, count - len(pairs))


def _verify(records: Records, store: Store, name: str, count: int) -> None:
    """Raise StoreError unless every record is in the store as it was written."""
    seen = 0
    for pairs in _chunks(records.pairs()):
        found = store.fetch(name, [key for key, _ in pairs])
        if found != [value for _, value in pairs]:
            key = next(key for (key, value), there in zip(pairs, found, strict=True) if value != there)
            raise StoreError(
                f"version {name}: the record {key.decode()} is not in {store.url} as it was written; its server may "
                "have dropped it for want of memory, or its key comes twice: see to that, remove the version and push"
            )
        seen += len(pairs)
    if seen != count:
        raise StoreError(f"version {name}: {count:,} records were written and there are {seen:,} now; push again")


def _remove_old(store: Store, keep: int | None) -> tuple[str, ...]:
    if keep is None:
        return ()
    current = store.current()
    others = [one.name for one in store.versions().values() if one.complete and one.name != current]
    # the newest stay, beside the current one
    old = others[: max(0, len(others) - (keep - 1))] if current is not None else others[: max(0, len(others) - keep)]
    for name in old:
        store.remove(name)
    return tuple(old)
