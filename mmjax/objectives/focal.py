"""The focal loss: cross-entropy that down-weights examples that are already classified well."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Integer, Shaped

from mmjax.errors import ConfigError
from mmjax.objectives.class_weights import ClassWeights, OneLabel
from mmjax.objectives.cross_entropy import log_probabilities, weighted_sum
from mmjax.structs import Batch, Outputs


@dataclass(frozen=True, kw_only=True)
class Focal(OneLabel):
    """Focal loss of the model's logits against one label an example.

    The mean over the rows of a batch; the weighted mean, as of `CrossEntropy`, with class weights.

    Attributes:
        weight: factor of this term in the training loss.
        target: name of the target that holds the label.
        gamma: how strongly well classified examples are down-weighted; 0 is the cross-entropy.
        class_weights: how much the examples of each class count: one number a class, or
            `InverseFrequency` or `EffectiveNumber` of the training examples; None for all equal.
    """

    weight: float = 1.0
    target: str = "label"
    gamma: float = 2.0
    class_weights: ClassWeights = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_gamma(self.gamma)

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "focal"

    def __call__(self, outputs: Outputs, batch: Batch) -> jax.Array:
        """The mean focal loss over the rows of one batch."""
        logits, labels = self._logits_and_labels(outputs, batch)
        total, count = focal(
            logits,
            labels,
            gamma=self.gamma,
            class_weights=self._weights(),
            weight=batch.weight,
        )
        return total / jnp.where(count > 0, count, 1)


def focal(
    logits: Float[ArrayLike, "B C"],
    labels: Integer[ArrayLike, " B"],
    *,
    gamma: float | int,
    class_weights: Sequence[float] | np.ndarray | jax.Array | None = None,
    weight: Shaped[ArrayLike, " B"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Focal loss, summed over the batch, and the weight of the rows summed over.

        sum_b w_b u_b (-(1 - p_b)^gamma log p_b),    p_b = softmax(logits_b)[label_b]
        sum_b w_b u_b,                               u_b = class_weights[label_b]

    Sums and counts of several batches add up; the mean is their ratio. The paper sums over the
    anchors of an image and divides by the number of anchors with an object; here there are none.

    Args:
        logits: [B, C].
        labels: [B], each from 0 to C - 1. Any other gives NaN, unless its row has weight 0.
        gamma: 0 or more; 0 gives the cross-entropy exactly.
        class_weights: [C], not negative; alpha in the paper. All 1 if None.
        weight: [B], not negative; a row of weight 0 is ignored, whatever it holds. All 1 if None.

    Returns:
        The sum and the total weight, two scalars in float32 (float64 for float64 logits). The
        gradient is finite everywhere, and zero where p_b is 1.

    Raises:
        ConfigError: a negative gamma, or class weights that are not one a class.

    Reference:
        Lin, Goyal, Girshick, He and Dollár, Focal loss for dense object detection, ICCV 2017, eq.
        4 and 5, with a softmax in place of the sigmoid.
    """
    _check_gamma(gamma)
    log_p, chosen, rows = log_probabilities(logits, labels, weight)
    log_p = jnp.sum(jnp.where(chosen, log_p, 0), axis=1)
    loss = -log_p
    if gamma > 0:
        missing = -jnp.expm1(log_p)  # 1 - p, exact where p is close to 1
        # The derivative of a power below 1 is infinite at 0, so the power is not evaluated there.
        factor = jnp.where(missing > 0, jnp.where(missing > 0, missing, 1) ** gamma, 0)
        loss = factor * loss
    return weighted_sum(loss, chosen, rows, class_weights)


def _check_gamma(gamma: float | int) -> None:
    if not 0 <= gamma < math.inf:
        raise ConfigError(f"gamma={gamma} must be 0 or more")
