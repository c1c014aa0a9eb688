"""Where the arrays that grow with the rows live: in memory, or in temporary files mapped into it.

Mapped arrays are arrays like any other. Their pages are the system's to keep: once read or written they count as this
process's memory until `Storage.trim` gives them back, and the next access finds them in the system's cache or on disk.
The files have no name: whatever ends the process, nothing is left behind.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import sys
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ranef.errors import FitError, OptionError

# a pass over the rows in NumPy takes this many at a time
ROWS_A_PIECE = 1 << 17
# smaller arrays stay in memory
SMALLEST_FILE = 1 << 20
LARGEST_SCRATCH = 1 << 28
# mapped pages are given back when this share of a budget is in use; the rest is for what a piece of work adds
SHARE = 0.75

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?\s*", re.IGNORECASE)
_MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs"}


@dataclass(frozen=True, eq=False)
class Storage:
    """A place for arrays; use `storage` to choose one.

    Attributes
    ----------
    memory : float
        Arrays of together this many bytes stay in memory; later ones are mapped.
    resident : float
        Bytes of the process above which mapped pages are given back.
    budget : float
        Bytes of the process that end the fit.
    """

    memory: float = math.inf
    resident: float = math.inf
    budget: float = math.inf
    _arrays: list[weakref.ref[npt.NDArray[Any]]] = field(default_factory=list)
    _maps: list[weakref.ref[mmap.mmap]] = field(default_factory=list)

    def __reduce__(self) -> tuple[type[Storage], tuple[()]]:
        # arrays are copied and pickled into memory
        return Storage, ()

    def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
        """An array with arbitrary content, in C order.

        Raises
        ------
        FitError
            There is no room for its file.
        """
        kind = np.dtype(dtype)
        shape = (shape,) if isinstance(shape, int) else shape
        size = math.prod(shape) * kind.itemsize
        if size < SMALLEST_FILE or self.memory == math.inf:
            return np.empty(shape, kind)
        self._arrays[:] = [one for one in self._arrays if one() is not None]
        held = sum(array.nbytes for one in self._arrays if (array := one()) is not None)
        if held + size <= self.memory:
            array = np.empty(shape, kind)
            self._arrays.append(weakref.ref(array))
            return array
        pages = _map(size)
        self._maps[:] = [one for one in self._maps if one() is not None]
        self._maps.append(weakref.ref(pages))
        return np.ndarray(shape, kind, buffer=pages)

    def scratch(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike = np.float64) -> npt.NDArray[Any]:
        """As `empty`, for an array that is soon done with and written in no order: on disk only if it is very large."""
        size = math.prod((shape,) if isinstance(shape, int) else shape) * np.dtype(dtype).itemsize
        return np.empty(shape, dtype) if size <= LARGEST_SCRATCH else self.empty(shape, dtype)

    def trim(self) -> None:
        """Give mapped pages back if the process holds more than it should; any thread may call this at any time.

        Raises
        ------
        FitError
            The budget is exceeded by what is not mapped.
        """
        if self.resident == math.inf or (self.budget == math.inf and not self._maps):
            return
        held = resident_memory()
        if held is not None and held <= self.resident:
            return
        if hasattr(mmap, "MADV_DONTNEED"):
            for one in tuple(self._maps):
                pages = one()
                if pages is not None:
                    pages.madvise(mmap.MADV_DONTNEED)
        held = resident_memory()
        if held is not None and held > self.budget:
            raise FitError(
                f"memory={_readable(self.budget)!r} is not enough: {_readable(held)} are in use without the rows, "
                "which are on disk; what is left grows with the levels of the grouping factors and with the probes. "
                "Give more memory, or take fewer probes"
            )

    def pieces(self, rows: int) -> Iterator[slice]:
        """Slices that cover the rows, to be worked on one after the other; memory is trimmed between them."""
        for start in range(0, rows, ROWS_A_PIECE):
            yield slice(start, min(start + ROWS_A_PIECE, rows))
            self.trim()


MEMORY = Storage()


def storage(memory: str | int = "auto") -> Storage:
    """Where a fit keeps its rows.

    Parameters
    ----------
    memory : {"auto", "memory", "disk"}, str or int
        ``"disk"`` maps all large arrays; a size (``"2GB"``, ``"1.5GiB"``, bytes) maps them too and gives pages back
        only where the process would hold more than that; ``"auto"`` keeps arrays in memory up to half of what the
        machine or the container has to spare, and maps what comes after them.

    Raises
    ------
    OptionError
        It is none of these, a size that the process holds already, or there is no disk for temporary files.
    """
    if memory == "memory":
        return MEMORY
    if memory == "auto":
        spare = available_memory()
        if spare is None or _folder() is None:
            return MEMORY
        return Storage(spare / 2, (resident_memory() or 0) + SHARE * spare)
    budget = None if memory == "disk" else _bytes(memory)
    if _folder() is None:
        raise OptionError(
            f"memory={memory!r} needs temporary files, and {tempfile.gettempdir()} is itself in memory; set the "
            "environment variable TMPDIR to a folder on a disk"
        )
    if budget is None:
        return Storage(0, 0)
    held = resident_memory() or 0
    if held > SHARE * budget:
        raise OptionError(
            f"memory={memory!r}: this process holds {_readable(held)} already, and the budget is for all of it; give "
            f"at least {_readable(2 * held)}"
        )
    return Storage(0, SHARE * budget, budget)


def resident_memory() -> int | None:
    """Bytes of physical memory that this process holds; None where the system does not say."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read(128).split()[1]) * mmap.PAGESIZE
    except OSError:
        return None


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes of memory that can be taken without swapping, within the limits of the container; None if not known."""
    found = [_machine_memory(root), *_container_memory(root)]
    known = [size for size in found if size is not None]
    return min(known) if known else None


def _machine_memory(root: Path) -> int | None:
    text = _read(root / "proc" / "meminfo")
    line = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    if line:
        return int(line[1]) * 1024
    try:
        return os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE // 2
    except (AttributeError, ValueError, OSError):
        return None


def _container_memory(root: Path) -> Iterator[int | None]:
    """What control groups leave to this process, from its own group up; files in the cache can be dropped."""
    control = root / "sys" / "fs" / "cgroup"
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, kinds, path = line.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        base = control if kinds == "" else control / "memory"
        names = ("memory.max", "memory.current", "inactive_file")
        if kinds == "memory":
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        group = base / path.lstrip("/")
        while True:
            limit, used = _read(group / names[0]).strip(), _read(group / names[1]).strip()
            if limit.isdecimal() and used.isdecimal():
                cache = re.search(rf"^{names[2]} (\d+)", _read(group / "memory.stat"), re.MULTILINE)
                yield int(limit) - int(used) + (int(cache[1]) if cache else 0)
            if group == base:
                break
            group = group.parent


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _bytes(memory: str | int) -> int:
    if isinstance(memory, int | np.integer) and not isinstance(memory, bool) and memory > 0:
        return int(memory)
    found = _SIZE.fullmatch(memory) if isinstance(memory, str) else None
    if found is None or float(found[1]) == 0:
        raise OptionError(f"memory={memory!r} is not known: use 'auto', 'memory', 'disk', or a size such as '2GB'")
    unit = _UNITS[found[2].upper()]
    power = round(math.log(unit, 1000))
    return int(float(found[1]) * (1024**power if found[3] else unit))


def _readable(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g}{unit}"
        size /= 1000
    return f"{size:.3g}TB"


def _map(size: int) -> mmap.mmap:
    folder = _folder()
    try:
        with tempfile.TemporaryFile(prefix="ranef-", dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                # a page that finds no room on the disk when it is written ends the process: all are reserved now
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise FitError(
            f"there is no room for {_readable(size)} of temporary files in {folder} ({error.strerror}); free some, or "
            "set the environment variable TMPDIR to a folder on a larger disk"
        ) from error


def _folder() -> str | None:
    """The folder of temporary files; where the usual one is in memory, another; None if there is none on a disk."""
    usual = tempfile.gettempdir()
    if not _in_memory(usual):
        return usual
    other = "/var/tmp"
    chosen = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return None if chosen or not os.access(other, os.W_OK) or _in_memory(other) else other


def _in_memory(folder: str) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    place, kind = "", ""
    for line in _read(Path("/proc/self/mounts")).splitlines():
        _, point, found, *_ = line.split()
        if len(point) >= len(place) and Path(folder).resolve().is_relative_to(point):
            place, kind = point, found
    return kind in _MEMORY_FILE_SYSTEMS
