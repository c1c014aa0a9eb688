"""Simple models that a better one must beat."""

from ranef.evaluate.baselines.ease import Ease
from ranef.evaluate.baselines.items import ItemKNN, Popularity

__all__ = ["Ease", "ItemKNN", "Popularity"]
