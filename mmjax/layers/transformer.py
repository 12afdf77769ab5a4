"""A stack of pre-norm Transformer encoder blocks."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from mmjax.layers.attention import Attention
from mmjax.layers.dropout import checked_dropout


class TransformerBlock(nnx.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), dropout on both branches."""

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
        self, x: jax.Array, mask: jax.Array, *, train: bool, rngs: nnx.Rngs | None
    ) -> jax.Array:
        """[B, T, D], and which keys [B, 1 or T, T] each token attends to, to [B, T, D]."""

        def drop(y: jax.Array) -> jax.Array:
            return self.dropout(y, deterministic=not train, rngs=rngs)

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
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.blocks = nnx.List(
            [TransformerBlock(width, heads, dropout, dtype=dtype, rngs=rngs) for _ in range(layers)]
        )
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
        for block in self.blocks:
            tokens = block(tokens, attended, train=train, rngs=rngs)
        return self.norm(tokens)
