"""Multilayer perceptron."""

import itertools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mmjax.layers.dropout import checked_dropout

Activation = Literal["relu", "gelu", "sigmoid", "tanh"]


class Perceptron(nnx.Module):
    """Linear layers with an activation and dropout between them; the last one is linear.

    Args:
        widths: of the input, the hidden layers and the output; two or more.
        activation: after each hidden layer.
        dropout: rate after each hidden layer, in [0, 1).
        input_dropout: rate on the input, in [0, 1).
        dtype: of the computation.
        rngs: initialises the parameters.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        activation: Activation = "relu",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.layers = nnx.List(
            [
                nnx.Linear(d_in, d_out, dtype=dtype, rngs=rngs)
                for d_in, d_out in itertools.pairwise(widths)
            ]
        )
        self.activation = activation
        self.dropout = checked_dropout(dropout)
        self.input_dropout = checked_dropout(input_dropout)

    def __call__(
        self, x: Float[Array, "*B D_in"], *, train: bool, rngs: nnx.Rngs | None
    ) -> Float[Array, "*B D_out"]:
        """Maps the last axis."""
        x = self.input_dropout(x, deterministic=not train, rngs=rngs)
        for layer in self.layers[:-1]:
            x = getattr(jax.nn, self.activation)(layer(x))
            x = self.dropout(x, deterministic=not train, rngs=rngs)
        return self.layers[-1](x)
