"""Classification: accuracy, precision, recall, F1 and the confusion matrix."""

import dataclasses

import numpy as np

from mmjax.errors import ConfigError, unknown_name
from mmjax.evaluation.metrics import Confusion
from mmjax.training.experiment import Evaluator, Experiment, Value
from mmjax.training.predictions import Predictor


@dataclasses.dataclass(frozen=True)
class Classification(Evaluator):
    """How often the class of the largest logit is right.

    Gives `accuracy`, `{macro,weighted}_{precision,recall,f1}`, and the table `confusion` [C, C],
    rows the true classes and columns the predicted ones. A class never predicted has precision 0.

    Attributes:
        target: name of the target that the model's head classifies.
    """

    target: str = "label"

    def check(self, experiment: Experiment) -> None:
        """See `Evaluator.check`."""
        if self.target not in experiment.data.targets:
            raise unknown_name("target", self.target, experiment.data.targets)
        head = getattr(experiment.model, "head", None)
        if head is None:
            raise ConfigError(
                f"{type(experiment.model).__name__} has no classifier head for the evaluation "
                "Classification: use FusionModel, or leave the evaluation out."
            )
        if head.target != self.target:
            raise ConfigError(
                f"The evaluation looks at the target {self.target!r}, but the model's head "
                f"classifies {head.target!r}: set both to the same one."
            )

    def __call__(self, predictor: Predictor, split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""
        predictions = predictor(split)
        logits = predictions.logits
        assert logits is not None, "`check` refuses models without a head"
        confusion = Confusion.of(
            predictions.targets[self.target], np.argmax(logits, axis=1), logits.shape[1]
        )
        values: dict[str, Value] = {"accuracy": confusion.accuracy}
        for kind, averages in (("macro", confusion.macro), ("weighted", confusion.weighted)):
            for field in dataclasses.fields(averages):
                values[f"{kind}_{field.name}"] = getattr(averages, field.name)
        return values | {"confusion": confusion.counts}
