"""Knowledge distillation: the loss between a student's logits and those of a teacher."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from mmjax.errors import ConfigError
from mmjax.objectives.objective import PureObjective, prediction_of, target_of
from mmjax.structs import Batch, Outputs, Term


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distillation(PureObjective):
    """Draws the predicted probabilities to those of a teacher, which `Taught` adds to the data.

    So a teacher that has all modalities teaches a student that has one.

    Attributes:
        weight: factor of this term in the training loss.
        target: the target that the student predicts, of the kind `class`.
        teacher: the target that holds the teacher's logits; empty: `target` and `_teacher`.
        temperature: T, above 0; higher values make both softer.
    """

    weight: float = 1.0
    target: str = "label"
    teacher: str = ""
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(f"Distillation: temperature={self.temperature} must be above 0.")

    @property
    def name(self) -> str:
        """The key of this term among the metrics."""
        return "distillation"

    @property
    def targets_read(self) -> dict[str, tuple[str, ...]]:
        """See `Objective.targets_read`."""
        return {self.target: ("class",), self._teacher: ("number",)}

    @property
    def _teacher(self) -> str:
        return self.teacher or f"{self.target}_teacher"

    def __call__(self, outputs: Outputs, batch: Batch) -> Term:
        """The mean over the examples of one batch."""
        given, weight = target_of(batch, self._teacher)
        if weight.ndim > 1:  # a teacher says all of its logits, or nothing
            weight = weight.min(axis=1)
        logits = prediction_of(outputs, self.target).values
        return Term(*distillation(logits, given, temperature=self.temperature, weight=weight))


def distillation(
    student: ArrayLike,
    teacher: ArrayLike,
    *,
    temperature: float | int = 1.0,
    weight: ArrayLike | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), summed over rows, and their weight.

    Args:
        student: logits [B, C].
        teacher: logits [B, C]; no gradient flows to them.
        temperature: T, above 0. With the factor T^2, gradients keep their size as T grows.
        weight: [B], not negative; a row of weight 0 counts for nothing. All 1 if None.

    Returns:
        The sum and the total weight, two scalars in float32.

    Raises:
        ConfigError: the shapes differ: the teacher has other classes.

    Reference:
        Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015, section 2.
    """
    student, teacher = jnp.asarray(student), jnp.asarray(teacher)
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ConfigError(
            f"the student has logits of the shape {student.shape} and the teacher {teacher.shape}: "
            "choose a teacher with the classes of the student"
        )
    rows = jnp.ones(len(student)) if weight is None else jnp.asarray(weight, jnp.float32)
    counted = (rows > 0)[:, None]

    def log_p(logits: jax.Array) -> jax.Array:
        logits = jnp.where(counted, logits, 0).astype(jnp.float32)
        return jax.nn.log_softmax(logits / temperature)

    wanted = jax.lax.stop_gradient(log_p(teacher))
    each = jnp.sum(jnp.exp(wanted) * (wanted - log_p(student)), axis=1)
    return temperature**2 * jnp.sum(rows * each), jnp.sum(rows)
