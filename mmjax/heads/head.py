"""What a head is: a frozen config that builds a module from fused features to one target."""

import abc
import math
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError
from mmjax.layers import Perceptron
from mmjax.structs import Features, Prediction, Target


class HeadModule(Protocol):
    """What `Head.build` returns (an `nnx.Module`).

    One that writes has a method `generate(fused)` too, which gives a `Prediction` of ids [B, L].
    """

    def __call__(
        self,
        fused: Features,
        given: jax.Array | None,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Prediction | None:
        """Predicts a target.

        Args:
            fused: the modalities as one, with tokens [B, T, D].
            given: what the batch holds of the target, for a decoder that is told the tokens before
                the one that it predicts (teacher forcing); all other heads must not read it. None
                where the batch has no such target.
            train: whether dropout is that of training.
            rngs: holds a `dropout` stream while training, else None.

        Returns:
            The prediction; None of a head that cannot tell without `given`.
        """
        ...


class Head(abc.ABC):
    """Base of the head configs.

    Attributes:
        kinds: the kinds of target that it predicts.
    """

    kinds: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def build(
        self, features: FeatureShape, target: Target, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> Any:
        """Makes the `HeadModule`.

        Args:
            features: tokens and width of the fused features.
            target: what is predicted.
            dtype: of the computation; parameters are float32.
            rngs: initialises the parameters.

        Raises:
            ConfigError: where the head does not predict that kind of target.
        """

    def check_kind(self, target: Target) -> None:
        """Refuses a target of a kind that this head does not predict."""
        if target.kind not in self.kinds:
            raise ConfigError(
                f"{type(self).__name__} predicts a target of the kind {' or '.join(self.kinds)}, "
                f"not {target.kind}: give this target a head for {target.kind}."
            )


class PooledHead(nnx.Module):
    """A perceptron on the mean of the valid tokens.

    Args:
        features: tokens and width of the fused features.
        hidden: widths of the hidden layers.
        shape: of the prediction of one example.
        dropout: rate before each layer, in [0, 1).
        dtype: of the computation.
        rngs: initialises the parameters.
    """

    def __init__(
        self,
        features: FeatureShape,
        hidden: tuple[int, ...],
        shape: tuple[int, ...],
        *,
        dropout: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.perceptron = Perceptron(
            (features.width, *hidden, math.prod(shape)),
            dropout=dropout,
            input_dropout=dropout,
            dtype=dtype,
            rngs=rngs,
        )
        self.shape = shape

    def __call__(
        self,
        fused: Features,
        given: jax.Array | None,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Prediction:
        """[B, T, D] to [B, *shape]."""
        values = self.perceptron(fused.pooled, train=train, rngs=rngs)
        return Prediction(values.reshape(len(values), *self.shape))
