"""Stores: versions of records by key, in an LMDB file or in Redis. One version is current; readers see it whole."""

from ranef.serve.store.base import Read, Store, Version
from ranef.serve.store.keys import record_key
from ranef.serve.store.open import open_store
from ranef.serve.store.pushing import Pushed, push
from ranef.serve.store.reader import Reader

__all__ = ["Pushed", "Read", "Reader", "Store", "Version", "open_store", "push", "record_key"]
