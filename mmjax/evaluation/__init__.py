"""What a trained model is measured by."""

from mmjax.evaluation.best_possible import BestPossible
from mmjax.evaluation.classification import Classification
from mmjax.evaluation.correlation import HeldOutCorrelation, RawCorrelation
from mmjax.evaluation.metrics import Confusion

__all__ = ["BestPossible", "Classification", "Confusion", "HeldOutCorrelation", "RawCorrelation"]
