"""What encoders and fusions share: attention, Transformer blocks, pooling."""

from mmjax.layers.attention import Attention
from mmjax.layers.pooling import max_pool
from mmjax.layers.transformer import Transformer

__all__ = ["Attention", "Transformer", "max_pool"]
