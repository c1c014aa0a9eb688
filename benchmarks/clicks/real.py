"""Where real data lie."""

from __future__ import annotations

import os
from pathlib import Path


class Unavailable(Exception):
    """A section cannot run here: what it needs, in words."""


def real(file: str) -> Path:
    """The path of a file of real data, or `Unavailable`."""
    path = Path(os.environ.get("RANEF_TEST_DATA", "absent")) / file
    if not path.exists():
        raise Unavailable(f"needs {file} in the folder that RANEF_TEST_DATA names")
    return path
