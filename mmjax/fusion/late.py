"""Decision level inside one model: how the predictions of one head per modality are combined.

`mmjax.fusion.decision` combines the predictions of finished runs instead.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError
from mmjax.fusion.pooled import check_complete, check_positive, present, softmax_of_present
from mmjax.structs import Features, Target

KINDS = ("class", "labels", "number")


class DecisionModule(Protocol):
    """What `Decision.build` returns (an `nnx.Module`)."""

    def __call__(
        self, values: jax.Array, features: Mapping[str, Features], kind: str
    ) -> tuple[jax.Array, jax.Array]:
        """Combines the predictions of one target.

        Args:
            values: [B, M, ...] of the heads of M modalities, by sorted names: logits of classes or
                labels, or numbers.
            features: modality -> the features that its head read.
            kind: of the target: `class`, `labels` or `number`.

        Returns:
            [B, ...] of the same kind, zeros for an example without any modality; and the weights
            [B, M] of the modalities, which sum to 1 over those that are present.
        """
        ...


class Decision(abc.ABC):
    """Base of the configs of combinations. A modality that is absent from an example has no say."""

    @abc.abstractmethod
    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> Any:
        """Makes the `DecisionModule`; the arguments are those of `Fusion.build`."""

    def check_target(self, name: str, target: Target) -> None:
        """Refuses a target whose predictions cannot be combined; ConfigError."""
        if target.kind not in KINDS:
            raise ConfigError(
                f"The predictions of {name!r}, a target of the kind {target.kind}, cannot be "
                f"combined over modalities: choose heads for targets of the kind "
                f"{', '.join(KINDS)}, or a FusionModel."
            )


@dataclasses.dataclass(frozen=True)
class AveragedHeads(Decision):
    """The mean over the modalities of their probabilities, or of the numbers they predict.

    p = 1/M sum_m p_m, the sum rule of Kittler et al., On Combining Classifiers, PAMI 1998.
    """

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "WeightedHeadsModule":
        """See `Decision.build`."""
        return WeightedHeadsModule((0.0,) * len(features))


@dataclasses.dataclass(frozen=True)
class WeightedHeads(Decision):
    """The weighted mean of the probabilities, or of the numbers: p = sum_m w_m p_m.

    The weights are divided by the sum of those of the modalities that are present.

    Attributes:
        weights: modality -> fixed weight above 0; if empty, they are learned, as the softmax of one
            logit per modality, all equal at the start.
    """

    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_positive("WeightedHeads", self.weights)

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "WeightedHeadsModule":
        """See `Decision.build`."""
        if not self.weights:
            return WeightedHeadsModule(nnx.Param(jnp.zeros(len(features))))
        check_complete("WeightedHeads", self.weights, features)
        fixed = tuple(math.log(self.weights[name]) for name in sorted(features))
        return WeightedHeadsModule(fixed)


@dataclasses.dataclass(frozen=True)
class ProductOfHeads(Decision):
    """The normalised product of the modalities' probabilities; for targets that are no numbers.

    log p = sum_m log p_m + const, the product rule of Kittler et al. 1998. As its logits are a sum,
    a loss on the product trains the heads together, not each on its own.
    """

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "ProductOfHeadsModule":
        """See `Decision.build`."""
        return ProductOfHeadsModule()

    def check_target(self, name: str, target: Target) -> None:
        """See `Decision.check_target`."""
        super().check_target(name, target)
        if target.kind == "number":
            raise ConfigError(
                f"ProductOfHeads multiplies probabilities, but {name!r} is a target of the kind "
                "number: choose AveragedHeads, WeightedHeads or ExpertGate."
            )


@dataclasses.dataclass(frozen=True)
class ExpertGate(Decision):
    """Mixture of experts: a gate that sees all modalities weights the heads for each example.

        p = sum_m g_m p_m,    g = softmax(V [x_1, ..., x_M]) over the modalities that are present

    Reference:
        Jacobs, Jordan, Nowlan and Hinton, Adaptive Mixtures of Local Experts, 1991, equation 1.3,
        with a gate that is one linear layer.
    """

    def build(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> "ExpertGateModule":
        """See `Decision.build`."""
        return ExpertGateModule(features, dtype=dtype, rngs=rngs)


class WeightedHeadsModule(nnx.Module):
    """A mean with weights that are the same for all examples."""

    def __init__(self, logits: nnx.Param | tuple[float, ...]) -> None:
        self.logits = logits

    def __call__(
        self, values: jax.Array, features: Mapping[str, Features], kind: str
    ) -> tuple[jax.Array, jax.Array]:
        """See `DecisionModule`."""
        given: Any = self.logits
        logits = jnp.array(given) if isinstance(given, tuple) else given[...]
        there = present(features)
        weights = softmax_of_present(jnp.broadcast_to(logits, there.shape), there)
        return mixed(values, weights, kind), weights


class ProductOfHeadsModule(nnx.Module):
    """The module that `ProductOfHeads` builds."""

    def __call__(
        self, values: jax.Array, features: Mapping[str, Features], kind: str
    ) -> tuple[jax.Array, jax.Array]:
        """See `DecisionModule`."""
        there = present(features)
        values = values.astype(jnp.float32)
        logs = jax.nn.log_softmax(values) if kind == "class" else values
        product = jnp.where(_as(there, logs), logs, 0).sum(axis=1)
        return product, softmax_of_present(jnp.zeros(there.shape), there)


class ExpertGateModule(nnx.Module):
    """The module that `ExpertGate` builds."""

    def __init__(
        self, features: Mapping[str, FeatureShape], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        every = sum(shape.width for shape in features.values())
        self.gate = nnx.Linear(every, len(features), dtype=dtype, rngs=rngs)

    def __call__(
        self, values: jax.Array, features: Mapping[str, Features], kind: str
    ) -> tuple[jax.Array, jax.Array]:
        """See `DecisionModule`."""
        every = jnp.concatenate([features[name].pooled for name in sorted(features)], axis=-1)
        weights = softmax_of_present(self.gate(every), present(features))
        return mixed(values, weights, kind), weights


def mixed(values: jax.Array, weights: jax.Array, kind: str) -> jax.Array:
    """The mean of probabilities or numbers over the modalities, as logits or numbers.

    Args:
        values: [B, M, ...]: logits of classes (softmax) or labels (sigmoid), or numbers.
        weights: [B, M], which sum to 1, or all 0: then the result is 0.
        kind: `class`, `labels` or `number`.

    Returns:
        [B, ...], in float32.
    """
    values, none = values.astype(jnp.float32), ~(weights > 0).any(axis=1)
    each = _as(weights, values)

    def log_mean(logs: jax.Array) -> jax.Array:
        # Of what does not count, 0 instead of minus infinity: the gradient of a `where`.
        terms = jnp.where(each > 0, logs + jnp.log(jnp.where(each > 0, each, 1)), -1e30)
        return jax.nn.logsumexp(terms, axis=1)

    if kind == "number":
        return jnp.where(each > 0, each * values, 0).sum(axis=1)
    if kind == "labels":
        result = log_mean(jax.nn.log_sigmoid(values)) - log_mean(jax.nn.log_sigmoid(-values))
    else:
        result = log_mean(jax.nn.log_softmax(values))
    return jnp.where(none.reshape(-1, *[1] * (result.ndim - 1)), 0, result)


def _as(per_modality: jax.Array, values: jax.Array) -> jax.Array:
    """[B, M] with axes of size 1 added, to go with [B, M, ...]."""
    return per_modality.reshape(*per_modality.shape, *[1] * (values.ndim - 2))
