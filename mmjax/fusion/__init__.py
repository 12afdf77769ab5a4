"""Fusion of modalities: one file per method, each with the same signature."""

from mmjax.fusion.concat import Concat
from mmjax.fusion.fusion import Fusion, FusionModule
from mmjax.fusion.mean import Mean
from mmjax.fusion.multimodal_transformer import MultimodalTransformer
from mmjax.fusion.weighted_sum import WeightedSum

__all__ = ["Concat", "Fusion", "FusionModule", "Mean", "MultimodalTransformer", "WeightedSum"]
