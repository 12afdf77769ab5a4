"""Classification: accuracy, precision, recall, F1 and the confusion matrix."""

import dataclasses

import numpy as np

from mmjax.data import Dataset
from mmjax.evaluation.embeddings import check_prediction
from mmjax.evaluation.evaluator import Reads, StreamedEvaluator, Task, Value, prefixed
from mmjax.evaluation.metrics import Confusion
from mmjax.structs import Batch, Outputs


@dataclasses.dataclass(frozen=True)
class Classification(StreamedEvaluator):
    """Classification metrics of the class with the largest logit, over the labelled examples.

    Gives `accuracy`, `{macro,weighted}_{precision,recall,f1}`, and the table `confusion` [C, C],
    rows the true classes and columns the predicted ones. A class never predicted has precision 0.

    Attributes:
        target: name of a target of the kind `class`.
        name: prefix of the metric names; empty for none.
    """

    target: str = "label"
    name: str = ""

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        return Reads(predictions=(self.target,))

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        check_prediction(self.target, ("class",), task)

    def state(self, outputs: Outputs, batch: Batch, data: Dataset) -> Confusion:
        """See `StreamedEvaluator.state`."""
        logits, labels = known_logits(outputs, batch, self.target)
        return Confusion.of(labels, np.argmax(logits, axis=1), logits.shape[1])

    def merge(self, one: Confusion, other: Confusion) -> Confusion:
        """See `StreamedEvaluator.merge`."""
        return one.merge(other)

    def values(self, state: Confusion, data: Dataset) -> dict[str, Value]:
        """See `StreamedEvaluator.values`."""
        values: dict[str, Value] = {"accuracy": state.accuracy}
        for kind, averages in (("macro", state.macro), ("weighted", state.weighted)):
            for field in dataclasses.fields(averages):
                values[f"{kind}_{field.name}"] = getattr(averages, field.name)
        values["confusion"] = state.counts
        return prefixed(self.name, values)


def known_logits(outputs: Outputs, batch: Batch, target: str) -> tuple[np.ndarray, np.ndarray]:
    """The logits [M, C] and labels [M] of the examples of a batch whose class is known."""
    logits, labels = outputs.predictions[target].values, batch.targets[target]
    known = batch.target_masks.get(target, np.ones(len(labels), bool))
    return logits[known], labels[known]
