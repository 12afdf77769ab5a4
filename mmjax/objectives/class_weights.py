"""Class weights of a loss: given, or computed from the class counts of the training split."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mmjax.errors import ConfigError
from mmjax.objectives.objective import Objective, label_of
from mmjax.structs import Batch, Outputs


class FromCounts(abc.ABC):
    """Base of the weights that depend on the number of training examples of each class."""

    def __call__(self, counts: np.ndarray) -> tuple[float, ...]:
        """The weights of C classes, scaled to sum to C.

        Args:
            counts: [C] examples of each class; a class without examples counts as having one.
        """
        weights = self._unscaled(np.maximum(np.asarray(counts, np.float64), 1))
        return tuple((weights * (len(weights) / weights.sum())).tolist())

    @abc.abstractmethod
    def _unscaled(self, counts: np.ndarray) -> np.ndarray:
        """Weights [C] in proportion, for counts [C] of 1 or more."""


@dataclass(frozen=True)
class InverseFrequency(FromCounts):
    """Weights in proportion to n_c^-power, for n_c training examples of class c; they sum to C.

    Attributes:
        power: 1 gives all classes the same total weight, 0 equal weights, 1/2 is a compromise.
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.power < np.inf:
            raise ConfigError(f"InverseFrequency.power is {self.power}: it must be 0 or more.")

    def _unscaled(self, counts: np.ndarray) -> np.ndarray:
        return (counts / counts.max()) ** -self.power


@dataclass(frozen=True)
class EffectiveNumber(FromCounts):
    """Weights in proportion to (1 - beta) / (1 - beta^n_c); they sum to C.

    Attributes:
        beta: in [0, 1); 0 gives equal weights, and close to 1 they are inverse frequencies.

    Reference:
        Cui, Jia, Lin, Song and Belongie, Class-balanced loss based on effective number of samples,
        CVPR 2019, proposition 1 and section 4.
    """

    beta: float = 0.999

    def __post_init__(self) -> None:
        if not 0 <= self.beta < 1:
            raise ConfigError(
                f"EffectiveNumber.beta is {self.beta}: it must be at least 0 and below 1."
            )

    def _unscaled(self, counts: np.ndarray) -> np.ndarray:
        return (1 - self.beta) / (1 - self.beta**counts)


ClassWeights = tuple[float, ...] | InverseFrequency | EffectiveNumber | None


@dataclass(frozen=True, kw_only=True)
class OneLabel(Objective):
    """Base of the objectives that compare logits with one label an example and weight classes."""

    weight: float
    target: str
    class_weights: ClassWeights

    def __post_init__(self) -> None:
        if isinstance(self.class_weights, tuple):
            check_class_weights(self.class_weights)

    @property
    def counted_targets(self) -> tuple[str, ...]:
        """See `Objective.counted_targets`."""
        return (self.target,) if isinstance(self.class_weights, FromCounts) else ()

    def of_data(self, counts: Mapping[str, np.ndarray]) -> "OneLabel":
        """See `Objective.of_data`."""
        if not isinstance(self.class_weights, FromCounts):
            return self
        return dataclasses.replace(self, class_weights=self.class_weights(counts[self.target]))

    def _logits_and_labels(self, outputs: Outputs, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """The logits [B, C] and the labels [B] of a batch."""
        if outputs.logits is None:
            raise ConfigError(
                f"the objective {type(self).__name__} needs logits, but the model has no "
                "classifier head: give it head=Classifier(...) or leave the objective out"
            )
        return jnp.asarray(outputs.logits), label_of(batch, self.target)

    def _weights(self) -> tuple[float, ...] | None:
        """The weights of the classes, if any."""
        if isinstance(self.class_weights, FromCounts):
            raise ConfigError(
                f"class_weights={self.class_weights} needs to know how many examples each class "
                "has: call `of_data` with the counts first, as the training does"
            )
        return self.class_weights


def check_class_weights(weights: Sequence[float] | np.ndarray) -> None:
    """Refuses class weights that are not valid.

    Raises:
        ConfigError: a weight that is negative or not finite, or no weight above zero.
    """
    values = np.asarray(weights, np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
        raise ConfigError(
            f"class_weights={_shown(values)} must be one number a class, finite and not negative"
        )
    if not (values > 0).any():
        raise ConfigError(
            f"class_weights={_shown(values)} are all 0: make at least one of them positive"
        )


def weight_of_label(
    class_weights: Sequence[float] | np.ndarray | jax.Array,
    chosen: Bool[Array, "B C"],
    dtype: jnp.dtype,
) -> Float[Array, " B"]:
    """The weight of every row's class.

    Args:
        class_weights: [C].
        chosen: one-hot labels; a row without one gets 0.
        dtype: of the result.

    Raises:
        ConfigError: the weights are not one a class, or not valid (`check_class_weights`).
    """
    if not isinstance(class_weights, jax.Array):
        check_class_weights(class_weights)
    weights = jnp.asarray(class_weights, dtype)
    classes = chosen.shape[1]
    if weights.shape != (classes,):
        raise ConfigError(
            f"class_weights has the shape {weights.shape}, but the logits are of {classes} "
            "classes: give one weight a class"
        )
    return jnp.sum(jnp.where(chosen, weights[None, :], 0), axis=1)


def _shown(values: np.ndarray) -> str:
    few = ", ".join(f"{value:g}" for value in values.ravel()[:8])
    return f"({few}{', ...' if values.size > 8 else ''})"
