"""Multi-head attention with a mask over the keys."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from mmjax.errors import ConfigError


class KeysValues(NamedTuple):
    """The keys and values of tokens, projected and split into heads."""

    keys: jax.Array  # [B, Tk, H, D / H]
    values: jax.Array  # [B, Tk, H, D / H]


class Attention(nnx.Module):
    """Multi-head scaled dot-product attention.

    Args:
        width: D, of queries, keys and outputs.
        heads: H; divides `width`.
        dtype: of the computation; the softmax is in float32.
        rngs: initialises the parameters.
        key_bias: whether the keys have a bias. It adds the same to all logits of a query, which the
            softmax ignores: only weights that were published with one need it.

    Raises:
        ConfigError: `heads` does not divide `width`.

    Reference:
        Vaswani et al. 2017, Attention Is All You Need, section 3.2.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        key_bias: bool = False,
    ) -> None:
        if heads < 1 or width % heads:
            raise ConfigError(
                f"A width of {width} cannot be split into {heads} attention heads: choose a number "
                "of heads that divides the width."
            )
        self.heads = heads
        self.query = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.key = nnx.Linear(width, width, use_bias=key_bias, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        queries: Float[Array, "B Tq D"],
        keys: Float[Array, "B Tk D"],
        key_mask: Bool[Array, "B Tk"],
    ) -> Float[Array, "B Tq D"]:
        """Attends from `queries` to the `keys` in `key_mask`; finite even if that has none."""
        return self.attend(queries, self.keys_values(keys), key_mask[:, None, :])

    def keys_values(self, tokens: Float[Array, "B Tk D"]) -> KeysValues:
        """The keys and values of tokens, which a decoder computes once per token."""
        return KeysValues(self._split(self.key(tokens)), self._split(self.value(tokens)))

    def attend(
        self, queries: Float[Array, "B Tq D"], to: KeysValues, mask: Bool[Array, "#B #Tq Tk"]
    ) -> Float[Array, "B Tq D"]:
        """Attends to the given keys and values that are in `mask`."""
        attended = jax.nn.dot_product_attention(
            self._split(self.query(queries)), to.keys, to.values, mask=mask[:, None]
        )
        return self.out(attended.reshape(queries.shape))

    def _split(self, x: jax.Array) -> jax.Array:
        return x.reshape(*x.shape[:2], self.heads, -1)
