"""The fitted model as frozen arrays, and its directory on disk."""

from ranef.artifact.load import load
from ranef.artifact.save import save

__all__ = ["load", "save"]
