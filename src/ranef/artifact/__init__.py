"""The fitted model as frozen arrays, and its directory on disk."""

from ranef.artifact.load import load
from ranef.artifact.save import check_target, save

__all__ = ["check_target", "load", "save"]
