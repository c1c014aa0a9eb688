"""Words of a command line that can be pasted into a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from ranef.errors import OptionError

DATA_HELP = (
    "Parquet, CSV (UTF-8) or Arrow files, a glob, or a folder that holds files of one of these formats; saved models "
    "in it are passed over."
)


TABLE_HELP = (
    "A table of attributes, one row for each value of KEY: columns that the data lack are read from it. Repeatable."
)


def tables_of(words: Iterable[str] | None) -> dict[str, str] | None:
    """The mapping that ``KEY=FILE`` words say; None without any.

    Raises
    ------
    OptionError
        A word has no ``=``, or a key stands twice.
    """
    tables: dict[str, str] = {}
    for word in words or ():
        key, sign, file = word.partition("=")
        if not (sign and key and file):
            raise OptionError(f"--table {word}: write KEY=FILE, such as user_id=users.parquet")
        if key in tables:
            raise OptionError(f"--table {word}: the key {key} has a table already")
        tables[key] = file
    return tables or None


def quoted(formula: str) -> str:
    """The formula in double quotes, as the help writes it, or in single ones where a shell would look into those."""
    return shlex.quote(formula) if any(sign in formula for sign in '`$"\\!') else f'"{formula}"'


def in_flags(text: str, options: Iterable[str]) -> str:
    """A message of the library with its arguments as a command line has them.

    ``level=95: give ...`` becomes ``--level 95: give ...``, and ``raise max_iterations`` becomes
    ``raise --max-iterations``; a name of one word that no ``=`` follows is mostly no argument, and stays.

    Parameters
    ----------
    text : str
    options : iterable of str
        The command's options as the library names them.
    """
    before = r"(?<![\w.'/-])"  # not within a value or a path
    for name in options:
        flag = f"--{name.replace('_', '-')}"
        text = re.sub(rf"{before}{name}=(?=[\w'\"-])", f"{flag} ", text)
        text = re.sub(rf"{before}{name}{'=?' if '_' in name else '='}(?!\w)", flag, text)
    return text
