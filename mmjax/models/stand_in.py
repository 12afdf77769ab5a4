"""What the fusion gets in place of a modality that is absent."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError
from mmjax.structs import Features


class StandIn(abc.ABC):
    """Base of the configs of stand-ins: one token for each modality, for examples without it.

    With `NoStandIn`, a fusion gets no token of an absent modality, and leaves it out. With all
    others, it gets exactly one valid token of it, the first. `present` and the embeddings of the
    model still say what was there.
    """

    @abc.abstractmethod
    def build(self, features: Mapping[str, FeatureShape], *, rngs: nnx.Rngs) -> Any:
        """Makes the module, which maps features to features; None for nothing to do.

        Args:
            features: modality -> number and width of its encoder's tokens.
            rngs: initialises the parameters.
        """


@dataclasses.dataclass(frozen=True)
class NoStandIn(StandIn):
    """Nothing: the fusion leaves an absent modality out."""

    def build(self, features: Mapping[str, FeatureShape], *, rngs: nnx.Rngs) -> None:
        """See `StandIn.build`."""
        return None


@dataclasses.dataclass(frozen=True)
class ZeroStandIn(StandIn):
    """A token of zeros."""

    def build(self, features: Mapping[str, FeatureShape], *, rngs: nnx.Rngs) -> "StandInModule":
        """See `StandIn.build`."""
        return StandInModule()


@dataclasses.dataclass(frozen=True)
class LearnedStandIn(StandIn):
    """A learned token for each modality, trained where it is used; it begins at zeros."""

    def build(self, features: Mapping[str, FeatureShape], *, rngs: nnx.Rngs) -> "StandInModule":
        """See `StandIn.build`."""
        module = StandInModule()
        module.tokens = nnx.Dict(
            {name: nnx.Param(jnp.zeros(features[name].width)) for name in sorted(features)}
        )
        return module


@dataclasses.dataclass(frozen=True)
class MeanStandIn(StandIn):
    """The running mean of the modality's pooled features, over training examples that have it.

    It begins at zeros and is divided by the weight of what it has seen (as in Adam, Kingma and Ba
    2015, section 3), so that it is the mean from the first step on. No gradient flows through it.

    Attributes:
        momentum: how much of the old mean a step keeps, at least 0 and below 1.
    """

    momentum: float = 0.99

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ConfigError(
                f"MeanStandIn: momentum is {self.momentum}; choose at least 0 and below 1."
            )

    def build(self, features: Mapping[str, FeatureShape], *, rngs: nnx.Rngs) -> "MeanModule":
        """See `StandIn.build`."""
        return MeanModule(self, features)


class StandInModule(nnx.Module):
    """Puts a token, zeros unless there are `tokens`, where a modality is absent."""

    tokens: Any = None

    def __call__(self, features: Mapping[str, Features], *, train: bool) -> dict[str, Features]:
        """Modality -> features [B, T, D] in which every example has a valid token."""
        return {
            name: _filled(each, 0 if self.tokens is None else self.tokens[name][...])
            for name, each in features.items()
        }


class MeanModule(nnx.Module):
    """The module that `MeanStandIn` builds."""

    def __init__(self, config: MeanStandIn, features: Mapping[str, FeatureShape]) -> None:
        self.momentum = config.momentum
        names = sorted(features)
        self.sums = nnx.Dict(
            {name: nnx.BatchStat(jnp.zeros(features[name].width)) for name in names}
        )
        self.weights = nnx.Dict({name: nnx.BatchStat(jnp.zeros(())) for name in names})

    def __call__(self, features: Mapping[str, Features], *, train: bool) -> dict[str, Features]:
        """Modality -> features [B, T, D] in which every example has a valid token."""
        filled = {}
        for name, each in features.items():
            sums, weight = self.sums[name], self.weights[name]
            if train:
                there = each.present
                count = there.sum()
                pooled = jax.lax.stop_gradient(each.pooled.astype(jnp.float32))
                mean = pooled.sum(axis=0, where=there[:, None]) / jnp.maximum(count, 1)
                keep = jnp.where(count > 0, self.momentum, 1.0)  # a batch without it says nothing
                sums[...] = keep * sums[...] + (1 - keep) * mean
                weight[...] = keep * weight[...] + (1 - keep)
            now = weight[...]
            filled[name] = _filled(each, sums[...] / jnp.where(now > 0, now, 1))
        return filled


def _filled(features: Features, token: Any) -> Features:
    """One valid token, the first, for each example that has none."""
    absent = ~features.present
    first = jnp.arange(features.mask.shape[1]) == 0
    place = absent[:, None] & first
    token = jnp.asarray(token, features.tokens.dtype)
    return Features(
        tokens=jnp.where(place[:, :, None], token, features.tokens), mask=features.mask | place
    )
