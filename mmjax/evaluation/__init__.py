"""Evaluations: the metrics of a trained model."""

from mmjax.evaluation.best_possible import BestPossible
from mmjax.evaluation.classification import Classification
from mmjax.evaluation.clustering import Clustering, clustering_accuracy
from mmjax.evaluation.correlation import HeldOutCorrelation, RawCorrelation
from mmjax.evaluation.evaluate import Figures, evaluate
from mmjax.evaluation.evaluator import Evaluator, Lower, Neither, Reads, StreamedEvaluator, Value
from mmjax.evaluation.exact_match import ExactMatch
from mmjax.evaluation.gates import GateCorrelation
from mmjax.evaluation.grammar_match import Equivalence, GrammarMatch
from mmjax.evaluation.metrics import Confusion
from mmjax.evaluation.multi_label import MultiLabelClassification
from mmjax.evaluation.predictor import Predictions, Predictor
from mmjax.evaluation.probes import LinearProbe
from mmjax.evaluation.projections import CCA, KCCA, GCCAProjection, MCCAProjection, Projection
from mmjax.evaluation.ranking import mean_average_precision, median_rank, recall_at
from mmjax.evaluation.regression import Regression
from mmjax.evaluation.retrieval import Retrieval
from mmjax.evaluation.semantic import Semantic
from mmjax.evaluation.subsets import Subsets
from mmjax.evaluation.unimodal import UnimodalClassification, blending_weights

__all__ = [
    "CCA",
    "KCCA",
    "BestPossible",
    "Classification",
    "Clustering",
    "Confusion",
    "Equivalence",
    "Evaluator",
    "ExactMatch",
    "Figures",
    "GCCAProjection",
    "GateCorrelation",
    "GrammarMatch",
    "HeldOutCorrelation",
    "LinearProbe",
    "Lower",
    "MCCAProjection",
    "MultiLabelClassification",
    "Neither",
    "Predictions",
    "Predictor",
    "Projection",
    "RawCorrelation",
    "Reads",
    "Regression",
    "Retrieval",
    "Semantic",
    "StreamedEvaluator",
    "Subsets",
    "UnimodalClassification",
    "Value",
    "blending_weights",
    "clustering_accuracy",
    "evaluate",
    "mean_average_precision",
    "median_rank",
    "recall_at",
]
