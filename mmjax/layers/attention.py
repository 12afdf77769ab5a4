"""Multi-head attention with a mask over the keys."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from mmjax.errors import ConfigError


class Attention(nnx.Module):
    """Multi-head scaled dot-product attention.

    Args:
        width: D, of queries, keys and outputs.
        heads: H; divides `width`.
        dtype: of the computation; the softmax is in float32.
        rngs: initialises the parameters.

    Raises:
        ConfigError: where `heads` does not divide `width`.

    Reference:
        Vaswani et al. 2017, Attention Is All You Need, section 3.2.
    """

    def __init__(self, width: int, heads: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        if heads < 1 or width % heads:
            raise ConfigError(
                f"{heads} attention heads do not divide a width of {width}: choose heads that do."
            )
        self.heads = heads
        self.query = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        # A bias of the keys would add the same to every logit of a query: the softmax drops it.
        self.key = nnx.Linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        queries: Float[Array, "B Tq D"],
        keys: Float[Array, "B Tk D"],
        key_mask: Bool[Array, "B Tk"],
    ) -> Float[Array, "B Tq D"]:
        """Attends from `queries` to the `keys` that `key_mask` allows; finite where it is none."""

        def split(x: jax.Array) -> jax.Array:
            return x.reshape(*x.shape[:2], self.heads, -1)

        attended = jax.nn.dot_product_attention(
            split(self.query(queries)),
            split(self.key(keys)),
            split(self.value(keys)),
            mask=key_mask[:, None, None, :],
        )
        return self.out(attended.reshape(queries.shape))
