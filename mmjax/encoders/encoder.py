"""What an encoder is: a frozen config that builds a module from a modality to `Features`."""

import abc
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.errors import ConfigError
from mmjax.structs import Features, Modality


class FeatureShape(NamedTuple):
    """How many tokens an encoder gives for one example, and how wide they are."""

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
            x: [B, ...], one row an example, in the modality's shape; for a modality of several
                parts a dict of such arrays.
            mask: [B, T] valid positions of a sequence, or None where all are.
            present: [B] the examples that have this modality; the others hold zeros, and count in
                no batch statistics.
            train: whether dropout and batch statistics are those of training.
            rngs: holds a `dropout` stream while training, else None.
        """
        ...


class Encoder(abc.ABC):
    """Base of the encoder configs."""

    kinds: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> Any:
        """Makes the `EncoderModule` for a modality.

        Args:
            modality: what one example looks like.
            dtype: of the computation; parameters are float32.
            rngs: initialises the parameters.

        Raises:
            ConfigError: where the encoder does not read that kind of modality.
        """

    def check_kind(self, modality: Modality) -> None:
        """Refuses a modality of a kind that this encoder does not read."""
        if modality.kind not in self.kinds:
            raise ConfigError(
                f"{type(self).__name__} encodes {' or '.join(self.kinds)}, not {modality.kind}: "
                f"give this modality an encoder for {modality.kind}."
            )
