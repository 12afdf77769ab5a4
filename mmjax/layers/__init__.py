"""What encoders and fusions share: attention, Transformer blocks, pooling."""

from mmjax.layers.attention import Attention
from mmjax.layers.dropout import checked_dropout
from mmjax.layers.pooling import max_pool
from mmjax.layers.transformer import Transformer

__all__ = ["Attention", "Transformer", "checked_dropout", "max_pool"]
