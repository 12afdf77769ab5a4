"""Transformer over word ids."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import check_sizes
from mmjax.layers import Transformer
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class TextTransformer(Encoder):
    """Word embeddings, learned position embeddings and a small Transformer; one token per word.

    Attributes:
        width: D of the tokens.
        layers: number of Transformer blocks.
        heads: attention heads; divides `width`.
        dropout: rate on the residual branches, in [0, 1).
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0
    kinds: ClassVar[tuple[str, ...]] = ("text",)

    def __post_init__(self) -> None:
        check_sizes(self, "width", "layers", "heads")

    def build(
        self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "TextTransformerEncoder":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return TextTransformerEncoder(self, modality, dtype=dtype, rngs=rngs)


class TextTransformerEncoder(nnx.Module):
    """The module that `TextTransformer` builds."""

    def __init__(
        self, config: TextTransformer, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        (words,) = modality.shape
        self.embed = nnx.Embed(modality.vocabulary, config.width, dtype=dtype, rngs=rngs)
        self.positions = nnx.Embed(words, config.width, dtype=dtype, rngs=rngs)
        self.transformer = Transformer(
            config.width, config.layers, config.heads, config.dropout, dtype=dtype, rngs=rngs
        )
        self.features = FeatureShape(tokens=words, width=config.width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, L] word ids to L tokens; id 0 is padding."""
        mask = (x != 0) if mask is None else mask
        tokens = self.embed(x) + self.positions(jnp.arange(x.shape[1]))
        return Features(tokens=self.transformer(tokens, mask, train=train, rngs=rngs), mask=mask)
