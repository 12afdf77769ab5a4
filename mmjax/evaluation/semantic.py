"""Semantic matching: examples of all views as points in one space, that of class probabilities."""

import dataclasses

import numpy as np
from jaxtyping import Float

from mmjax.evaluation.embeddings import check_target
from mmjax.evaluation.evaluator import Task
from mmjax.evaluation.features import features_of, labelled_features
from mmjax.evaluation.predictor import Predictor
from mmjax.evaluation.probes import COSTS, Probe, best_probe, check_choice, check_costs
from mmjax.evaluation.projections import Projection


@dataclasses.dataclass(frozen=True)
class Semantic:
    """Class probabilities by a multinomial logistic regression for each view.

    It is fitted like a `LinearProbe`: on standardised features of the training records that have
    the view, with the cost that is most accurate on `valid`.

    Attributes:
        target: name of the target with the classes.
        costs: weights of the training errors, see `LinearProbe`. With a single one, `valid` is not
            used.

    Reference:
        Rasiwasia et al., A New Approach to Cross-Modal Multimedia Retrieval, 2010, section 3.3.
    """

    target: str = "label"
    costs: tuple[float, ...] = COSTS

    def __post_init__(self) -> None:
        check_costs("Semantic", self.costs)

    def check(self, task: Task) -> None:
        """Checks that the experiment has the target, and a split to choose a cost on.

        Raises:
            ConfigError: it does not; names the option and the fix.
        """
        check_target(self.target, task)
        check_choice("Semantic", self.costs, task)

    def __call__(
        self, predictor: Predictor, view: str, split: str, projection: Projection | None
    ) -> tuple[Float[np.ndarray, "M C"], np.ndarray]:
        """The probabilities of the classes, for the records of a split that have the view.

        Args:
            predictor: gives the outputs of the model.
            view: name of the view.
            split: name of the split.
            projection: the projection of the embeddings that gives the features; None takes the
                embeddings themselves.

        Returns:
            Probabilities, 0 for a class that no training record with the view has, and the mask of
            the records that have the view, [N] bool.

        Raises:
            DataError: no record of the split has the view, or the training records are all of one
                class.
        """

        def labelled(part: str) -> tuple[np.ndarray, np.ndarray]:
            return labelled_features(predictor, (view,), part, projection, self.target)

        def train() -> Probe:
            what = f"the semantic matching of {view!r}"
            inputs, labels = labelled("train")
            return best_probe(
                "logistic", self.costs, (inputs, labels), lambda: labelled("valid"), what
            )

        classifier = predictor.once((self, projection, view), train).classifier
        inputs, rows = features_of(predictor, (view,), split, projection)
        classes = predictor.data.targets[self.target].classes
        probabilities = np.zeros((len(inputs), classes))
        probabilities[:, classifier.classes_] = classifier.predict_proba(inputs)
        return probabilities, rows
