"""Layers that encoders, fusions and heads share."""

from mmjax.layers.attention import Attention, KeysValues
from mmjax.layers.convolution import ConvBlock
from mmjax.layers.decoder import DecoderCache, TransformerDecoder
from mmjax.layers.dropout import checked_dropout
from mmjax.layers.perceptron import Activation, Perceptron
from mmjax.layers.pooling import max_pool
from mmjax.layers.recurrent import Recurrent, recur
from mmjax.layers.spec_augment import SpecAugment
from mmjax.layers.spectrogram import LogMelFrames, standardised
from mmjax.layers.transformer import Transformer

__all__ = [
    "Activation",
    "Attention",
    "ConvBlock",
    "DecoderCache",
    "KeysValues",
    "LogMelFrames",
    "Perceptron",
    "Recurrent",
    "SpecAugment",
    "Transformer",
    "TransformerDecoder",
    "checked_dropout",
    "max_pool",
    "recur",
    "standardised",
]
