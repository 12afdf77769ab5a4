"""Alignment of data from different sources: CORAL, and an adversary behind a reversed gradient."""

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.errors import ConfigError, check_sizes
from mmjax.layers import Perceptron
from mmjax.objectives.cross_entropy import cross_entropy
from mmjax.objectives.objective import Objective, PureObjective, embedding_of, label_of
from mmjax.structs import Batch, Outputs, Term


@dataclasses.dataclass(frozen=True, kw_only=True)
class CORAL(PureObjective):
    """Makes the covariance of an embedding the same in data from all sources.

        mean over pairs of sources of |C_1 - C_2|_F^2 / (4 D^2)

    over the pairs of which the batch has at least two examples each; 0 without such a pair.

    Attributes:
        weight: factor of this term in the training loss.
        view: name of the embedding; empty: the fused features.
        source: a target of the kind `class` that names the source of each example. It is read in
            training only.
        sources: number of its classes, 2 or more.

    Reference:
        Sun and Saenko, Deep CORAL, ECCV 2016 workshops, equations 1 to 3.
    """

    weight: float = 1.0
    view: str = ""
    source: str = "source"
    sources: int = 2

    def __post_init__(self) -> None:
        check_sizes(self, "sources", least=2)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "coral"

    @property
    def targets_read(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.targets_read`."""
        return {self.source: ("class",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The mean over the pairs of sources in one batch."""
        x, present = _features(outputs, self.view)
        source, weight = label_of(batch, self.source)
        weight = jnp.where(present, weight, 0)
        x = jnp.where((weight > 0)[:, None], x, 0).astype(jnp.float32)
        found = [_covariance(x, weight * (source == each)) for each in range(self.sources)]
        total, pairs = jnp.zeros(()), jnp.zeros(())
        for (one, rows), (other, more) in itertools.combinations(found, 2):
            both = (rows >= 2) & (more >= 2)
            distance = jnp.sum((one - other) ** 2) / (4 * x.shape[1] ** 2)
            total, pairs = total + jnp.where(both, distance, 0), pairs + both
        return Term.of_batch(total / jnp.maximum(pairs, 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceAdversary(Objective):
    """A classifier of the source, behind a layer that reverses the gradient.

    The classifier learns to tell from an embedding which source an example is of; its gradient
    reaches the encoders times -`strength`, so that they learn to hide it.

    Attributes:
        weight: factor of this term in the training loss.
        view: name of the embedding; empty: the fused features.
        source: a target of the kind `class` that names the source of each example.
        sources: number of its classes, 2 or more.
        hidden: width of the classifier's hidden layer.
        strength: lambda of the paper, at least 0; constant, where the paper lets it grow.

    Reference:
        Ganin et al., Domain-Adversarial Training of Neural Networks, JMLR 2016, equations 9 to 18.
    """

    weight: float = 1.0
    view: str = ""
    source: str = "source"
    sources: int = 2
    hidden: int = 64
    strength: float = 1.0

    def __post_init__(self) -> None:
        check_sizes(self, "hidden")
        check_sizes(self, "sources", least=2)
        check_sizes(self, "strength", least=0)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "source_adversary"

    @property
    def targets_read(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.targets_read`."""
        return {self.source: ("class",)}

    def build(self, outputs: Outputs, *, rngs: nnx.Rngs) -> "SourceAdversaryModule":
        """See `Objective.build`."""
        width = _features(outputs, self.view)[0].shape[1]
        return SourceAdversaryModule(self, width, rngs=rngs)


class SourceAdversaryModule(nnx.Module):
    """The module that `SourceAdversary` builds."""

    def __init__(self, config: SourceAdversary, width: int, *, rngs: nnx.Rngs) -> None:
        self.config = config
        self.classifier = Perceptron(
            (width, config.hidden, config.sources), dtype=jnp.dtype("float32"), rngs=rngs
        )

    def __call__(
        self, outputs: Outputs, batch: Batch, *, train: bool, rngs: nnx.Rngs | None
    ) -> Term:
        """The cross-entropy of one batch, and how often the classifier is right."""
        x, present = _features(outputs, self.config.view)
        source, weight = label_of(batch, self.config.source)
        weight = jnp.where(present, weight, 0)
        x = jnp.where((weight > 0)[:, None], x, 0).astype(jnp.float32)
        logits = self.classifier(reverse(x, self.config.strength), train=train, rngs=rngs)
        total, count = cross_entropy(logits, source, weight=weight)
        right = jnp.sum(weight * (jnp.argmax(logits, axis=1) == source))
        return Term(total, count, {"accuracy": right / jnp.maximum(count, 1)})


def reverse(x: jax.Array, strength: float) -> jax.Array:
    """The identity, whose gradient is multiplied by -`strength`."""
    return -strength * x + jax.lax.stop_gradient((1 + strength) * x)


def _features(outputs: Outputs, view: str) -> tuple[Any, Any]:
    """An embedding [B, D], or the fused features, and the examples [B] that have it."""
    if view:
        return embedding_of(outputs, view), outputs.present[view]
    if outputs.fused is None:
        raise ConfigError(
            "The model has no fused features: name an embedding as `view`, or choose a FusionModel."
        )
    if isinstance(outputs.fused.tokens, jax.ShapeDtypeStruct):
        pooled = jax.eval_shape(lambda fused: (fused.pooled, fused.present), outputs.fused)
        return pooled
    return outputs.fused.pooled, outputs.fused.present


def _covariance(x: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The covariance [D, D] of rows [B, D] by n - 1, and n; their weights are 0 or 1."""
    count = jnp.sum(weight)
    mean = weight @ x / jnp.maximum(count, 1)
    centred = (x - mean) * weight[:, None]
    return centred.T @ centred / jnp.maximum(count - 1, 1), count
