"""Head for sequences of tokens, such as captions and answers."""

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
    """Autoregressive Transformer decoder, which attends to the fused tokens.

    Training uses teacher forcing: each token is predicted from the true tokens before it; the first
    one from a begin token, which has the embedding of id 0. `generate` uses greedy decoding: it
    takes the most likely token, up to the `end` of the target or its full length, and never id 0.
    For an example without fused tokens it generates an unconditional sequence.

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
                f"The decoder got tokens of the shape {given.shape[1:]}, but its target has length "
                f"{self.length}: cut longer sequences, and pad shorter ones with 0."
            )
        before = jnp.pad(given[:, :-1], ((0, 0), (1, 0)))
        tokens = self.embed(before) + self.positions(jnp.arange(self.length))
        tokens = self.dropout(tokens, deterministic=not train, rngs=rngs)
        decoded = self.decoder(tokens, self._memory(fused), fused.mask, train=train, rngs=rngs)
        return Prediction(self.out(decoded), given != 0)

    def generate(self, fused: Features) -> Prediction:
        """[B, T, D] to generated ids [B, L] and their mask; the end token is the last valid one."""
        rows = len(fused.tokens)
        cache = self.decoder.start(self._memory(fused), fused.mask, self.length)
        ids, unfinished = jnp.zeros((rows, self.length), jnp.int32), jnp.ones(rows, bool)

        def continues(carry: tuple[jax.Array, jax.Array, jax.Array, DecoderCache]) -> jax.Array:
            position, _, unfinished, _ = carry
            return (position < self.length) & unfinished.any()

        def next_token(
            carry: tuple[jax.Array, jax.Array, jax.Array, DecoderCache],
        ) -> tuple[jax.Array, jax.Array, jax.Array, DecoderCache]:
            position, ids, unfinished, cache = carry
            before = jnp.where(position > 0, ids[:, position - 1], 0)
            decoded, cache = self.decoder.step(
                self.embed(before) + self.positions(position), position, cache
            )
            token = 1 + jnp.argmax(self.out(decoded)[:, 1:], axis=1).astype(jnp.int32)
            ids = ids.at[:, position].set(jnp.where(unfinished, token, 0))
            if self.end:
                unfinished &= token != self.end
            return position + 1, ids, unfinished, cache

        start = (jnp.zeros((), jnp.int32), ids, unfinished, cache)
        _, ids, _, _ = jax.lax.while_loop(continues, next_token, start)
        return Prediction(ids, ids != 0)

    def _memory(self, fused: Features) -> jax.Array:
        # Masked before the linear layer, because NaN values would make its gradient NaN.
        return self.read(jnp.where(fused.mask[:, :, None], fused.tokens, 0))
