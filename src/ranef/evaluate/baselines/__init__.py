"""Simple models that a better one must beat."""

from ranef.evaluate.baselines.ease import Ease
from ranef.evaluate.baselines.items import ItemKNN, Popularity
from ranef.evaluate.baselines.ratings import Biases, GlobalMean

__all__ = ["Biases", "Ease", "GlobalMean", "ItemKNN", "Popularity"]
