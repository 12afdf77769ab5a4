"""Softmax cross-entropy as a (sum, count) pair, and the objective of a classifier."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer, Shaped

from mmjax.errors import ConfigError
from mmjax.objectives.class_weights import ClassWeights, OneLabel, weight_of_label
from mmjax.objectives.objective import working_dtype
from mmjax.structs import Batch, Outputs


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(OneLabel):
    """Softmax cross-entropy of the model's logits against one label an example.

    With class weights it is the weighted mean: the weighted sum over the summed weights of the
    batch. So the scale of the class weights does not change the scale of the loss, and learning
    rate and the weights of other objectives need no change.

    Attributes:
        weight: factor of this term in the training loss.
        target: name of the target that holds the label.
        label_smoothing: share of the probability that is spread evenly over all classes.
        class_weights: how much the examples of each class count: one number a class, or
            `InverseFrequency` or `EffectiveNumber` of the training examples; None for all equal.
    """

    weight: float = 1.0
    target: str = "label"
    label_smoothing: float = 0.0
    class_weights: ClassWeights = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_smoothing(self.label_smoothing)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "cross_entropy"

    def __call__(self, outputs: Outputs, batch: Batch) -> jax.Array:
        """The mean cross-entropy over the rows of one batch."""
        logits, labels = self._logits_and_labels(outputs, batch)
        total, count = cross_entropy(
            logits,
            labels,
            label_smoothing=self.label_smoothing,
            weight=batch.weight,
            class_weights=self._weights(),
        )
        return total / jnp.where(count > 0, count, 1)


def cross_entropy(
    logits: Float[ArrayLike, "B C"],
    labels: Integer[ArrayLike, " B"],
    *,
    label_smoothing: float | int = 0.0,
    weight: Shaped[ArrayLike, " B"] | None = None,
    class_weights: Sequence[float] | np.ndarray | jax.Array | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Softmax cross-entropy, summed over the batch, and the weight of the rows summed over.

        sum_b w_b u_b (-(1 - a) log p_b[label_b] - a/C sum_c log p_b[c]),    a = label_smoothing
        sum_b w_b u_b,                                        u_b = class_weights[label_b]

    Sums and counts of several batches add up; the mean is their ratio.

    Args:
        logits: [B, C].
        labels: [B], each from 0 to C - 1. Any other gives NaN, unless its row has weight 0.
        label_smoothing: from 0 up to, but not including, 1.
        weight: [B], not negative; a row of weight 0 is ignored, whatever it holds. All 1 if None.
        class_weights: [C], not negative. All 1 if None.

    Returns:
        The sum and the total weight, two scalars in float32 (float64 for float64 logits).

    Raises:
        ConfigError: a label smoothing outside [0, 1), or class weights that are not one a class.

    Reference:
        Szegedy et al., Rethinking the Inception Architecture, CVPR 2016, section 7 (smoothing).
    """
    _check_smoothing(label_smoothing)
    log_p, chosen, rows = log_probabilities(logits, labels, weight)
    loss = -(1 - label_smoothing) * jnp.sum(jnp.where(chosen, log_p, 0), axis=1)
    if label_smoothing > 0:
        loss = loss - label_smoothing * jnp.mean(log_p, axis=1)
    return weighted_sum(loss, chosen, rows, class_weights)


def log_probabilities(
    logits: Float[ArrayLike, "B C"],
    labels: Integer[ArrayLike, " B"],
    weight: Shaped[ArrayLike, " B"] | None,
) -> tuple[Float[Array, "B C"], Bool[Array, "B C"], Float[Array, " B"]]:
    """Log-softmax [B, C], one-hot labels [B, C], and the rows' weights [B], in float32 at least.

    A row of weight 0 is uniform, whatever its logits are.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    dtype = working_dtype(logits)
    rows = jnp.ones(len(logits), dtype) if weight is None else jnp.asarray(weight, dtype)
    # Masked before the softmax: a NaN masked only afterwards would still be in the gradient.
    log_p = jax.nn.log_softmax(jnp.where((rows > 0)[:, None], logits.astype(dtype), 0))
    classes = jnp.arange(logits.shape[1], dtype=labels.dtype)
    return log_p, classes[None, :] == labels[:, None], rows


def weighted_sum(
    loss: Float[Array, " B"],
    chosen: Bool[Array, "B C"],
    rows: Float[Array, " B"],
    class_weights: Sequence[float] | np.ndarray | jax.Array | None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The sum of the row losses, weighted by row and class weights, and the sum of these weights.

    A row of positive weight whose label is not a class gives NaN.
    """
    counted = rows > 0
    loss = jnp.where(chosen.any(axis=1), loss, jnp.nan)
    if class_weights is not None:
        rows = rows * weight_of_label(class_weights, chosen, rows.dtype)
    return jnp.sum(jnp.where(counted, loss, 0) * rows), jnp.sum(rows)


def _check_smoothing(label_smoothing: float | int) -> None:
    if not 0 <= label_smoothing < 1:
        raise ConfigError(f"label_smoothing={label_smoothing} must be at least 0 and below 1")
