"""Binary cross-entropy of several labels."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.objectives.elementwise import known_elements
from mmjax.objectives.objective import PureObjective, prediction_of, target_of
from mmjax.structs import Batch, Outputs, Term


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropy(PureObjective):
    """Sigmoid cross-entropy of each label of a target, the mean over the labels that are known.

    Attributes:
        weight: factor of this term in the training loss.
        target: name of a target of the kind `labels`.
    """

    weight: float = 1.0
    target: str

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "binary_cross_entropy"

    @property
    def targets_read(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.targets_read`."""
        return {self.target: ("labels",)}

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The cross-entropy of one batch."""
        labels, weight = target_of(batch, self.target)
        logits = prediction_of(outputs, self.target).values
        return Term(*binary_cross_entropy(logits, labels, weight=weight))


def binary_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, *, weight: ArrayLike | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Sigmoid cross-entropy, summed over the labels of a batch, and the weight summed over.

        sum_i w_i (log(1 + exp(s_i)) - y_i s_i),   sum_i w_i,   i over examples and their labels

    Sums and counts of several batches add up; the mean is their ratio.

    Args:
        logits: s, [B, C].
        labels: y in [0, 1], [B, C].
        weight: [B] or [B, C], not negative; what has the weight 0 counts for nothing, even if it
            is NaN. All 1 if None.

    Returns:
        The sum and the total weight, two scalars in float32 (float64 for float64 logits).

    Raises:
        ConfigError: (a ValueError) shapes that do not fit.
    """
    logits, y, weights = known_elements(logits, labels, weight)
    return jnp.sum(weights * (jax.nn.softplus(logits) - y * logits)), jnp.sum(weights)
