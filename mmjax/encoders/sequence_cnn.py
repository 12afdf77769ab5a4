"""Convolutions over words or over a sequence of vectors."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape, valid_steps
from mmjax.errors import ConfigError, check_sizes
from mmjax.layers import Summary, check_summary, checked_dropout, summarised
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class SequenceCNN(Encoder):
    """One-dimensional convolutions along time; one token per step.

    Words get an embedding each; vectors are read as they are. Each block is a convolution, a ReLU
    and dropout, around which there is a residual connection in all blocks but the first. Before
    every convolution, masked steps are zero, as is what is beyond the ends of the array.

        x_1 = relu(conv(x_0)),   x_n = x_(n-1) + relu(conv(x_(n-1)))

    Attributes:
        width: D of the word embeddings and the tokens.
        blocks: number of convolutions.
        kernel: steps that one convolution reads; odd unless `causal`.
        dilation: block n (from 0) reads every `dilation`^n-th step, so that a few blocks see far.
        causal: whether a step sees itself and those before it only.
        dropout: rate after each ReLU, in [0, 1).
        output: `tokens`, one per step; or one token: their `mean` or `max` over the valid steps, or
            the `last` valid one.

    Reference:
        Kim 2014, Convolutional Neural Networks for Sentence Classification (words, maximum over
        time); Bai, Kolter and Koltun 2018, An Empirical Evaluation of Generic Convolutional and
        Recurrent Networks for Sequence Modeling, section 3 (causal, dilated).
    """

    width: int = 64
    blocks: int = 2
    kernel: int = 3
    dilation: int = 1
    causal: bool = False
    dropout: float = 0.0
    output: Summary = "tokens"
    kinds: ClassVar[tuple[str, ...]] = ("text", "sequence")

    def __post_init__(self) -> None:
        check_sizes(self, "width", "blocks", "kernel", "dilation")
        check_summary(self, self.output)
        if self.kernel % 2 == 0 and not self.causal:
            raise ConfigError(
                f"SequenceCNN.kernel is {self.kernel}, which has no middle step: choose an odd "
                "number, or causal=True."
            )

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "SequenceCNNModule":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return SequenceCNNModule(self, modality, dtype=dtype, rngs=rngs)


class SequenceCNNModule(nnx.Module):
    """The module that `SequenceCNN` builds."""

    def __init__(
        self, config: SequenceCNN, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.of_words, width = modality.kind == "text", config.width
        if self.of_words:
            self.embed = nnx.Embed(modality.vocabulary, width, dtype=dtype, rngs=rngs)
        d_in = width if self.of_words else modality.shape[-1]
        self.convolutions = nnx.List(
            [
                nnx.Conv(
                    width if block else d_in,
                    width,
                    (config.kernel,),
                    kernel_dilation=config.dilation**block,
                    padding="CAUSAL" if config.causal else "SAME",
                    dtype=dtype,
                    rngs=rngs,
                )
                for block in range(config.blocks)
            ]
        )
        self.dropout = checked_dropout(config.dropout)
        self.output: Summary = config.output
        self.features = FeatureShape(modality.shape[0] if self.output == "tokens" else 1, width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, L] word ids, of which 0 is padding, or [B, T, D_in] vectors to tokens."""
        mask = valid_steps(x, mask)
        x = self.embed(x) if self.of_words else x
        for block, convolution in enumerate(self.convolutions):
            x = jnp.where(mask[:, :, None], x, 0)
            seen = self.dropout(nnx.relu(convolution(x)), deterministic=not train, rngs=rngs)
            x = x + seen if block else seen
        return summarised(x, mask, self.output)
