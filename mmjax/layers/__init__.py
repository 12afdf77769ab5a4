"""What encoders, fusions and heads share."""

from mmjax.layers.attention import Attention
from mmjax.layers.convolution import ConvBlock
from mmjax.layers.dropout import checked_dropout
from mmjax.layers.perceptron import Activation, Perceptron
from mmjax.layers.pooling import max_pool
from mmjax.layers.transformer import Transformer

__all__ = [
    "Activation",
    "Attention",
    "ConvBlock",
    "Perceptron",
    "Transformer",
    "checked_dropout",
    "max_pool",
]
