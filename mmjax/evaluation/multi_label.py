"""Multi-label classification: F1, exact matches and the accuracy over labels."""

import dataclasses

import numpy as np

from mmjax.data import Dataset
from mmjax.evaluation.embeddings import check_prediction
from mmjax.evaluation.evaluator import Reads, StreamedEvaluator, Task, Value, prefixed
from mmjax.evaluation.metrics import f1_of_counts
from mmjax.structs import Batch, Outputs


@dataclasses.dataclass(frozen=True)
class MultiLabelClassification(StreamedEvaluator):
    """Multi-label metrics; a label is predicted if its logit is above 0.

    Gives `label_accuracy`, the share of all known labels that are correct; `exact_match`, the share
    with all labels correct among the examples with all labels known; `micro_f1`, the F1 of the
    pooled counts of all labels; `macro_f1`, the mean F1 over labels (0 for a label that neither
    applies nor is predicted); and the table `f1_by_label` [C].

    Attributes:
        target: name of a target of the kind `labels`.
        name: prefix of the metric names; empty for none.
    """

    target: str
    name: str = ""

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        return Reads(predictions=(self.target,))

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        check_prediction(self.target, ("labels",), task)

    def state(self, outputs: Outputs, batch: Batch, data: Dataset) -> dict[str, np.ndarray]:
        """See `StreamedEvaluator.state`."""
        predicted = outputs.predictions[self.target].values > 0
        true = np.asarray(batch.targets[self.target]) > 0.5
        known = np.asarray(batch.target_masks.get(self.target, np.ones(len(true), bool)))
        known = np.broadcast_to(known.reshape(len(true), -1), true.shape)
        complete = known.all(axis=1)
        return {
            "both": (predicted & true & known).sum(axis=0),
            "predicted": (predicted & known).sum(axis=0),
            "true": (true & known).sum(axis=0),
            "right": ((predicted == true) & known).sum(),
            "known": known.sum(),
            "exact": ((predicted == true).all(axis=1) & complete).sum(),
            "complete": complete.sum(),
        }

    def values(self, state: dict[str, np.ndarray], data: Dataset) -> dict[str, Value]:
        """See `StreamedEvaluator.values`."""
        by_label = f1_of_counts(state["both"], state["predicted"], state["true"])
        counts = (state[name].sum() for name in ("both", "predicted", "true"))
        values: dict[str, Value] = {
            "label_accuracy": float(state["right"] / max(state["known"], 1)),
            "exact_match": float(state["exact"] / max(state["complete"], 1)),
            "micro_f1": float(f1_of_counts(*counts)),
            "macro_f1": float(by_label.mean()),
            "f1_by_label": by_label,
        }
        return prefixed(self.name, values)
