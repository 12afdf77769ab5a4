"""Several labels at once: F1, exact matches and the share of labels that are right."""

import dataclasses

import numpy as np

from mmjax.data import Dataset
from mmjax.evaluation.embeddings import check_prediction
from mmjax.evaluation.evaluator import Reads, StreamedEvaluator, Task, Value, prefixed
from mmjax.evaluation.metrics import f1_of_counts
from mmjax.structs import Batch, Outputs


@dataclasses.dataclass(frozen=True)
class MultiLabelClassification(StreamedEvaluator):
    """How well each of several labels is told, where its logit above 0 says that it applies.

    Gives `label_accuracy`, the share of all known labels that are right; `exact_match`, the share
    of the examples with all labels known and right; `micro_f1`, F1 of all labels counted as one;
    `macro_f1`, the mean of the labels' own F1 (0 for one that neither applies nor is predicted);
    and the table `f1_by_label` [C].

    Attributes:
        target: name of a target of the kind `labels`.
        name: what the names of the metrics begin with; empty for nothing.
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
        said = outputs.predictions[self.target].values > 0
        true = np.asarray(batch.targets[self.target]) > 0.5
        known = np.asarray(batch.target_masks.get(self.target, np.ones(len(true), bool)))
        known = np.broadcast_to(known.reshape(len(true), -1), true.shape)
        whole = known.all(axis=1)
        return {
            "both": (said & true & known).sum(axis=0),
            "said": (said & known).sum(axis=0),
            "true": (true & known).sum(axis=0),
            "right": ((said == true) & known).sum(),
            "known": known.sum(),
            "exact": ((said == true).all(axis=1) & whole).sum(),
            "whole": whole.sum(),
        }

    def values(self, state: dict[str, np.ndarray], data: Dataset) -> dict[str, Value]:
        """See `StreamedEvaluator.values`."""
        by_label = f1_of_counts(state["both"], state["said"], state["true"])
        counts = (state[name].sum() for name in ("both", "said", "true"))
        values: dict[str, Value] = {
            "label_accuracy": float(state["right"] / max(state["known"], 1)),
            "exact_match": float(state["exact"] / max(state["whole"], 1)),
            "micro_f1": float(f1_of_counts(*counts)),
            "macro_f1": float(by_label.mean()),
            "f1_by_label": by_label,
        }
        return prefixed(self.name, values)
