"""A metric with every subset of the modalities."""

import dataclasses
import functools
import itertools

from mmjax.errors import ConfigError, unknown_name
from mmjax.evaluation.classification import Classification
from mmjax.evaluation.embeddings import shapes_of
from mmjax.evaluation.evaluator import Evaluator, Reads, StreamedEvaluator, Task, Value
from mmjax.evaluation.predictor import Predictor
from mmjax.evaluation.robustness import dropped


@dataclasses.dataclass(frozen=True)
class Subsets(Evaluator):
    """One metric where the model gets some of the modalities only, whatever the data has.

    Gives `METRIC_of_A_B` for every subset of the model's modalities, but for none and for all. The
    model runs once more over a split for each. Only at the end of a run.

    Attributes:
        evaluation: whose metric.
        metric: its name.
    """

    evaluation: StreamedEvaluator = Classification()
    metric: str = "accuracy"
    at_end_only = True

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        return self.evaluation.reads

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        self.evaluation.check(task)
        if len(shapes_of(task).embeddings) < 2:
            raise ConfigError("Subsets needs a model of two or more modalities: leave it out.")

    def __call__(self, predictor: Predictor, split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""
        names = sorted(predictor(split, examples=1).present)
        found: dict[str, Value] = {}
        for size in range(1, len(names)):
            for kept in itertools.combinations(names, size):
                absent = [name for name in names if name not in kept]
                without = functools.partial(dropped, absent=absent)
                values = self.evaluation(predictor.changed(without), split)
                if self.metric not in values:
                    raise unknown_name("metric of Subsets.evaluation,", self.metric, values)
                found[f"{self.metric}_of_{'_'.join(kept)}"] = values[self.metric]
        return found
