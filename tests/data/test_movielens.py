"""MovieLens from its archive: zipped, unpacked, or downloaded from a server on this machine."""

from __future__ import annotations

import datetime
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ranef.data import movielens, named
from ranef.data.download import cache_folder
from ranef.errors import DataError, OptionError

README = """SUMMARY
=======

Ratings.

USAGE LICENSE
=============

For research.

CITATION
========

Cite.
"""
GENRES_100K = "0|0|0|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0|0"
FILES = {
    "100k": {
        "README": README,
        "u.data": "196\t242\t3\t881250949\n186\t302\t3\t891717742\n22\t242\t1\t878887116\n1\t302\t5\t878887117\n"
        "1\t242\t4\t1\n",
        "u.item": "242|Kolya (1996)|24-Jan-1997||http://us|" + GENRES_100K + "\n302|unknown||||1" + "|0" * 18 + "\n",
        "u.user": "1|24|M|technician|85711\n196|49|M|writer|55105\n186|39|F|executive|00000\n22|7|M|student|T8H1N\n",
        "u1.test": "1\t242\t4\t1\n",
        "u2.test": "196\t242\t3\t881250949\n",
        "u3.test": "1\t302\t5\t878887117\n",
        "u4.test": "186\t302\t3\t891717742\n",
        "u5.test": "22\t242\t1\t878887116\n",
    },
    "1m": {
        "README": README,
        "ratings.dat": "1::1193::5::978300760\n2::661::3::978302109\n",
        "movies.dat": "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
        "1193::Caf\xe9 \x85: One (1975)::Drama\n",
        "users.dat": "1::F::1::10::48067\n2::M::56::0::70072-1234\n",
    },
    "latest-small": {
        "README.txt": README,
        "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n2,7,0.5,1445714835\n",
        "movies.csv": 'movieId,title,genres\n1,"American President, The (1995)",Comedy|Drama\n'
        '7,"Death Note (2006\u20132007)",(no genres listed)\n'
        "9,Nameless,Drama\n",
        "tags.csv": "userId,movieId,tag,timestamp\n2,7,NA,1445714994\n",
        "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n7,0000001,\n",
    },
}


def write_zip(folder: Path, name: str) -> Path:
    path = folder / f"ml-{name}.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("__MACOSX/._README", "nothing")
        zipped.writestr(f"ml-{name}/", "")
        for file, text in FILES[name].items():
            zipped.writestr(f"ml-{name}/{file}", text.encode("latin-1" if name in ("100k", "1m") else "utf-8"))
    return path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server on this machine that stands for the publisher's; an empty cache."""
    served = tmp_path / "served"
    served.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=served)) as http:
        monkeypatch.setattr(named, "ADDRESS", f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield served
        http.shutdown()
        thread.join()


def test_100k(tmp_path: Path) -> None:
    found = movielens("100k", write_zip(tmp_path, "100k"))
    assert list(found.ratings["fold"]) == [2, 4, 5, 3, 1]
    assert list(found.ratings.columns) == ["user_id", "item_id", "rating", "timestamp", "fold"]
    assert found.ratings["timestamp"][0] == datetime.datetime(1997, 12, 4, 15, 55, 49)
    assert list(found.users["age_group"]) == ["18-24", "45-49", "35-44", "Under 18"]
    assert found.users["age_group"].cat.categories[0] == "Under 18"
    assert list(found.users["zip"]) == ["85711", "55105", "00000", "T8H1N"]
    assert list(found.items["genres"]) == ["Animation|Children's", ""]
    assert found.items["year"][0] == 1996
    assert found.items["year"].isna()[1]
    assert found.items["release_date"][0] == datetime.date(1997, 1, 24)
    assert found.licence == "USAGE LICENSE\n=============\n\nFor research."
    assert "Harper" in found.citation
    assert repr(found).startswith("MovieLens 100k: 5 ratings, 4 users, 2 items;")
    assert found.tags is None


def test_1m(tmp_path: Path) -> None:
    found = movielens("1m", write_zip(tmp_path, "1m"))
    assert found.ratings["rating"].tolist() == [5, 3]
    assert found.users.iloc[1].tolist() == [2, "M", "56+", "other", "70072-1234"]
    assert found.users["occupation"][0] == "K-12 student"
    assert found.items["title"].tolist() == ["James and the Giant Peach (1996)", "Caf\xe9 \x85: One (1975)"]
    assert found.items["year"].tolist() == [1996, 1975]


def test_newer_sets(tmp_path: Path) -> None:
    found = movielens("latest-small", write_zip(tmp_path, "latest-small"))
    assert found.ratings["rating"].tolist() == [4.0, 0.5]
    assert found.items["genres"].tolist() == ["Comedy|Drama", "", "Drama"]
    assert found.items["year"].fillna(0).tolist() == [1995, 2006, 0]
    assert found.tags["tag"].tolist() == ["NA"]
    assert found.links["imdb_id"].tolist() == ["0114709", "0000001"]
    assert found.users is None


def test_the_archive_may_be_unpacked_or_in_a_folder(tmp_path: Path) -> None:
    packed = write_zip(tmp_path, "1m")
    of_zip = movielens("1m", tmp_path)
    with zipfile.ZipFile(packed) as zipped:
        zipped.extractall(tmp_path / "unpacked")
    for place in (tmp_path / "unpacked", tmp_path / "unpacked" / "ml-1m"):
        found = movielens("1m", place)
        assert found.ratings.equals(of_zip.ratings)
        assert found.path.name == "ml-1m"


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_other_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setattr(named, "preferred_library", lambda: library)
    found = movielens("100k", write_zip(tmp_path, "100k"))
    assert type(found.ratings).__module__.startswith(library.removesuffix("row"))
    assert found.ratings["fold"].to_pylist() == [2, 4, 5, 3, 1] if library == "pyarrow" else True


def test_download_is_checked_and_kept(server: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = write_zip(server, "100k").read_bytes()
    (server / "ml-100k.zip.md5").write_text(f"MD5 (ml-100k.zip) = {hashlib.md5(content).hexdigest()}\n")
    found = movielens("100k")
    assert found.path == cache_folder() / "ml-100k.zip"
    said = capsys.readouterr()
    assert said.out == ""
    assert "for research" in said.err
    for file in server.iterdir():
        file.unlink()
    assert len(movielens("100k").ratings) == 5
    assert capsys.readouterr().err == ""
    assert [one.name for one in cache_folder().iterdir()] == ["ml-100k.zip"]


@pytest.mark.parametrize(
    ("md5", "said"),
    [
        ("0" * 32, "its publisher says 0000"),
        ("none", "holds no MD5 sum"),
        (None, "cannot be read .*put it at .*ml-1m.zip, or give its place as path="),
    ],
)
def test_a_download_that_cannot_be_trusted_is_not_kept(server: Path, md5: str | None, said: str) -> None:
    write_zip(server, "1m")
    if md5 is not None:
        (server / "ml-1m.zip.md5").write_text(md5)
    with pytest.raises(DataError, match=said):
        movielens("1m")
    assert not cache_folder().exists() or not list(cache_folder().iterdir())


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(named, "ADDRESS", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"download http://127.0.0.1:9/ml-25m.zip elsewhere and put it at .*ml-25m.zip"):
        movielens("25m")


def test_a_cache_that_cannot_be_written(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write_zip(server, "1m").read_bytes()
    (server / "ml-1m.zip.md5").write_text(hashlib.md5(content).hexdigest())
    monkeypatch.setenv("XDG_CACHE_HOME", str(server / "ml-1m.zip"))
    with pytest.raises(DataError, match="cannot be kept in"):
        movielens("1m")


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"did you mean '100k'.*latest-small"):
        movielens("100K", tmp_path)
    with pytest.raises(OptionError, match="no file or folder"):
        movielens("1m", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"has no file ratings\.dat"):
        movielens("1m", tmp_path)
    damaged = tmp_path / "ml-1m.zip"
    damaged.write_bytes(b"PK")
    with pytest.raises(DataError, match="no zip file"):
        movielens("1m", damaged)
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    for name, text in FILES["100k"].items():
        (folder / name).write_text(text.replace("878887116", "x") if name == "u.data" else text, newline="")
    with pytest.raises(DataError, match=r"u.data cannot be read"):
        movielens("100k", folder)
    (folder / "u.data").write_text(FILES["100k"]["u.data"].replace("22\t242", "23\t242"))
    with pytest.raises(DataError, match=r"u5\.test has ratings that u.data lacks"):
        movielens("100k", folder)


@pytest.mark.parametrize(
    ("platform", "folder"),
    [("darwin", "Library/Caches/ranef"), ("win32", "AppData/Local/ranef/Cache"), ("linux", ".cache/ranef")],
)
def test_cache_of_the_platform(monkeypatch: pytest.MonkeyPatch, platform: str, folder: str) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr("sys.platform", platform)
    assert cache_folder() == Path.home() / folder
