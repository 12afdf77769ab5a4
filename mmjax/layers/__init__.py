"""Layers that encoders, fusions and heads share."""

from mmjax.layers.attention import Attention, KeysValues
from mmjax.layers.convolution import ConvBlock
from mmjax.layers.decoder import DecoderCache, TransformerDecoder
from mmjax.layers.dropout import checked_dropout
from mmjax.layers.perceptron import Activation, Perceptron
from mmjax.layers.pooling import max_pool
from mmjax.layers.transformer import Transformer

__all__ = [
    "Activation",
    "Attention",
    "ConvBlock",
    "DecoderCache",
    "KeysValues",
    "Perceptron",
    "Transformer",
    "TransformerDecoder",
    "checked_dropout",
    "max_pool",
]
