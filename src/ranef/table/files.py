"""Sources on disk: Parquet, CSV and Arrow files, lists and folders of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from ranef.errors import DataError, OptionError, nearest
from ranef.table.csv_files import csv_batches, csv_schema
from ranef.table.source import BATCH_ROWS, Source, check_names, kinds


@dataclass(frozen=True)
class _Format:
    """How files of one format are read; ``rows`` is None where only reading tells."""

    name: str
    schema: Callable[[Path], pa.Schema]
    rows: Callable[[Path], int | None]
    batches: Callable[[Path, list[str]], Iterator[pa.RecordBatch]]


def open_files(paths: Sequence[str | os.PathLike[str]]) -> Source:
    """A source from paths, globs and folders of files of one format; all files must have the same columns."""
    if len(paths) == 1 and _is_partitioned(Path(paths[0])):
        return _open_partitioned(Path(paths[0]))
    files = [(file, _format_of(file)) for path in paths for file in _expand(path)]
    schemas = []
    for file, form in files:
        with _reading(file, form):
            schemas.append(form.schema(file))
        check_names(schemas[-1].names, str(file))
        _check_same(schemas[0].names, files[0][0], schemas[-1].names, file)
    with _reading(*files[-1]):
        counts = [form.rows(file) for file, form in files]
    known = [count for count in counts if count is not None]

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        chosen = names or schemas[0].names[:1]  # without a column a file would not tell its rows
        for file, form in files:
            with _reading(file, form):
                yield from form.batches(file, chosen)

    # where a file has only missing values the next one tells the type
    typed = {field.name: field for schema in reversed(schemas) for field in schema if not pa.types.is_null(field.type)}
    columns = kinds(pa.schema([typed.get(field.name, field) for field in schemas[0]]))
    return Source(columns, sum(known) if len(known) == len(files) else None, preferred_library(), read)


def preferred_library() -> str:
    """The library of the tables given back when the data came from a path: pandas, else polars, else pyarrow."""
    return next((name for name in ("pandas", "polars") if find_spec(name) is not None), "pyarrow")


def _expand(path: str | os.PathLike[str]) -> list[Path]:
    text = os.path.expanduser(os.fspath(path))
    if not text:
        raise OptionError("data: the path is empty")
    if text == "-":
        raise OptionError("data: standard input ('-') cannot be read; write the rows to a file and pass its path")
    found = Path(text)
    if found.is_dir():
        return _in_folder(found)
    if found.exists():
        return [found]
    if glob.has_magic(text):
        files = sorted(Path(match) for match in glob.glob(text, recursive=True) if os.path.isfile(match))
        if not files:
            raise OptionError(f"no file matches {text}")
        return files
    if not found.parent.is_dir():
        raise OptionError(f"no such file: {text} (there is no folder {found.parent} either)")
    close = nearest(found.name, os.listdir(found.parent))
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise OptionError(f"no such file: {text}{hint}")


def _in_folder(folder: Path) -> list[Path]:
    """The data files in a folder and below it, but not those of saved models; all of one format."""
    if _is_model(folder):
        raise OptionError(f"folder {folder} is a saved model, not data")
    files: dict[str, list[Path]] = {}
    for place, below, names in os.walk(folder):
        below[:] = [name for name in below if not _is_model(Path(place, name))]
        for name in names:
            form = None if name.startswith(".") else _known_format(name)
            if form is not None:
                files.setdefault(form.name, []).append(Path(place, name))
    if not files:
        known = f"{', '.join(list(_FORMATS)[:-1])} or {list(_FORMATS)[-1]}"
        raise OptionError(f"folder {folder} holds no {known} file; pass the files themselves or a glob")
    if len(files) > 1:
        one, other, *_ = (min(found) for found in files.values())
        raise OptionError(
            f"folder {folder} holds files of several formats, such as {one.name} and {other.name}; "
            f"pass those of one, such as '{folder / '*'}{one.suffix}'"
        )
    return sorted(next(iter(files.values())))


def _is_model(folder: Path) -> bool:
    return (folder / "manifest.json").is_file() and (folder / "arrays.safetensors").is_file()


def _known_format(name: str) -> _Format | None:
    plain = name.lower().removesuffix(".gz")
    for extension, form in _FORMATS.items():
        if plain.endswith(extension) and (form is _CSV or plain == name.lower()):
            return form
    return None


def _format_of(file: Path) -> _Format:
    form = _known_format(file.name)
    if form is not None:
        return form
    raise OptionError(
        f"{file}: the extension does not tell a known format; "
        "known are .parquet, .csv, .tsv (these two also with .gz), .arrow and .feather"
    )


@contextmanager
def _reading(file: Path, form: _Format) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as {form.name}: {error}") from error


def _check_same(first: list[str], first_file: Path, names: list[str], file: Path) -> None:
    for name in first:
        if name not in names:
            raise DataError(f"column {name!r} of {first_file} is not in {file}", column=name)
    for name in names:
        if name not in first:
            raise DataError(f"column {name!r} of {file} is not in {first_file}", column=name)


def _is_partitioned(path: Path) -> bool:
    return bool(path.name) and path.is_dir() and any("=" in folder.name for folder in path.iterdir() if folder.is_dir())


def _open_partitioned(path: Path) -> Source:
    """A source from a folder with ``column=value`` folders in it, as Spark and others write it."""
    import pyarrow.dataset as ds

    form = _FORMATS[".parquet"]
    with _reading(path, form):
        dataset = ds.dataset(str(path), format="parquet", partitioning="hive")
        fragments = sorted(dataset.get_fragments(), key=lambda fragment: str(fragment.path))
        rows = dataset.count_rows()
        for fragment in fragments:
            names = fragment.physical_schema.names
            _check_same(fragments[0].physical_schema.names, Path(fragments[0].path), names, Path(fragment.path))
    check_names(dataset.schema.names, str(path))

    def read(names: list[str]) -> Iterator[pa.RecordBatch]:
        with _reading(path, form):
            yield from dataset.to_batches(columns=names or dataset.schema.names[:1], batch_size=BATCH_ROWS)

    return Source(kinds(dataset.schema), rows, preferred_library(), read)


def _parquet_schema(file: Path) -> pa.Schema:
    import pyarrow.parquet as pq

    return pq.read_schema(file)


def _parquet_rows(file: Path) -> int:
    import pyarrow.parquet as pq

    return int(pq.read_metadata(file).num_rows)


def _parquet_batches(file: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    # buffering ahead would read the whole file before the first batch
    with (
        pq.ParquetFile(file, pre_buffer=False) as parquet,
        ThreadPoolExecutor(1, thread_name_prefix="ranef-read") as pool,
    ):
        batches = parquet.iter_batches(batch_size=BATCH_ROWS, columns=names)
        # the next batch is decoded while this one is worked on
        ahead = pool.submit(next, batches, None)
        while (batch := ahead.result()) is not None:
            ahead = pool.submit(next, batches, None)
            yield batch


def _csv_rows(file: Path) -> None:
    return None


def _arrow_schema(file: Path) -> pa.Schema:
    with pa.memory_map(str(file)) as source, pa.ipc.open_file(source) as reader:
        return reader.schema


def _arrow_rows(file: Path) -> int:
    with pa.memory_map(str(file)) as source, pa.ipc.open_file(source) as reader:
        return sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))


def _arrow_batches(file: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(file)) as source, pa.ipc.open_file(source) as reader:
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i).select(names)


_PARQUET = _Format("Parquet", _parquet_schema, _parquet_rows, _parquet_batches)
_CSV = _Format("CSV", csv_schema, _csv_rows, csv_batches)
_ARROW = _Format("an Arrow file", _arrow_schema, _arrow_rows, _arrow_batches)
_FORMATS = {".parquet": _PARQUET, ".csv": _CSV, ".tsv": _CSV, ".arrow": _ARROW, ".feather": _ARROW}
