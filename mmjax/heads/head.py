"""The base class of heads: frozen configs that build modules from fused features to a target."""

import abc
import dataclasses
import math
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError, check_sizes
from mmjax.layers import Perceptron
from mmjax.structs import Features, Prediction, Target


class HeadModule(Protocol):
    """What `Head.build` returns (an `nnx.Module`).

    A head that generates tokens also has a method `generate(fused)`, which returns a `Prediction`
    of ids [B, L].
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
            fused: the fused features, with tokens [B, T, D].
            given: the true target in the batch, for teacher forcing: a decoder reads the tokens
                before the one that it predicts. All other heads must not read it. None if the batch
                does not have the target.
            train: whether dropout is in training mode.
            rngs: holds a `dropout` stream in training, else None.

        Returns:
            The prediction; None if the head needs `given` and it is None.
        """
        ...


class Head(abc.ABC):
    """Base of the head configs.

    Attributes:
        kinds: the kinds of targets that it predicts.
    """

    kinds: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def build(
        self, features: FeatureShape, target: Target, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> Any:
        """Makes the `HeadModule`.

        Args:
            features: number and width of the fused tokens.
            target: the target to predict.
            dtype: of the computation; parameters are float32.
            rngs: initialises the parameters.

        Raises:
            ConfigError: the head does not predict that kind of target.
        """

    def check_kind(self, target: Target) -> None:
        """Checks that this head predicts the kind of a target."""
        if target.kind not in self.kinds:
            raise ConfigError(
                f"{type(self).__name__} predicts a target of the kind {' or '.join(self.kinds)}, "
                f"not {target.kind}: choose a head for {target.kind}."
            )


@dataclasses.dataclass(frozen=True)
class PooledHead(Head):
    """Base of heads that are a multilayer perceptron on the mean of the valid fused tokens.

    Attributes:
        hidden: widths of the hidden layers; empty for a linear head.
        dropout: rate before each layer, in [0, 1).
    """

    hidden: tuple[int, ...] = ()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, "hidden")

    @abc.abstractmethod
    def shape(self, target: Target) -> tuple[int, ...]:
        """The shape of the prediction for one example."""

    def build(
        self, features: FeatureShape, target: Target, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "PooledHeadModule":
        """See `Head.build`."""
        self.check_kind(target)
        return PooledHeadModule(self, features, self.shape(target), dtype=dtype, rngs=rngs)


class PooledHeadModule(nnx.Module):
    """The module that a `PooledHead` builds."""

    def __init__(
        self,
        config: PooledHead,
        features: FeatureShape,
        shape: tuple[int, ...],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> None:
        self.perceptron = Perceptron(
            (features.width, *config.hidden, math.prod(shape)),
            dropout=config.dropout,
            input_dropout=config.dropout,
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
