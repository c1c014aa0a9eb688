"""What a program that serves from a store asks for: the record of an id, of the current version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ranef.errors import OptionError
from ranef.serve.store.base import Store, Version
from ranef.serve.store.keys import Id, record_key


@dataclass(frozen=True, eq=False)
class Reader:
    """Records of a store by id. Every answer is of one version, whatever is pushed meanwhile.

    Attributes
    ----------
    store : Store
    """

    store: Store

    def lists(self, ids: Sequence[Id], column: str | None = None) -> list[dict[str, list[Any]] | None]:
        """The lists of ids, best first.

        Parameters
        ----------
        ids : sequence of ids
        column : str, optional
            Their column; by default that of the lists that were pushed.

        Returns
        -------
        list of dict of lists, or None for an id without a list
            By column.

        Raises
        ------
        OptionError
            The current version holds no lists, or there is none.
        """
        version = self._version("lists")
        while True:
            keys = [record_key(column or version.columns[0], one) for one in ids]
            read = self.store.read(keys)
            if read.version is not None and read.version.columns == version.columns:
                return [
                    None
                    if value is None
                    else dict(zip(version.columns[1:], msgspec.msgpack.decode(value), strict=True))
                    for value in read.values
                ]
            version = self._version("lists")

    def vectors(self, ids: Sequence[Id], column: str) -> list[npt.NDArray[np.float32] | None]:
        """The vectors of users or items: their products are scores on the scale of the linear predictor.

        Parameters
        ----------
        ids : sequence of ids
        column : str
            ``user_id``, say.

        Raises
        ------
        OptionError
            The current version holds no vectors, or there is none.
        """
        read = self.store.read([record_key(column, one) for one in ids])
        _checked(read.version, "vectors", self.store.url)
        return [None if value is None else np.frombuffer(value, np.dtype("<f4")) for value in read.values]

    def _version(self, kind: str) -> Version:
        return _checked(self.store.read(()).version, kind, self.store.url)


def _checked(version: Version | None, kind: str, url: str) -> Version:
    if version is None:
        raise OptionError(f"{url} has no current version; push one, or use one")
    if version.kind != kind:
        raise OptionError(f"the current version of {url}, {version.name}, holds {version.kind} and no {kind}")
    return version
