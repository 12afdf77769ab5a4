"""Compares a classifier with the best possible one, for data sets that know its accuracy."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np

from mmjax.data import Dataset
from mmjax.errors import ConfigError
from mmjax.evaluation.classification import Classification, known_logits
from mmjax.evaluation.evaluator import Neither, Reads, StreamedEvaluator, Task, Value
from mmjax.structs import Batch, Outputs


@runtime_checkable
class Knowable(Protocol):
    """A data set that knows the accuracy of the best possible classifier."""

    def best_accuracy(self, subset: tuple[str, ...]) -> float:
        """The accuracy of the best classifier that sees only these modalities."""
        ...


@dataclasses.dataclass(frozen=True)
class _Right:
    """Number of correctly classified examples, and the modalities that the model reads."""

    right: int
    examples: int
    modalities: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class BestPossible(StreamedEvaluator):
    """The best possible accuracy with the modalities that the model reads, and the share reached.

    Gives `best_accuracy` and `share_of_best`, the accuracy divided by the best accuracy. On a
    finite split the share of a perfect model varies around 1.

    Attributes:
        target: name of a target of the kind `class`.
    """

    target: str = "label"

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        return Reads(predictions=(self.target,))

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        Classification(self.target).check(task)
        if not isinstance(task.data, Knowable):
            raise ConfigError(
                f"The best possible accuracy on {task.data.name!r} is unknown: remove the "
                "evaluation BestPossible, or use the data set 'shapes'."
            )

    def state(self, outputs: Outputs, batch: Batch, data: Dataset) -> _Right:
        """See `StreamedEvaluator.state`."""
        logits, labels = known_logits(outputs, batch, self.target)
        right = int((np.argmax(logits, axis=1) == labels).sum())
        return _Right(right, len(labels), tuple(outputs.present))

    def merge(self, one: _Right, other: _Right) -> _Right:
        """See `StreamedEvaluator.merge`."""
        return _Right(one.right + other.right, one.examples + other.examples, one.modalities)

    def values(self, state: _Right, data: Dataset) -> dict[str, Value]:
        """See `StreamedEvaluator.values`."""
        assert isinstance(data, Knowable), "`check` makes sure"
        best = data.best_accuracy(state.modalities)
        accuracy = state.right / max(state.examples, 1)
        return {"best_accuracy": Neither(best), "share_of_best": accuracy / best}
