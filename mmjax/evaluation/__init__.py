"""What a trained model is measured by."""

from mmjax.evaluation.best_possible import BestPossible
from mmjax.evaluation.classification import Classification
from mmjax.evaluation.clustering import Clustering, clustering_accuracy
from mmjax.evaluation.correlation import HeldOutCorrelation, RawCorrelation
from mmjax.evaluation.metrics import Confusion
from mmjax.evaluation.probes import LinearProbe
from mmjax.evaluation.projections import CCA, KCCA, GCCAProjection, MCCAProjection, Projection
from mmjax.evaluation.ranking import mean_average_precision, median_rank, recall_at
from mmjax.evaluation.retrieval import Retrieval
from mmjax.evaluation.semantic import Semantic

__all__ = [
    "CCA",
    "KCCA",
    "BestPossible",
    "Classification",
    "Clustering",
    "Confusion",
    "GCCAProjection",
    "HeldOutCorrelation",
    "LinearProbe",
    "MCCAProjection",
    "Projection",
    "RawCorrelation",
    "Retrieval",
    "Semantic",
    "clustering_accuracy",
    "mean_average_precision",
    "median_rank",
    "recall_at",
]
