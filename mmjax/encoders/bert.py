"""BERT for texts."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.backbone import Backbone, BackboneModule, mean_of_tokens
from mmjax.encoders.encoder import FeatureShape
from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.layers.attention import Attention
from mmjax.layers.dropout import checked_dropout
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class BERT(Backbone):
    """Post-norm Transformer over word pieces; one token per word piece, the class token first.

    Devlin et al. 2019, BERT, section 3 and appendix A.2; GELU is the exact one. All words are of
    segment 0.

    Attributes:
        width: D of the tokens.
        layers: number of blocks.
        heads: attention heads; divides `width`.
        hidden: width of the dense layers inside the blocks.
        positions: the largest number of word pieces of a text.
        segments: rows of the table of segments.
        dropout: rate on the embeddings and the residual branches, in [0, 1).
        epsilon: of the layer norms.
        pooling: what the summary is: `pooler`, the paper's dense layer with tanh over the class
            token; `class`, the class token; `mean`, the mean of the words, as sentence encoders
            have it (Reimers and Gurevych 2019).
        unit: whether the summary is divided by its norm.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    positions: int = 512
    segments: int = 2
    dropout: float = 0.1
    epsilon: float = 1e-12
    pooling: Literal["pooler", "class", "mean"] = "pooler"
    unit: bool = False
    kinds: ClassVar[tuple[str, ...]] = ("text",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sizes(self, "width", "layers", "heads", "hidden", "positions", "segments")
        if self.pooling not in ("pooler", "class", "mean"):
            raise unknown_name("pooling of BERT", self.pooling, ("pooler", "class", "mean"))

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "BERTModule":
        """See `Encoder.build`."""
        self.check_kind(modality)
        (words,) = modality.shape
        if words > self.positions:
            raise ConfigError(
                f"The texts have {words} words, but BERT has {self.positions} positions: shorten "
                "the texts, or choose more positions."
            )
        return BERTModule(self, modality, dtype=dtype, rngs=rngs)


class _Block(nnx.Module):
    """norm(x + attention(x)), then norm(x + dense(x)), dropout on both branches."""

    def __init__(self, config: BERT, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        width = config.width
        self.attention = Attention(width, config.heads, dtype=dtype, rngs=rngs, key_bias=True)
        self.norm1 = nnx.LayerNorm(width, epsilon=config.epsilon, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(width, config.hidden, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(config.hidden, width, dtype=dtype, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, epsilon=config.epsilon, dtype=dtype, rngs=rngs)
        self.dropout = checked_dropout(config.dropout)

    def __call__(
        self, x: jax.Array, mask: jax.Array, *, train: bool, rngs: nnx.Rngs | None
    ) -> jax.Array:
        def drop(y: jax.Array) -> jax.Array:
            return self.dropout(y, deterministic=not train, rngs=rngs)

        x = self.norm1(x + drop(self.attention(x, x, mask)))
        hidden = nnx.gelu(self.up(x), approximate=False)
        return self.norm2(x + drop(self.down(hidden)))


class BERTModule(BackboneModule):
    """The module that `BERT` builds."""

    def __init__(
        self, config: BERT, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        (words,), width = modality.shape, config.width
        self.embed = nnx.Embed(modality.vocabulary, width, dtype=dtype, rngs=rngs)
        self.positions = nnx.Embed(config.positions, width, dtype=dtype, rngs=rngs)
        self.segments = nnx.Embed(config.segments, width, dtype=dtype, rngs=rngs)
        self.norm_before = nnx.LayerNorm(width, epsilon=config.epsilon, dtype=dtype, rngs=rngs)
        self.dropout = checked_dropout(config.dropout)
        self.blocks = nnx.List(_Block(config, dtype=dtype, rngs=rngs) for _ in range(config.layers))
        self.pooling = config.pooling
        if config.pooling == "pooler":
            self.pooler = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        if config.classes:
            self.classifier = nnx.Linear(width, config.classes, dtype=dtype, rngs=rngs)
        self.unit, self.output = config.unit, config.output
        self.features = FeatureShape(words if config.output == "tokens" else 1, width)

    def encode(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, L] ids of word pieces to L tokens; id 0 is padding."""
        mask = (x != 0) if mask is None else mask
        tokens = self.embed(x) + self.positions(jnp.arange(x.shape[1]))
        tokens = self.norm_before(tokens + self.segments(jnp.zeros_like(x)))
        tokens = self.dropout(tokens, deterministic=not train, rngs=rngs)
        for block in self.blocks:
            tokens = block(tokens, mask, train=train, rngs=rngs)
        return Features(tokens=tokens, mask=mask)

    def pool(self, features: Features, *, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
        """The summary [B, D] that `pooling` names; of norm 1 with `unit`."""
        if self.pooling == "mean":
            pooled = mean_of_tokens(features)
        else:
            pooled = features.tokens[:, 0]
            pooled = jnp.tanh(self.pooler(pooled)) if self.pooling == "pooler" else pooled
        if self.unit:
            square = (pooled.astype(jnp.float32) ** 2).sum(-1, keepdims=True)
            pooled = pooled * jax.lax.rsqrt(jnp.maximum(square, 1e-24)).astype(pooled.dtype)
        return pooled
