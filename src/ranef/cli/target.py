"""Whether a model can be saved where the caller says: known before the work, not after."""

from __future__ import annotations

from pathlib import Path

from ranef.errors import ModelFileError


def check_target(path: Path) -> None:
    """Refuse a file, and a directory that holds anything but a model. Saving checks again, and more.

    Raises
    ------
    ModelFileError
    """
    if path.exists() and not path.is_dir():
        raise ModelFileError(f"{path} is a file; a model is saved to a directory: choose another name")
    if path.is_dir() and any(path.iterdir()) and not (path / "manifest.json").is_file():
        raise ModelFileError(f"{path} holds something else than a ranef model; choose another name or remove it")
