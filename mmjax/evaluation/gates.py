"""How the share that a fusion gives to a modality goes with what is known of the examples."""

import dataclasses

import numpy as np

from mmjax.data import Dataset
from mmjax.errors import ConfigError, unknown_name
from mmjax.evaluation.embeddings import check_target, shapes_of
from mmjax.evaluation.evaluator import Reads, StreamedEvaluator, Task, Value
from mmjax.structs import Batch, Outputs


@dataclasses.dataclass(frozen=True)
class GateCorrelation(StreamedEvaluator):
    """The correlation between a modality's share and a class of each example.

    Gives `gate_correlation`: Pearson's correlation over the examples that have the modality and a
    known class, between `Outputs.shares` of the modality and whether the class is `value`. NaN if
    either does not vary.

    Attributes:
        modality: whose share.
        target: name of a target of the kind `class`.
        value: the class.
    """

    modality: str
    target: str
    value: int = 1

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        return Reads(targets=(self.target,), fields=("shares",))

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        check_target(self.target, task)
        shares = shapes_of(task).shares
        if not shares:
            raise ConfigError(
                "GateCorrelation needs a model whose fusion has shares: choose GMU, "
                "AttentionFusion, WeightedSum or a LateFusionModel."
            )
        if self.modality not in shares:
            raise unknown_name("modality with a share,", self.modality, shares)
        classes = task.data.targets[self.target].classes
        if not 0 <= self.value < classes:
            raise ConfigError(
                f"GateCorrelation.value is {self.value}, but {self.target!r} has classes 0 to "
                f"{classes - 1}."
            )

    def state(self, outputs: Outputs, batch: Batch, data: Dataset) -> np.ndarray:
        """See `StreamedEvaluator.state`."""
        labels = np.asarray(batch.targets[self.target])
        rows = np.asarray(batch.target_masks.get(self.target, np.ones(len(labels), bool)))
        rows = rows & np.asarray(outputs.present[self.modality])
        x = np.asarray(outputs.shares[self.modality], np.float64)[rows]
        y = (labels == self.value)[rows].astype(np.float64)
        return np.array([len(x), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])

    def values(self, state: np.ndarray, data: Dataset) -> dict[str, Value]:
        """See `StreamedEvaluator.values`."""
        n, x, y, xx, yy, xy = state
        spread = (n * xx - x * x) * (n * yy - y * y)
        return {
            "gate_correlation": float((n * xy - x * y) / np.sqrt(spread))
            if spread > 1e-12
            else np.nan
        }
