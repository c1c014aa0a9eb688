"""The files of a MovieLens archive, zipped or unpacked, to Arrow tables."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from ranef.errors import DataError, OptionError
from ranef.table import from_numpy, to_numpy

AGE_GROUPS = ("Under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+")
_AGE_STARTS = (1, 18, 25, 35, 45, 50, 56)  # also the codes of ml-1m

# ml-1m has numbers for these
_OCCUPATIONS = (
    "other",
    "academic/educator",
    "artist",
    "clerical/admin",
    "college/grad student",
    "customer service",
    "doctor/health care",
    "executive/managerial",
    "farmer",
    "homemaker",
    "K-12 student",
    "lawyer",
    "programmer",
    "retired",
    "sales/marketing",
    "scientist",
    "self-employed",
    "technician/engineer",
    "tradesman/craftsman",
    "unemployed",
    "writer",
)

# ml-100k has a column of 0 and 1 for each, after "unknown"
_GENRES = (
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_NO_GENRES = "(no genres listed)"
_RATING = {"user_id": pa.int32(), "item_id": pa.int32(), "rating": pa.int64(), "timestamp": pa.int64()}


@dataclass(frozen=True)
class Archive:
    """Files by their names, in a folder or in a zip file.

    Attributes
    ----------
    path : Path
        The folder or the zip file.
    members : mapping of str to str
        Name without folders to the place in the zip file; empty for a folder.
    """

    path: Path
    members: Mapping[str, str]

    def has(self, name: str) -> bool:
        return name in self.members or (self.path / name).is_file()

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A file of the archive, read from its beginning.

        Raises
        ------
        DataError
            It is not there, is damaged, or not in the form that it should have.
        """
        where = f"{self.path}/{name}"
        if not self.has(name):
            raise DataError(f"{self.path} has no file {name}: is it the data set that was asked for, and whole?")
        try:
            if self.members:
                with zipfile.ZipFile(self.path) as zipped, zipped.open(self.members[name]) as file:
                    yield file
            else:
                with (self.path / name).open("rb") as file:
                    yield file
        except (OSError, EOFError, zipfile.BadZipFile, pa.ArrowException, ValueError, IndexError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where} cannot be read: {error}; get the archive again") from error


def open_archive(place: Path, name: str) -> Archive:
    """The archive ``name`` (``ml-100k``) at a place: the zip file, the folder, or a folder that holds one of them.

    Raises
    ------
    OptionError
        There is none.
    DataError
        The zip file is damaged.
    """
    candidates = [place / name, place / f"{name}.zip", place] if place.is_dir() else [place]
    found = next((one for one in candidates if one.exists()), None)
    if found is None:
        raise OptionError(f"path: there is no file or folder {place}")
    if found.is_dir():
        return Archive(found, {})
    try:
        with zipfile.ZipFile(found) as zipped:
            places = [one for one in zipped.namelist() if not one.endswith("/") and not one.startswith("__MACOSX")]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{found} is no zip file, or a damaged one ({error}); remove it and get it again") from error
    return Archive(found, {Path(one).name: one for one in places})


def read_tables(archive: Archive, name: str) -> dict[str, pa.Table]:
    """``ratings``, ``items`` and what else there is, by their names.

    Raises
    ------
    DataError
        A file is missing or damaged.
    """
    if name == "100k":
        return {"ratings": _ratings_100k(archive), "items": _items_100k(archive), "users": _users_100k(archive)}
    if name == "1m":
        return {"ratings": _ratings_1m(archive), "items": _items_1m(archive), "users": _users_1m(archive)}
    tables = {"ratings": _ratings(archive), "items": _items(archive)}
    tables |= {"tags": _tags(archive)} if archive.has("tags.csv") else {}
    tables |= {"links": _links(archive)} if archive.has("links.csv") else {}
    return tables


def licence(archive: Archive, otherwise: str) -> str:
    """The section on the licence in the archive's README, or the whole of it; ``otherwise`` without one."""
    name = next((one for one in ("README", "README.txt") if archive.has(one)), None)
    if name is None:
        return otherwise
    with archive.open(name) as file:
        text = file.read().decode("utf-8", errors="replace").replace("\r\n", "\n")
    sections = re.split(r"^(?=\S.*\n={3,}\s*$)", text, flags=re.MULTILINE)
    return next((one for one in sections if "license" in one.split("\n")[0].lower()), text).strip()


# --- ml-100k


def _ratings_100k(archive: Archive) -> pa.Table:
    with archive.open("u.data") as file:
        table = _plain(file, _RATING)
    if all(archive.has(f"u{fold}.test") for fold in range(1, 6)):
        table = table.append_column("fold", from_numpy(_folds(archive, table)))
    return _dated(table)


def _folds(archive: Archive, table: pa.Table) -> npt.NDArray[np.int8]:
    """The test set that each rating is in; they take every rating once."""
    keys = _pairs(table)
    order = np.argsort(keys)
    folds = np.zeros(len(keys), np.int8)
    for fold in range(1, 6):
        with archive.open(f"u{fold}.test") as file:
            test = _pairs(_plain(file, _RATING))
            places = np.searchsorted(keys, test, sorter=order)
            if places.max(initial=0) == len(keys) or not np.array_equal(keys[order[places]], test):
                raise DataError(f"{archive.path}/u{fold}.test has ratings that u.data lacks; get the archive again")
        folds[order[places]] = fold
    return folds


def _pairs(table: pa.Table) -> npt.NDArray[np.int64]:
    user, item = (to_numpy(table[name].combine_chunks()).astype(np.int64) for name in ("user_id", "item_id"))
    return (user << 32) + item


def _items_100k(archive: Archive) -> pa.Table:
    with archive.open("u.item") as file:
        rows = _split(file, "|")
        genres = ["|".join(g for g, flag in zip(_GENRES, row[6:], strict=True) if flag == "1") for row in rows]
        dates = pc.strptime(pa.array([row[2] or None for row in rows], pa.string()), "%d-%b-%Y", "s").cast(pa.date32())
        return _item_table([int(row[0]) for row in rows], [row[1] for row in rows], genres, {"release_date": dates})


def _users_100k(archive: Archive) -> pa.Table:
    with archive.open("u.user") as file:
        user, age, gender, occupation, zip_code = zip(*_split(file, "|"), strict=True)
        ages = np.array(age, np.int64)
    groups = np.searchsorted(_AGE_STARTS, ages, side="right") - 1
    return pa.table(
        {
            "user_id": pa.array(map(int, user), pa.int32()),
            "gender": pa.array(gender),
            "age": from_numpy(ages),
            "age_group": _age_groups(np.maximum(groups, 0)),
            "occupation": pa.array(occupation),
            "zip": pa.array(zip_code),
        }
    )


# --- ml-1m


def _ratings_1m(archive: Archive) -> pa.Table:
    with archive.open("ratings.dat") as file:
        return _dated(_plain(io.BytesIO(file.read().replace(b"::", b"\t")), _RATING))


def _items_1m(archive: Archive) -> pa.Table:
    with archive.open("movies.dat") as file:
        item, title, genres = zip(*_split(file, "::"), strict=True)
        return _item_table([int(one) for one in item], title, genres, {})


def _users_1m(archive: Archive) -> pa.Table:
    with archive.open("users.dat") as file:
        user, gender, age, occupation, zip_code = zip(*_split(file, "::"), strict=True)
        return pa.table(
            {
                "user_id": pa.array(map(int, user), pa.int32()),
                "gender": pa.array(gender),
                "age_group": _age_groups(np.array([_AGE_STARTS.index(int(one)) for one in age])),
                "occupation": pa.array([_OCCUPATIONS[int(one)] for one in occupation]),
                "zip": pa.array(zip_code),
            }
        )


# --- the newer sets


def _ratings(archive: Archive) -> pa.Table:
    types = {"userId": pa.int32(), "movieId": pa.int32(), "rating": pa.float64(), "timestamp": pa.int64()}
    with archive.open("ratings.csv") as file:
        return _dated(_named(file, types).rename_columns(list(_RATING)))


def _items(archive: Archive) -> pa.Table:
    with archive.open("movies.csv") as file:
        table = _named(file, {"movieId": pa.int32(), "title": pa.string(), "genres": pa.string()})
    genres = ["" if one == _NO_GENRES else one for one in table["genres"].to_pylist()]
    return _item_table(table["movieId"].to_pylist(), table["title"].to_pylist(), genres, {})


def _tags(archive: Archive) -> pa.Table:
    types = {"userId": pa.int32(), "movieId": pa.int32(), "tag": pa.string(), "timestamp": pa.int64()}
    with archive.open("tags.csv") as file:
        return _dated(_named(file, types).rename_columns(["user_id", "item_id", "tag", "timestamp"]))


def _links(archive: Archive) -> pa.Table:
    types = {"movieId": pa.int32(), "imdbId": pa.string(), "tmdbId": pa.int64()}
    with archive.open("links.csv") as file:
        return _named(file, types).rename_columns(["item_id", "imdb_id", "tmdb_id"])


# --- forms


def _plain(file: IO[bytes], types: Mapping[str, pa.DataType]) -> pa.Table:
    """Numbers between tabs, without a line of names."""
    return csv.read_csv(
        file,
        read_options=csv.ReadOptions(column_names=list(types)),
        parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=csv.ConvertOptions(column_types=dict(types)),
    )


def _named(file: IO[bytes], types: Mapping[str, pa.DataType]) -> pa.Table:
    """CSV with a line of names; text is never missing ("NA" is a tag)."""
    return csv.read_csv(
        file,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict(types), include_columns=list(types), strings_can_be_null=False
        ),
    )


def _split(file: IO[bytes], between: str) -> list[list[str]]:
    # not splitlines(), which breaks at other characters too
    return [line.rstrip("\r").split(between) for line in file.read().decode("latin-1").split("\n") if line]


def _dated(table: pa.Table) -> pa.Table:
    """Unix seconds as dates and times, UTC."""
    place = table.column_names.index("timestamp")
    return table.set_column(place, "timestamp", table["timestamp"].cast(pa.timestamp("s")))


def _age_groups(codes: npt.NDArray[np.int64]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(from_numpy(codes.astype(np.int32)), pa.array(AGE_GROUPS))


def _item_table(ids: Sequence[int], titles: Sequence[str], genres: Sequence[str], more: Mapping[str, Any]) -> pa.Table:
    return pa.table(
        {
            "item_id": pa.array(ids, pa.int32()),
            "title": pa.array(titles),
            "year": pa.array([_year(title) for title in titles], pa.int32()),
            "genres": pa.array(genres),
            **more,
        }
    )


def _year(title: str) -> int | None:
    """The year at the end of a title; the first of a range."""
    found = re.search(r"\((\d{4})(?:[-\u2013]\d{0,4})?\)\s*$", title)
    return None if found is None else int(found.group(1))
