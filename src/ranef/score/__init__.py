"""What a fitted model says about new rows. Needs no compiler and none of the fit's rows."""

from ranef.score.predict import Prediction, predict

__all__ = ["Prediction", "predict"]
