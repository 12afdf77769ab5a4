"""How far a classifier is from what can be known at all, where the data set tells that."""

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
    """How many examples were classified right, by a model of which modalities."""

    right: int
    examples: int
    modalities: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class BestPossible(StreamedEvaluator):
    """The best accuracy that the modalities which the model uses allow, and the share reached.

    Gives `best_accuracy` and `share_of_best`, accuracy over best accuracy. On a finite split the
    share of a perfect model scatters around 1.

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
                f"Nobody knows the best possible accuracy on {task.data.name!r}: leave the "
                "evaluation BestPossible out, or use the data set 'shapes'."
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
        assert isinstance(data, Knowable), "`check` refuses the others"
        best = data.best_accuracy(state.modalities)
        accuracy = state.right / max(state.examples, 1)
        return {"best_accuracy": Neither(best), "share_of_best": accuracy / best}
