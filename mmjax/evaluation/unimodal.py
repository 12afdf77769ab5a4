"""What each modality says alone: accuracy and loss of its own heads."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from mmjax.data import Dataset
from mmjax.errors import ConfigError
from mmjax.evaluation.embeddings import check_prediction, shapes_of
from mmjax.evaluation.evaluator import Lower, Reads, StreamedEvaluator, Task, Value
from mmjax.structs import Batch, Outputs


@dataclasses.dataclass(frozen=True)
class UnimodalClassification(StreamedEvaluator):
    """Accuracy and cross-entropy of the heads of each modality, and the cross-entropy of the whole.

    Gives `accuracy_MODALITY` and `cross_entropy_MODALITY` over the labelled examples that have the
    modality, and `cross_entropy`. For models with `Outputs.unimodal`.

    Attributes:
        target: name of a target of the kind `class`.
    """

    target: str = "label"

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        return Reads(predictions=(self.target,), fields=("unimodal",))

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        check_prediction(self.target, ("class",), task)
        if not shapes_of(task).unimodal:
            raise ConfigError(
                "UnimodalClassification needs a model with heads of one modality: choose "
                "FusionModel(unimodal=True) or a LateFusionModel."
            )

    def state(self, outputs: Outputs, batch: Batch, data: Dataset) -> dict[str, np.ndarray]:
        """See `StreamedEvaluator.state`."""
        labels = np.asarray(batch.targets[self.target])
        known = np.asarray(batch.target_masks.get(self.target, np.ones(len(labels), bool)))
        heads = {"": (outputs.predictions, known)}
        for name, predictions in outputs.unimodal.items():
            heads[f"_{name}"] = (predictions, known & np.asarray(outputs.present[name]))
        return {
            key: _sums(np.asarray(predictions[self.target].values)[rows], labels[rows])
            for key, (predictions, rows) in heads.items()
        }

    def values(self, state: Mapping[str, np.ndarray], data: Dataset) -> dict[str, Value]:
        """See `StreamedEvaluator.values`."""
        values: dict[str, Value] = {}
        for key, (right, loss, rows) in state.items():
            count = rows or math.nan
            if key:
                values[f"accuracy{key}"] = float(right / count)
            values[f"cross_entropy{key}"] = Lower(loss / count)
        return values


def _sums(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many are right, the summed cross-entropy in nats, and the number of examples."""
    z = logits.astype(np.float64)
    z = z - z.max(axis=1, keepdims=True) if len(z) else z
    losses = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels]
    return np.array([(z.argmax(axis=1) == labels).sum() if len(z) else 0, losses.sum(), len(z)])


def blending_weights(
    before: Mapping[str, float], after: Mapping[str, float], modalities: tuple[str, ...]
) -> dict[str, float]:
    """The weights of gradient blending, from what each head has learned and overfitted.

        w_k = 1/Z  G_k / O_k^2,    G = drop of the loss on `valid`, O = growth of the gap between
        the losses on `valid` and `train`

    Args:
        before: metrics of a run with `UnimodalClassification` on `train` and `valid`, such as the
            `metrics` of its result.json: of a pilot with `training.steps=0`.
        after: the same of the pilot after its training.
        modalities: the modalities with heads.

    Returns:
        modality -> weight, and "" -> the weight of the joint loss; they sum to 1. A head whose loss
        on `valid` did not drop gets 0.

    Raises:
        ConfigError: a metric is missing, or no head has learned anything.

    Reference:
        Wang, Tran and Feiszli, What Makes Training Multi-Modal Classification Networks Hard?, CVPR
        2020, equations 3 to 6 (offline, with one interval).
    """
    raw = {}
    for name in ("", *modalities):
        losses = []
        for metrics in (before, after):
            for split in ("train", "valid"):
                key = f"{split}/cross_entropy{name and '_' + name}"
                if key not in metrics:
                    raise ConfigError(
                        f"There is no metric {key!r}: evaluate both runs by UnimodalClassification "
                        "on train and valid, with training.final_splits=('train', 'valid')."
                    )
                losses.append(metrics[key])
        train0, valid0, train1, valid1 = losses
        learned, overfitted = valid0 - valid1, (valid1 - train1) - (valid0 - train0)
        # A gap that did not grow would have an infinite weight: 1 % of the loss bounds it.
        raw[name] = max(learned, 0.0) / max(overfitted, 0.01 * valid0) ** 2
    total = sum(raw.values())
    if not total > 0:
        raise ConfigError(
            "No head has a lower loss on valid than before: train the pilot for longer, or check "
            "its data."
        )
    return {name: weight / total for name, weight in raw.items()}
