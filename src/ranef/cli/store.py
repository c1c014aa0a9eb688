"""``ranef store ls``, ``use``, ``rm`` and ``get``."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from ranef.cli.guard import guarded, note
from ranef.errors import OptionError

if TYPE_CHECKING:
    from ranef.serve.store import Version

_Store = Annotated[
    str, typer.Argument(metavar="STORE", help="A folder (LMDB), or redis://HOST:PORT/DB.", show_default=False)
]
_Name = Annotated[str, typer.Argument(metavar="VERSION", help="Its name, as ls has it.", show_default=False)]

store = typer.Typer(name="store", help="What is in a store: list, switch and remove versions.", no_args_is_help=True)


@store.command("ls")
@guarded
def ls(
    url: _Store,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """List the versions, oldest first; * is the one that readers see."""
    import msgspec

    from ranef.serve.store import open_store

    opened = open_store(url)
    try:
        versions, current = opened.versions(), opened.current()
    finally:
        opened.close()
    if json:
        document = {"store": opened.url, "current": current, "versions": list(versions.values())}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
        return
    for version in versions.values():
        print(f"{'*' if version.name == current else ' '} {_line(version)}")
    if not versions:
        note(f"{opened.url} is empty")


@store.command("use")
@guarded
def use(url: _Store, name: _Name) -> None:
    """Let readers see another complete version, such as the one before."""
    from ranef.serve.store import open_store

    opened = open_store(url)
    try:
        opened.use(name)
    finally:
        opened.close()
    note(f"readers of {opened.url} see version {name} now")


@store.command("rm")
@guarded
def rm(url: _Store, name: _Name) -> None:
    """Remove a version that readers do not see, or one that is incomplete."""
    from ranef.serve.store import open_store

    opened = open_store(url)
    try:
        opened.remove(name)
    finally:
        opened.close()
    note(f"removed version {name} from {opened.url}")


@store.command("get")
@guarded
def get(url: _Store, id: Annotated[str, typer.Argument(metavar="ID", show_default=False)]) -> None:
    """Print the list of one id as JSON, as a reader sees it."""
    import msgspec

    from ranef.serve.store import Reader, open_store

    opened = open_store(url)
    try:
        found = Reader(opened).lists([id])[0]
    finally:
        opened.close()
    if found is None:
        raise OptionError(f"no record of {id!r} in the current version of {opened.url}")
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


def _line(version: Version) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(version.created))
    words = [version.name, when, f"{version.records:,} records", version.kind, " ".join(version.columns)]
    if not version.complete:
        words.append("incomplete")
    if version.expires is not None:
        words.append(f"expires {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(version.expires))}")
    return "  ".join(words)
