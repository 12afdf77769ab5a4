"""A stack of pre-norm Transformer decoder blocks, for complete sequences or token by token."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx, struct
from jaxtyping import Array, Bool, Float, Int

from mmjax.layers.attention import Attention, KeysValues
from mmjax.layers.dropout import checked_dropout


@struct.dataclass
class DecoderCache:
    """The key-value cache of decoding token by token; a step returns an updated cache.

    L is the maximum number of tokens; positions after the current one are not read.
    """

    written: tuple[KeysValues, ...]  # for each block: of the tokens so far, [B, L, H, D / H]
    memory: tuple[KeysValues, ...]  # for each block: of the memory, for cross-attention
    memory_mask: jax.Array  # [B, T] bool


class DecoderBlock(nnx.Module):
    """Self-attention, cross-attention, MLP, each as x + f(norm(x)) with dropout on the branch."""

    def __init__(
        self, width: int, heads: int, dropout: float, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.norm1 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.cross = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.norm3 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, dtype=dtype, rngs=rngs)
        self.dropout = checked_dropout(dropout)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        memory: KeysValues,
        memory_mask: jax.Array,
        written: KeysValues | None = None,
        position: jax.Array | int = 0,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[jax.Array, KeysValues]:
        """Decodes tokens, after those in the cache.

        Args:
            x: [B, Tq, D].
            mask: [1, Tq, L], the tokens to which each token attends; L = Tq without a cache.
            memory: the keys and values for `self.cross`.
            memory_mask: [B, T].
            written: the cached keys and values of L tokens, into which those of `x` are written.
            position: the position of `x` in the cache.
            train: whether dropout is in training mode.
            rngs: holds a `dropout` stream in training, else None.

        Returns:
            [B, Tq, D], and the keys and values including those of `x`.
        """

        def drop(y: jax.Array) -> jax.Array:
            return self.dropout(y, deterministic=not train, rngs=rngs)

        normed = self.norm1(x)
        seen = self.attention.keys_values(normed)
        if written is not None:
            put = jax.lax.dynamic_update_slice_in_dim
            pairs = zip(written, seen, strict=True)
            seen = KeysValues(*(put(old, new, position, axis=1) for old, new in pairs))
        x = x + drop(self.attention.attend(normed, seen, mask))
        x = x + drop(self.cross.attend(self.norm2(x), memory, memory_mask[:, None, :]))
        return x + drop(self.down(nnx.gelu(self.up(self.norm3(x))))), seen


class TransformerDecoder(nnx.Module):
    """`layers` pre-norm decoder blocks and a final layer norm; the MLP is four times as wide.

    Every token attends to itself, to earlier tokens, and to the memory, tokens [B, T, D] of an
    encoder.

    Args:
        width: D of the tokens and of the memory.
        layers: number of blocks.
        heads: attention heads; divides `width`.
        dropout: rate on the residual branches, in [0, 1).
        dtype: of the computation.
        rngs: initialises the parameters.

    Reference:
        Vaswani et al. 2017, Attention Is All You Need, section 3.1; pre-norm as in Xiong et al.
        2020, On Layer Normalization in the Transformer Architecture.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.blocks = nnx.List(
            [DecoderBlock(width, heads, dropout, dtype=dtype, rngs=rngs) for _ in range(layers)]
        )
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        tokens: Float[Array, "B L D"],
        memory: Float[Array, "B T D"],
        memory_mask: Bool[Array, "B T"],
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "B L D"]:
        """Decodes complete sequences in parallel; masked memory has no effect."""
        memory, length = _masked(memory, memory_mask), tokens.shape[1]
        causal = jnp.tril(jnp.ones((1, length, length), bool))
        for block in self.blocks:
            read = block.cross.keys_values(memory)
            tokens, _ = block(tokens, causal, read, memory_mask, train=train, rngs=rngs)
        return self.norm(tokens)

    def start(
        self, memory: Float[Array, "B T D"], memory_mask: Bool[Array, "B T"], length: int
    ) -> DecoderCache:
        """The cache before the first of `length` tokens."""
        memory = _masked(memory, memory_mask)
        read = tuple(block.cross.keys_values(memory) for block in self.blocks)
        shape = (len(memory), length, *read[0].keys.shape[2:])
        empty = KeysValues(*(jnp.zeros(shape, array.dtype) for array in read[0]))
        return DecoderCache((empty,) * len(self.blocks), read, memory_mask)

    def step(
        self, token: Float[Array, "B D"], position: Int[Array, ""], cache: DecoderCache
    ) -> tuple[Float[Array, "B D"], DecoderCache]:
        """Decodes the token at a position, counted from 0, after all tokens before it.

        Equals `__call__` at this position, without dropout, up to rounding.
        """
        x, written = token[:, None], []
        mask = (jnp.arange(cache.written[0].keys.shape[1]) <= position)[None, None]
        for block, memory, before in zip(self.blocks, cache.memory, cache.written, strict=True):
            x, seen = block(x, mask, memory, cache.memory_mask, before, position)
            written.append(seen)
        return self.norm(x)[:, 0], dataclasses.replace(cache, written=tuple(written))


def _masked(memory: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask[:, :, None], memory, 0)  # NaN times a weight of 0 would be NaN
