"""Fusion of modalities: one file per method, each with the same signature."""

from mmjax.fusion.attention import AttentionFusion
from mmjax.fusion.bilinear import Bilinear
from mmjax.fusion.bottleneck import Bottleneck
from mmjax.fusion.concat import Concat
from mmjax.fusion.cross_attention import CrossAttention
from mmjax.fusion.film import FiLM
from mmjax.fusion.fusion import Fusion, FusionModule
from mmjax.fusion.gmu import GMU
from mmjax.fusion.graph import GraphFusion
from mmjax.fusion.late import (
    AveragedHeads,
    Decision,
    DecisionModule,
    ExpertGate,
    ProductOfHeads,
    WeightedHeads,
)
from mmjax.fusion.low_rank import LowRankFusion
from mmjax.fusion.mean import Mean
from mmjax.fusion.multimodal_transformer import MultimodalTransformer
from mmjax.fusion.perceiver import Perceiver
from mmjax.fusion.product_of_experts import ProductOfExperts
from mmjax.fusion.tensor import TensorFusion
from mmjax.fusion.weighted_sum import WeightedSum

__all__ = [
    "GMU",
    "AttentionFusion",
    "AveragedHeads",
    "Bilinear",
    "Bottleneck",
    "Concat",
    "CrossAttention",
    "Decision",
    "DecisionModule",
    "ExpertGate",
    "FiLM",
    "Fusion",
    "FusionModule",
    "GraphFusion",
    "LowRankFusion",
    "Mean",
    "MultimodalTransformer",
    "Perceiver",
    "ProductOfExperts",
    "ProductOfHeads",
    "TensorFusion",
    "WeightedHeads",
    "WeightedSum",
]
