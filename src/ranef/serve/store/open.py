"""A store by its address."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from ranef.errors import OptionError
from ranef.serve.store.base import Store

_REDIS = {"redis", "rediss", "unix", "valkey", "valkeys"}


def open_store(url: str | os.PathLike[str], *, make: bool = False) -> Store:
    """Open a store.

    Parameters
    ----------
    url : str or path-like
        ``redis://host:port/database``, ``rediss://`` (TLS) or ``unix://path``, for Redis and Valkey, with
        ``?prefix=name`` to keep several in one database; anything else is the path of an LMDB folder.
    make : bool
        Whether to make an LMDB folder that is not there.

    Raises
    ------
    OptionError
        The address is of another kind, there is no store, or its library is not installed.
    StoreError
        It cannot be reached or opened.
    """
    text = os.fspath(url)
    scheme = urlsplit(text).scheme if "://" in text else ""
    try:
        if scheme in _REDIS:
            from ranef.serve.store.redis_store import RedisStore

            return RedisStore.connect(text)
        if scheme:
            raise OptionError(
                f"{text}: a store is a path (LMDB), or an address that begins with redis://, rediss:// or unix://"
            )
        from ranef.serve.store.lmdb_store import LmdbStore

        return LmdbStore.open(Path(text), make=make)
    except ModuleNotFoundError as error:
        raise OptionError(f"stores need the library {error.name!r}: pip install 'ranef[serve]'") from error
