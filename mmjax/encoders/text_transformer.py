"""Transformer over word ids."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder
from mmjax.encoders.sequence_transformer import SequenceTransformer, SequenceTransformerModule
from mmjax.errors import check_sizes
from mmjax.structs import Modality


@dataclasses.dataclass(frozen=True)
class TextTransformer(Encoder):
    """Word embeddings, learned position embeddings and a small Transformer; one token per word.

    It is a `SequenceTransformer` without its options.

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
    ) -> SequenceTransformerModule:
        """See `Encoder.build`."""
        self.check_kind(modality)
        same = SequenceTransformer(self.width, self.layers, self.heads, self.dropout)
        return same.build(modality, dtype=dtype, rngs=rngs)
