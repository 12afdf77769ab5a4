"""Sequences of tokens, such as captions and answers."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError, check_sizes
from mmjax.heads.head import Head
from mmjax.layers import DecoderCache, TransformerDecoder, checked_dropout
from mmjax.structs import Features, Prediction, Target


@dataclasses.dataclass(frozen=True)
class TokenDecoder(Head):
    """Transformer decoder that writes tokens, one after the other, from the fused tokens.

    In training it is told the tokens before the one that it predicts (teacher forcing); the first
    one follows a begin token, which has the embedding of id 0. `generate` takes the likeliest token
    each time (greedy search), up to the `end` of the target or its full length; it never writes
    id 0. Examples without any fused token get a caption too, the one that is likeliest of all.

    Attributes:
        width: D of the decoder.
        layers: number of decoder blocks.
        heads: attention heads; divides `width`.
        dropout: rate on the embeddings and on the residual branches, in [0, 1).
    """

    width: int = 64
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0
    kinds: ClassVar[tuple[str, ...]] = ("tokens",)

    def __post_init__(self) -> None:
        check_sizes(self, "width", "layers", "heads")

    def build(
        self, features: FeatureShape, target: Target, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "TokenDecoderHead":
        """See `Head.build`."""
        self.check_kind(target)
        return TokenDecoderHead(self, features.width, target, dtype=dtype, rngs=rngs)


class TokenDecoderHead(nnx.Module):
    """The module that `TokenDecoder` builds."""

    def __init__(
        self,
        config: TokenDecoder,
        memory_width: int,
        target: Target,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        (self.length,) = target.shape
        self.end = target.end
        width = config.width
        self.embed = nnx.Embed(target.classes, width, dtype=dtype, rngs=rngs)
        self.positions = nnx.Embed(self.length, width, dtype=dtype, rngs=rngs)
        self.read = nnx.Linear(memory_width, width, dtype=dtype, rngs=rngs)
        self.dropout = checked_dropout(config.dropout)
        self.decoder = TransformerDecoder(
            width, config.layers, config.heads, config.dropout, dtype=dtype, rngs=rngs
        )
        self.out = nnx.Linear(width, target.classes, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        fused: Features,
        given: jax.Array | None,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Prediction | None:
        """[B, T, D] and the tokens [B, L] to logits [B, L, C]; None without tokens."""
        if given is None:
            return None
        if given.shape[1:] != (self.length,):
            raise ConfigError(
                f"The decoder was given tokens of the shape {given.shape[1:]}, but its target has "
                f"{self.length} of them: cut longer sequences, and fill up shorter ones with 0."
            )
        before = jnp.pad(given[:, :-1], ((0, 0), (1, 0)))
        tokens = self.embed(before) + self.positions(jnp.arange(self.length))
        tokens = self.dropout(tokens, deterministic=not train, rngs=rngs)
        decoded = self.decoder(tokens, self._memory(fused), fused.mask, train=train, rngs=rngs)
        return Prediction(self.out(decoded), given != 0)

    def generate(self, fused: Features) -> Prediction:
        """[B, T, D] to ids [B, L] and which of them were written; the end token is the last."""
        rows = len(fused.tokens)
        cache = self.decoder.start(self._memory(fused), fused.mask, self.length)
        ids, going = jnp.zeros((rows, self.length), jnp.int32), jnp.ones(rows, bool)

        def goes_on(carry: tuple[jax.Array, jax.Array, jax.Array, DecoderCache]) -> jax.Array:
            position, _, going, _ = carry
            return (position < self.length) & going.any()

        def write(
            carry: tuple[jax.Array, jax.Array, jax.Array, DecoderCache],
        ) -> tuple[jax.Array, jax.Array, jax.Array, DecoderCache]:
            position, ids, going, cache = carry
            before = jnp.where(position > 0, ids[:, position - 1], 0)
            decoded, cache = self.decoder.step(
                self.embed(before) + self.positions(position), position, cache
            )
            likeliest = 1 + jnp.argmax(self.out(decoded)[:, 1:], axis=1).astype(jnp.int32)
            ids = ids.at[:, position].set(jnp.where(going, likeliest, 0))
            if self.end:
                going &= likeliest != self.end
            return position + 1, ids, going, cache

        start = (jnp.zeros((), jnp.int32), ids, going, cache)
        _, ids, _, _ = jax.lax.while_loop(goes_on, write, start)
        return Prediction(ids, ids != 0)

    def _memory(self, fused: Features) -> jax.Array:
        # Emptied before the linear layer: a NaN would come back in the gradient of its kernel.
        return self.read(jnp.where(fused.mask[:, :, None], fused.tokens, 0))
