"""Multilayer perceptron."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import check_sizes
from mmjax.layers import Activation, Perceptron
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class MLP(Encoder):
    """Multilayer perceptron over the flattened input; one token per example.

    For a `sequence`, it maps the vector at each position separately; one token per position.

    Attributes:
        hidden: widths of the hidden layers.
        width: D of the linear output layer.
        activation: after each hidden layer.
        dropout: rate after each hidden layer, in [0, 1).
    """

    hidden: tuple[int, ...] = (256, 256)
    width: int = 64
    activation: Activation = "relu"
    dropout: float = 0.0
    kinds: ClassVar[tuple[str, ...]] = ("vector", "image", "sequence")

    def __post_init__(self) -> None:
        check_sizes(self, "hidden", "width")

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "MLPEncoder":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return MLPEncoder(self, modality, dtype=dtype, rngs=rngs)


class MLPEncoder(nnx.Module):
    """The module that `MLP` builds."""

    def __init__(
        self, config: MLP, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        # An example that is not a sequence is treated as a sequence of length one.
        shape = modality.shape if modality.kind == "sequence" else (1, *modality.shape)
        self.positions, inputs = shape[0], math.prod(shape[1:])
        self.perceptron = Perceptron(
            (inputs, *config.hidden, config.width),
            activation=config.activation,
            dropout=config.dropout,
            dtype=dtype,
            rngs=rngs,
        )
        self.features = FeatureShape(tokens=self.positions, width=config.width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, ...] to one token of `width`, or [B, T, ...] to T."""
        x = x.reshape(x.shape[0], self.positions, -1)
        tokens = self.perceptron(x, train=train, rngs=rngs)
        mask = jnp.ones(tokens.shape[:2], bool) if mask is None else mask
        return Features(tokens=tokens, mask=mask)
