"""The MovieLens data sets of GroupLens, from their archive: ratings, users, items, tags and links as tables."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from ranef.data import movielens_files as files
from ranef.data.download import cache_folder, fetch
from ranef.errors import OptionError, nearest
from ranef.table import preferred_library, to_library

Name: TypeAlias = Literal["100k", "1m", "latest-small", "25m", "32m"]

NAMES = ("100k", "1m", "latest-small", "25m", "32m")
ADDRESS = "https://files.grouplens.org/datasets/movielens"
CITATION = (
    "F. Maxwell Harper and Joseph A. Konstan (2015). The MovieLens Datasets: History and Context. ACM Transactions on "
    "Interactive Intelligent Systems 5 (4), 19. https://doi.org/10.1145/2827872"
)
_TERMS = (
    "MovieLens is GroupLens's (https://grouplens.org/datasets/movielens): for research, not for commercial use; "
    "publications cite Harper and Konstan (2015). All terms are in the attribute `licence` of what you get."
)


@dataclass(frozen=True, eq=False)
class MovieLens:
    """One of the MovieLens data sets, its tables in pandas if that is installed, else polars, else Arrow.

    Attributes
    ----------
    name : str
    ratings : table
        ``user_id``, ``item_id``, ``rating`` (whole stars; 0.5 to 5 in halves in the newer sets), ``timestamp`` (date
        and time, UTC); of ``"100k"`` also ``fold``, 1 to 5: the official test set u1 to u5 that has the row. In the
        order of the file.
    items : table
        ``item_id``, ``title`` as in the file, ``year`` (of the title; missing where it has none), ``genres`` joined by
        ``|``, empty where there are none; of ``"100k"`` also ``release_date``.
    users : table or None
        ``user_id``, ``gender`` (F or M), ``age_group`` (levels from ``Under 18`` to ``56+``), ``occupation`` by name,
        ``zip``; of ``"100k"`` also ``age`` in years, from which the groups of ``"1m"`` are made. None in the newer
        sets, which know nothing of their users.
    tags : table or None
        ``user_id``, ``item_id``, ``tag``, ``timestamp``.
    links : table or None
        ``item_id``, ``imdb_id`` (text), ``tmdb_id``.
    licence : str
        The terms of use, from the archive.
    citation : str
    path : Path
        The archive or folder that was read.
    """

    name: str
    ratings: Any
    items: Any
    users: Any | None
    tags: Any | None
    links: Any | None
    licence: str = field(repr=False)
    citation: str = field(repr=False)
    path: Path

    def __repr__(self) -> str:
        parts = {"users": self.users, "items": self.items, "tags": self.tags, "links": self.links}
        counts = [
            f"{len(table):,} {what}" for what, table in {"ratings": self.ratings, **parts}.items() if table is not None
        ]
        return f"MovieLens {self.name}: {', '.join(counts)}; terms of use in `licence`, from {self.path}"


def movielens(name: Name, path: str | os.PathLike[str] | None = None) -> MovieLens:
    """A MovieLens data set.

    Parameters
    ----------
    name : {"100k", "1m", "latest-small", "25m", "32m"}
        100,000 ratings of 1998, 1,000,209 of 2000 (both with users' age, gender and occupation), about 100,000 up to
        2018, 25,000,095 of 2019, 32,000,204 of 2023.
    path : path, optional
        The archive (``ml-100k.zip``), the folder that was unpacked from it, or a folder that holds one of these.
        Default: the archive in the cache (``$XDG_CACHE_HOME/ranef``, or the platform's), downloaded from GroupLens when
        it is not there yet and checked against the MD5 sum beside it.

    Returns
    -------
    MovieLens

    Raises
    ------
    OptionError
        An unknown name, or nothing at ``path``.
    DataError
        The archive cannot be downloaded, or is damaged. Without a network the message says which file to put where.

    Notes
    -----
    The terms of use are printed to standard error when the archive is downloaded, and are the attribute ``licence``.

    Examples
    --------
    >>> data = ranef.data.movielens("100k")  # doctest: +SKIP
    >>> ranef.fit("rating ~ 1 + (1 | user_id) + (1 | item_id) + (1 | month(timestamp))", data.ratings)  # doctest: +SKIP
    """
    if name not in NAMES:
        close = nearest(str(name), NAMES, count=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise OptionError(f"name={name!r}: {hint}the MovieLens sets are {', '.join(NAMES)}")
    place = _downloaded(name) if path is None else Path(path).expanduser()
    archive = files.open_archive(place, f"ml-{name}")
    tables = files.read_tables(archive, name)
    library = preferred_library()

    def given(table: pa.Table | None) -> Any:
        return None if table is None else to_library(dict(zip(table.column_names, table.columns, strict=True)), library)

    return MovieLens(
        name=name,
        ratings=given(tables["ratings"]),
        items=given(tables["items"]),
        users=given(tables.get("users")),
        tags=given(tables.get("tags")),
        links=given(tables.get("links")),
        licence=files.licence(archive, _TERMS),
        citation=CITATION,
        path=archive.path,
    )


def _downloaded(name: str) -> Path:
    target = cache_folder() / f"ml-{name}.zip"
    if not target.exists():
        fetch(f"{ADDRESS}/{target.name}", target, f"MovieLens {name}")
        print(_TERMS, file=sys.stderr)
    return target
