"""The base class of encoders: frozen configs that build modules from a modality to `Features`."""

import abc
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.errors import ConfigError
from mmjax.structs import Features, Modality


class FeatureShape(NamedTuple):
    """The number and the width of the tokens that an encoder gives for one example."""

    tokens: int
    width: int


class EncoderModule(Protocol):
    """What `Encoder.build` returns (an `nnx.Module`)."""

    features: FeatureShape

    def __call__(
        self,
        x: Any,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """Encodes one modality.

        Args:
            x: [B, ...], one row per example, in the modality's shape; for a modality with several
                parts, a dict of such arrays.
            mask: [B, T] valid positions of a sequence, or None if all are valid.
            present: [B] the examples that have this modality; the others hold zeros and are left
                out of batch statistics.
            train: whether dropout and batch statistics are in training mode.
            rngs: holds a `dropout` stream in training, else None.
        """
        ...


class Encoder(abc.ABC):
    """Base of the encoder configs."""

    kinds: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> Any:
        """Makes the `EncoderModule` for a modality.

        Args:
            modality: kind, shape and dtype of one example.
            dtype: of the computation; parameters are float32.
            rngs: initialises the parameters.

        Raises:
            ConfigError: the encoder does not read that kind of modality.
        """

    def check_kind(self, modality: Modality) -> None:
        """Checks that this encoder reads the kind of a modality."""
        if modality.kind not in self.kinds:
            raise ConfigError(
                f"{type(self).__name__} encodes a modality of the kind {' or '.join(self.kinds)}, "
                f"not {modality.kind}: choose an encoder for {modality.kind}."
            )


def valid_steps(x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """The valid positions [B, T] of word ids [B, T], or of vectors [B, T, D].

    Without a mask, those are all vectors, and all words that are not 0, the padding.
    """
    if mask is not None:
        return mask
    return x != 0 if x.ndim == 2 else jnp.ones(x.shape[:2], bool)
