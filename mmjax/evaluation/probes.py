"""Linear probes: how well a linear classifier on a frozen representation predicts a target."""

import dataclasses
import sys
import warnings
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from mmjax.errors import ConfigError, DataError, check_sizes
from mmjax.evaluation.embeddings import check_target
from mmjax.evaluation.evaluator import Evaluator, Lower, Neither, Reads, Task, Value
from mmjax.evaluation.features import (
    as_views,
    check_features,
    check_metrics,
    labelled_features,
    name_of,
    reads_of,
)
from mmjax.evaluation.predictor import Predictor, some
from mmjax.evaluation.projections import Projection

COSTS = (0.001, 0.01, 0.1, 1.0, 10.0)
MOST_COST = 1e6  # above it a fit overflows, and cannot be interrupted
ITERATIONS = 1000  # at most, of one classifier

Kind = Literal["svm", "svm_one_vs_one", "logistic"]
Examples = tuple[np.ndarray, np.ndarray]  # inputs [N, D] and labels [N]


@dataclasses.dataclass(frozen=True)
class LinearProbe(Evaluator):
    """A linear classifier of a view's embedding, trained on the training split.

    Gives, over the records that have the view, `{name}_{kind}_accuracy` and `{name}_{kind}_error`
    (1 - accuracy), both between 0 and 1, and `{name}_{kind}_cost`, the chosen cost: if it is the
    first or the last of `costs`, extend the list.

    The features are standardised by the mean and the standard deviation of the training rows. One
    classifier is trained on the training rows for each cost, and the one with the highest accuracy
    on `valid` is taken (the first of equals). So the metrics on `train` and `valid` are optimistic,
    those on `test` are not. It is measured only at the end of a run.

    Attributes:
        view: the modality; or several, whose features are concatenated.
        kind: `svm`: one linear SVM for each class against all others, with the squared hinge loss;
            `svm_one_vs_one`: one for each pair of classes, which vote; `logistic`: multinomial
            logistic regression.
        target: name of the target.
        projection: the projection of the embeddings that is classified, such as CCA(("left",
            "right"), 10); None takes the embeddings themselves.
        name: prefix of the metric names. If empty, the view, with the name of the projection
            before it if one is set, such as `cca10_left`.
        costs: weights of the summed training errors relative to half the squared norm of the
            weights (the C of LIBLINEAR), at most 1,000,000. With a single one, `valid` is not used.
        examples: at most so many training rows, drawn at random, are used; 0 for all. Tens of
            thousands of rows take seconds with ten columns, but minutes with hundreds.
        seed: seed of that draw.

    Reference:
        Wang et al., On Deep Multi-View Representation Learning, ICML 2015 (SVM error of projected
        features of view 1); Alain and Bengio, Understanding intermediate layers using linear
        classifier probes, 2016.
    """

    view: str | tuple[str, ...]
    kind: Kind = "svm"
    target: str = "label"
    projection: Projection | None = None
    name: str = ""
    costs: tuple[float, ...] = COSTS
    examples: int = 0
    seed: int = 0
    at_end_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_sizes(self, "examples", "seed", least=0)
        check_costs("LinearProbe", self.costs)

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        return reads_of(as_views(self.view), self.projection, self.target)

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        check_target(self.target, task)
        check_features(as_views(self.view), self.projection, task)
        check_choice("LinearProbe", self.costs, task)
        check_metrics([f"{e.label}_error" for e in task.evaluation if isinstance(e, LinearProbe)])

    def __call__(self, predictor: Predictor, split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""

        def labelled(part: str) -> Examples:
            return labelled_features(
                predictor, as_views(self.view), part, self.projection, self.target
            )

        def train() -> Probe:
            inputs, labels = labelled("train")
            chosen = some(len(inputs), self.examples, self.seed)
            what = f"the probe of {'+'.join(as_views(self.view))!r}"
            return best_probe(
                self.kind,
                self.costs,
                (inputs[chosen], labels[chosen]),
                lambda: labelled("valid"),
                what,
            )

        probe = predictor.once(self, train)
        accuracy = float(probe.classifier.score(*labelled(split)))
        return {
            f"{self.label}_accuracy": accuracy,
            f"{self.label}_error": Lower(1 - accuracy),
            f"{self.label}_cost": Neither(probe.cost),
        }

    @property
    def label(self) -> str:
        """Prefix of the metric names."""
        return f"{self.name or name_of(as_views(self.view), self.projection)}_{self.kind}"


class Probe(NamedTuple):
    """A trained classifier.

    Attributes:
        classifier: a pipeline of scikit-learn, applied to features.
        cost: the cost that it was trained with.
    """

    classifier: Any
    cost: float


def best_probe(
    kind: Kind,
    costs: tuple[float, ...],
    train: Examples,
    valid: Callable[[], Examples],
    what: str,
) -> Probe:
    """Trains a classifier with each cost; returns the most accurate one on `valid`.

    Args:
        kind: see `LinearProbe`.
        costs: see `LinearProbe`.
        train: the training examples.
        valid: returns the validation examples; not called with a single cost.
        what: what is trained ("the probe of 'left'"), for the message.

    If a fit has not converged, one sentence on stderr says with which costs.

    Raises:
        DataError: the training rows are all of one class.
    """
    from sklearn.exceptions import ConvergenceWarning  # here, because imports take a second

    labels = train[1]
    if (labels == labels[0]).all():
        raise DataError(
            f"The {len(labels)} training rows of {what} are all of one class: give it rows of two "
            "or more classes, or remove the evaluation."
        )
    classifiers = []
    unfinished = []
    for cost in costs:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            classifiers.append(_classifier(kind, cost).fit(*train))
        for warning in told:
            if issubclass(warning.category, ConvergenceWarning):
                unfinished.append(cost)
            else:
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
    best = 0
    if len(costs) > 1:
        chosen_on = valid()
        best = int(np.argmax([classifier.score(*chosen_on) for classifier in classifiers]))
    if unfinished:
        print(
            f"mmjax: The training of {what} did not converge within {ITERATIONS} iterations with "
            f"the costs {', '.join(f'{cost:g}' for cost in dict.fromkeys(unfinished))}, so its "
            "figures may be too low: leave them out of `costs`, or take smaller ones.",
            file=sys.stderr,
        )
    return Probe(classifiers[best], costs[best])


def check_costs(of: str, costs: tuple[float, ...]) -> None:
    """Checks that costs is a list of one or more positive numbers, none above `MOST_COST`."""
    if not costs or not all(0 < cost <= MOST_COST for cost in costs):
        raise ConfigError(
            f"{of}.costs is {costs}: list one or more numbers above 0, at most {MOST_COST:,.0f}."
        )


def check_choice(of: str, costs: tuple[float, ...], task: Task) -> None:
    """Checks that the data set has a split `valid` if there are several costs to choose from."""
    if len(costs) > 1 and "valid" not in task.data.splits:
        raise ConfigError(
            f"{of} has several costs, but the data set {task.data.name!r} has no 'valid' split to "
            "choose one: set `costs` to a single number."
        )


def _classifier(kind: Kind, cost: float) -> Any:
    """A pipeline of scikit-learn, not fitted yet."""
    from sklearn.linear_model import LogisticRegression  # here, because imports take a second
    from sklearn.multiclass import OneVsOneClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    classifier = {
        "svm": LinearSVC(C=cost, dual=False, max_iter=ITERATIONS),
        "svm_one_vs_one": OneVsOneClassifier(LinearSVC(C=cost, dual=False, max_iter=ITERATIONS)),
        "logistic": LogisticRegression(C=cost, max_iter=ITERATIONS),
    }
    return make_pipeline(StandardScaler(), classifier[kind])
