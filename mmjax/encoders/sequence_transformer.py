"""Transformer over words or over a sequence of vectors."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape, valid_steps
from mmjax.errors import check_sizes, unknown_name
from mmjax.layers import Summary, Transformer, check_summary, sinusoids, summarised
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class SequenceTransformer(Encoder):
    """A small pre-norm Transformer; one token per step.

    Words get an embedding each, vectors a linear layer. Masked steps are attended to by none.

    Attributes:
        width: D of the tokens.
        layers: number of Transformer blocks.
        heads: attention heads; divides `width`.
        dropout: rate on the residual branches, in [0, 1).
        positions: added to the tokens: `learned`, one vector per position; or `sinusoidal`, fixed
            waves, before which word embeddings are multiplied by the square root of `width`.
        causal: whether a step attends to itself and to those before it only.
        output: `tokens`, one per step; or one token: their `mean` or `max` over the valid steps, or
            the `last` valid one, which a causal Transformer needs.

    Reference:
        Vaswani et al. 2017, Attention Is All You Need, sections 3.2 to 3.5; layer norms before the
        branches as in Xiong et al. 2020, On Layer Normalization in the Transformer Architecture.
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0
    positions: Literal["learned", "sinusoidal"] = "learned"
    causal: bool = False
    output: Summary = "tokens"
    kinds: ClassVar[tuple[str, ...]] = ("text", "sequence")

    def __post_init__(self) -> None:
        check_sizes(self, "width", "layers", "heads")
        check_summary(self, self.output)
        if self.positions not in ("learned", "sinusoidal"):
            raise unknown_name(
                "kind of positions of SequenceTransformer",
                self.positions,
                ("learned", "sinusoidal"),
            )

    def build(
        self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "SequenceTransformerModule":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return SequenceTransformerModule(self, modality, dtype=dtype, rngs=rngs)


class SequenceTransformerModule(nnx.Module):
    """The module that `SequenceTransformer` builds."""

    def __init__(
        self, config: SequenceTransformer, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.of_words, self.dtype = modality.kind == "text", dtype
        steps, width = modality.shape[0], config.width
        if self.of_words:
            self.embed = nnx.Embed(modality.vocabulary, width, dtype=dtype, rngs=rngs)
        else:
            self.project = nnx.Linear(modality.shape[-1], width, dtype=dtype, rngs=rngs)
        self.learned, self.causal = config.positions == "learned", config.causal
        if self.learned:
            self.positions = nnx.Embed(steps, width, dtype=dtype, rngs=rngs)
        self.transformer = Transformer(
            width, config.layers, config.heads, config.dropout, dtype=dtype, rngs=rngs
        )
        self.output: Summary = config.output
        self.features = FeatureShape(steps if self.output == "tokens" else 1, width)

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
        x = x if self.of_words else jnp.where(mask[:, :, None], x, 0)  # NaN times 0 would be NaN
        tokens = self.embed(x) if self.of_words else self.project(x)
        length, width = tokens.shape[1:]
        if self.learned:
            tokens = tokens + self.positions(jnp.arange(length))
        else:
            tokens = tokens * width**0.5 if self.of_words else tokens
            tokens = tokens + jnp.asarray(sinusoids(length, width), tokens.dtype)
        tokens = self.transformer(tokens, mask, causal=self.causal, train=train, rngs=rngs)
        return summarised(tokens, mask, self.output)
