"""Decoders: from codes to a modality."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.layers import Activation, Perceptron
from mmjax.structs import Modality, Reconstruction

_KINDS = ("vector", "image")


@dataclasses.dataclass(frozen=True)
class Decoder:
    """Multilayer perceptron from a code to a vector or an image.

    Its output layer is linear: objectives interpret the outputs as means (`SquaredReconstruction`)
    or as logits (`BernoulliReconstruction`).

    Attributes:
        hidden: widths of the hidden layers.
        activation: after each hidden layer.
        dropout: rate after each hidden layer, in [0, 1).
    """

    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, "hidden")

    def build(
        self, width: int, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "DecoderModule":
        """Makes the module for codes of `width`.

        Raises:
            ConfigError: the modality is neither a vector nor an image.
        """
        if modality.kind not in _KINDS:
            raise ConfigError(
                f"Decoder can make a modality of the kind {' or '.join(_KINDS)}, not "
                f"{modality.kind}: remove this modality from `decoders`."
            )
        return DecoderModule(self, width, modality, dtype=dtype, rngs=rngs)


class DecoderModule(nnx.Module):
    """The module that `Decoder` builds."""

    def __init__(
        self,
        config: Decoder,
        width: int,
        modality: Modality,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.perceptron = Perceptron(
            (width, *config.hidden, math.prod(modality.shape)),
            activation=config.activation,
            dropout=config.dropout,
            dtype=dtype,
            rngs=rngs,
        )
        self.shape = modality.shape

    def __call__(
        self, code: jax.Array, present: jax.Array, *, train: bool, rngs: nnx.Rngs | None
    ) -> Reconstruction:
        """Decodes codes [B, D]; `present` [B] marks the examples that have a code."""
        values = self.perceptron(code, train=train, rngs=rngs)
        return Reconstruction(values.reshape(len(code), *self.shape), present)


def build_decoders(
    decoders: Mapping[str, Decoder],
    widths: Mapping[str, int],
    modalities: Mapping[str, Modality],
    *,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
) -> nnx.Dict:
    """Builds the decoders, in the order of the modality names.

    Args:
        decoders: modality -> decoder.
        widths: modality -> D of the code that its decoder reads.
        modalities: of the data set.
        dtype: of the computation.
        rngs: initialises the parameters.

    Raises:
        ConfigError: no decoder is given, or the data set does not have one of the modalities.
    """
    if not decoders:
        raise ConfigError("The model has no decoder: add at least one to `decoders`.")
    for name in decoders:
        if name not in modalities:
            raise unknown_name("modality", name, modalities)
    return nnx.Dict(
        {
            name: decoders[name].build(widths[name], modalities[name], dtype=dtype, rngs=rngs)
            for name in sorted(decoders)
        }
    )
