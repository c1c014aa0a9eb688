"""Files from their publisher, kept in a cache: fetched once, checked, and never seen half-written."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

from ranef.errors import DataError

_TIMEOUT = 60
_CHUNK = 1 << 20


def cache_folder() -> Path:
    """Where downloads are kept: ``$XDG_CACHE_HOME/ranef`` or what the platform has in its place."""
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return Path(given) / "ranef"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ranef"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ranef" / "Cache"
    return Path.home() / ".cache" / "ranef"


def fetch(address: str, target: Path, what: str) -> None:
    """Download a file and check it against the MD5 sum that its publisher keeps beside it (``address`` + ``.md5``).

    The sum tells a transfer that broke off or was tampered with on the way from one that did not; it comes from the
    same server as the file.

    Parameters
    ----------
    address : str
        Of a server that is trusted.
    target : Path
        Appears only when it is whole; its folder is made.
    what : str
        What the file is, for messages.

    Raises
    ------
    DataError
        Without a network, without room, or if the sums differ; says how to get the file otherwise.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    otherwise = f"download {address} elsewhere and put it at {target}, or give its place as path="
    try:
        wanted = _sum(_read(f"{address}.md5"), address)
        target.parent.mkdir(parents=True, exist_ok=True)
        found = _save(address, partial, what)
        if found != wanted:
            raise DataError(
                f"{what}: the download from {address} has the MD5 sum {found}, its publisher says {wanted}; it is not "
                f"kept. Try again, or {otherwise}"
            )
        partial.replace(target)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(
            f"{what} is not on this machine and {address} cannot be read ({reason}): {otherwise}"
        ) from error
    except OSError as error:
        raise DataError(f"{what} cannot be kept in {target.parent} ({error.strerror or error}): {otherwise}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _read(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=_TIMEOUT) as response:
        content: bytes = response.read(_CHUNK)
    return content


def _sum(text: bytes, address: str) -> str:
    """The sum in what ``md5`` or ``md5sum`` has written."""
    found = re.search(rb"\b[0-9a-f]{32}\b", text)
    if found is None:
        raise urllib.error.URLError(f"{address}.md5 holds no MD5 sum")
    return found.group().decode()


def _save(address: str, target: Path, what: str) -> str:
    """Write what is at the address, say so on standard error, and give its MD5 sum."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    live = sys.stderr.isatty()
    with urllib.request.urlopen(address, timeout=_TIMEOUT) as response, target.open("wb") as file:
        size = int(response.headers.get("Content-Length") or 0)
        print(f"{what}: {f'{size / 1e6:,.1f} MB ' if size else ''}from {address}", file=sys.stderr)
        while block := response.read(_CHUNK):
            file.write(block)
            digest.update(block)
            done += len(block)
            if live and size:
                print(f"\r{done / size:5.0%}", end="", file=sys.stderr, flush=True)
        if live and size:
            print(file=sys.stderr)
    if size and done != size:
        raise http.client.IncompleteRead(b"", size - done)
    return digest.hexdigest()
