"""How far a classifier is from what can be known at all, where the data set tells that."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np

from mmjax.errors import ConfigError
from mmjax.evaluation.classification import Classification
from mmjax.training.experiment import Evaluator, Experiment, Value
from mmjax.training.predictions import Predictor


@runtime_checkable
class Knowable(Protocol):
    """A data set that knows the accuracy of the best possible classifier."""

    def best_accuracy(self, subset: tuple[str, ...]) -> float:
        """The accuracy of the best classifier that sees only these modalities."""
        ...


@dataclasses.dataclass(frozen=True)
class BestPossible(Evaluator):
    """The best accuracy that the modalities which the model uses allow, and the share reached.

    Gives `best_accuracy` and `share_of_best`, accuracy over best accuracy. On a finite split the
    share of a perfect model scatters around 1.

    Attributes:
        target: name of the target that the model's head classifies.
    """

    target: str = "label"

    def check(self, experiment: Experiment) -> None:
        """See `Evaluator.check`."""
        Classification(self.target).check(experiment)
        if not isinstance(experiment.data, Knowable):
            raise ConfigError(
                f"Nobody knows the best possible accuracy on {experiment.data.name!r}: leave the "
                "evaluation BestPossible out, or use the data set 'shapes'."
            )

    def __call__(self, predictor: Predictor, split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""
        predictions = predictor(split)
        data, logits = predictor.data, predictions.logits
        assert isinstance(data, Knowable), "`check` refuses the others"
        assert logits is not None, "`check` refuses models without a head"
        best = data.best_accuracy(tuple(predictions.embeddings))
        right = np.argmax(logits, axis=1) == predictions.targets[self.target]
        return {"best_accuracy": best, "share_of_best": float(right.mean()) / best}
