"""Layers that encoders, fusions and heads share."""

from mmjax.layers.attention import Attention, KeysValues
from mmjax.layers.convolution import ConvBlock
from mmjax.layers.decoder import DecoderCache, TransformerDecoder
from mmjax.layers.dropout import checked_dropout
from mmjax.layers.low_rank import (
    LowRankLinear,
    adapt,
    is_marked_frozen,
    mark_frozen,
    merge_adapters,
)
from mmjax.layers.perceptron import Activation, Perceptron
from mmjax.layers.pooling import Summary, check_summary, max_pool, summarised
from mmjax.layers.positions import sinusoids
from mmjax.layers.recurrent import Cell, Recurrent, recur
from mmjax.layers.spec_augment import SpecAugment
from mmjax.layers.spectrogram import LogMelFrames, standardised
from mmjax.layers.transformer import Transformer, TransformerBlock

__all__ = [
    "Activation",
    "Attention",
    "Cell",
    "ConvBlock",
    "DecoderCache",
    "KeysValues",
    "LogMelFrames",
    "LowRankLinear",
    "Perceptron",
    "Recurrent",
    "SpecAugment",
    "Summary",
    "Transformer",
    "TransformerBlock",
    "TransformerDecoder",
    "adapt",
    "check_summary",
    "checked_dropout",
    "is_marked_frozen",
    "mark_frozen",
    "max_pool",
    "merge_adapters",
    "recur",
    "sinusoids",
    "standardised",
    "summarised",
]
