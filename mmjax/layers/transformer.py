"""A stack of pre-norm Transformer encoder blocks."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from mmjax.errors import ConfigError
from mmjax.layers.attention import Attention
from mmjax.layers.dropout import checked_dropout


class TransformerBlock(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), dropout on both branches.

    `skip`, in the call, is the probability of leaving out a branch of an example in training.
    """

    def __init__(
        self, width: int, heads: int, dropout: float, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.norm1 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.attention = Attention(width, heads, dtype=dtype, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, dtype=dtype, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, dtype=dtype, rngs=rngs)
        self.dropout = checked_dropout(dropout)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
        skip: jax.Array | None = None,
    ) -> jax.Array:
        """[B, T, D], and which keys [B, 1 or T, T] each token attends to, to [B, T, D]."""

        def drop(y: jax.Array) -> jax.Array:
            y = self.dropout(y, deterministic=not train, rngs=rngs)
            if skip is None or not train or rngs is None:
                return y
            kept = jax.random.uniform(rngs.dropout(), (len(y), 1, 1)) >= skip
            return jnp.where(kept, y / (1 - skip).astype(y.dtype), 0)

        normed = self.norm1(x)
        keys_values = self.attention.keys_values(normed)
        x = x + drop(self.attention.attend(normed, keys_values, mask))
        return x + drop(self.down(nnx.gelu(self.up(self.norm2(x)))))


class Transformer(nnx.Module):
    """`layers` pre-norm encoder blocks and a final layer norm; the MLP is four times as wide.

    Args:
        width: D of the tokens.
        layers: number of blocks.
        heads: attention heads; divides `width`.
        dropout: rate on both residual branches, in [0, 1).
        skip: stochastic depth (Huang et al. 2016, equation 4): in training, the probability, in
            [0, 1), of leaving out both branches of the last block for an example; it rises evenly
            from 0 in front of the first block. What stays is divided by its probability.
        remat: whether the backward pass computes each block again instead of storing what is in
            it: less memory for a third more computation.
        scan: whether the blocks are compiled as one, in a loop over their stacked parameters:
            compiling takes the time of one block.
        dtype: of the computation.
        rngs: initialises the parameters.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        *,
        skip: float = 0.0,
        remat: bool = False,
        scan: bool = False,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        if not 0 <= skip < 1:
            raise ConfigError(f"A stochastic depth is {skip}: it must be 0 or more and below 1.")
        self.layers, self.skip, self.remat, self.scan = layers, skip, remat, scan

        def block(rngs: nnx.Rngs) -> TransformerBlock:
            return TransformerBlock(width, heads, dropout, dtype=dtype, rngs=rngs)

        self.blocks: Any
        if scan:
            self.blocks = nnx.split_rngs(splits=layers)(nnx.vmap(block))(rngs)
        else:
            self.blocks = nnx.List([block(rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        tokens: Float[Array, "B T D"],
        mask: Bool[Array, "B T"],
        *,
        causal: bool = False,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "B T D"]:
        """Every token attends to the tokens in `mask`; masked tokens do not affect others.

        With `causal`, it attends to itself and to those before it only.
        """
        tokens = jnp.where(mask[:, :, None], tokens, 0)  # NaN times a weight of 0 would be NaN
        attended = mask[:, None, :]
        if causal:
            length = mask.shape[1]
            attended = attended & jnp.tril(jnp.ones((1, length, length), bool))
        plain = not (self.skip or self.remat or self.scan)
        for block in self.blocks if plain else ():
            tokens = block(tokens, attended, train=train, rngs=rngs)
        return self.norm(tokens if plain else self._run(tokens, attended, train, rngs))

    def _run(
        self, tokens: jax.Array, attended: jax.Array, train: bool, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """All blocks as a pure function of their parameters, each with a key of its own."""
        skips = self.skip * jnp.arange(1, self.layers + 1) / self.layers
        key = rngs.dropout() if train and rngs is not None else jax.random.key(0)
        graph, params = nnx.split(self.blocks) if self.scan else (None, None)

        def step(graph: Any, params: Any, x: jax.Array, key: jax.Array, skip: jax.Array) -> Any:
            streams = nnx.Rngs(dropout=key) if rngs is not None else None
            block = nnx.merge(graph, params)
            return block(x, attended, train=train, rngs=streams, skip=skip if self.skip else None)

        if self.remat:
            step = jax.checkpoint(step, static_argnums=0)
        keys = jax.random.split(key, self.layers)
        if self.scan:
            return jax.lax.scan(
                lambda x, each: (step(graph, each[0], x, *each[1:]), None),
                tokens,
                (params, keys, skips),
            )[0]
        for block, one, skip in zip(self.blocks, keys, skips, strict=True):
            tokens = step(*nnx.split(block), tokens, one, skip)
        return tokens
