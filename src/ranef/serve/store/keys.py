"""Keys of records: the column and the id, as text that readers in any language can make."""

from __future__ import annotations

import hashlib
import math
from datetime import date

from ranef.errors import OptionError

Id = str | int | float | bool | date

# LMDB takes keys of up to 511 bytes; longer ids are replaced by their hash
LONGEST = 400


def record_key(column: str, value: Id) -> bytes:
    """``user_id:42``: the column's name, a colon, and the id as text.

    Parameters
    ----------
    column : str
    value : str, int, float, bool or date
        Whole floats have no point; true and false are ``true`` and ``false``; dates are ISO 8601.

    Returns
    -------
    bytes
        UTF-8. Beyond 400 bytes the column, ``#`` and the BLAKE2b-256 of the UTF-8 of the id in hexadecimal digits.

    Raises
    ------
    OptionError
        It is none of these.
    """
    text = _text(value)
    try:
        key = f"{column}:{text}".encode()
        if len(key) <= LONGEST:
            return key
        return f"{column}#{hashlib.blake2b(text.encode(), digest_size=32).hexdigest()}".encode()
    except UnicodeEncodeError:
        raise OptionError(f"{value!r} is no valid text and cannot be an id") from None


def _text(value: Id) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(value)
    if isinstance(value, date):
        return value.isoformat()
    raise OptionError(f"{value!r} cannot be an id: texts, numbers and dates can")
