"""What a fitted model says about new rows. Needs no compiler and none of the fit's rows."""

from ranef.score.predict import Prediction, predict
from ranef.score.scale import Kind

__all__ = ["Kind", "Prediction", "predict"]
