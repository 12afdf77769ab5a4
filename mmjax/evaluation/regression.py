"""Regression: errors and correlation of predicted values."""

import dataclasses

import numpy as np

from mmjax.data import Dataset
from mmjax.evaluation.embeddings import check_prediction
from mmjax.evaluation.evaluator import Lower, Reads, StreamedEvaluator, Task, Value, prefixed
from mmjax.structs import Batch, Outputs


@dataclasses.dataclass(frozen=True)
class Regression(StreamedEvaluator):
    """Regression metrics over all known values of a target.

    Gives `mae` (mean absolute error) and `rmse` (root of the mean squared error) in the units of
    the target, `correlation` (Pearson's; 0 if one of the two is constant) and `r2` (1 minus the
    mean squared error over the variance; 0 if the target is constant).

    Attributes:
        target: name of a target of the kind `number`; if it has several values, they are pooled.
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
        check_prediction(self.target, ("number",), task)

    def state(self, outputs: Outputs, batch: Batch, data: Dataset) -> "_Moments":
        """See `StreamedEvaluator.state`."""
        predicted = np.asarray(outputs.predictions[self.target].values, np.float64)
        numbers = np.asarray(batch.targets[self.target], np.float64)
        known = batch.target_masks.get(self.target, np.ones(len(numbers), bool))
        return _Moments.of(predicted[known].ravel(), numbers[known].ravel())

    def merge(self, one: "_Moments", other: "_Moments") -> "_Moments":
        """See `StreamedEvaluator.merge`."""
        return one.merge(other)

    def values(self, state: "_Moments", data: Dataset) -> dict[str, Value]:
        """See `StreamedEvaluator.values`."""
        count = max(state.count, 1)
        predicted, numbers, product = state.products
        spread = np.sqrt(predicted * numbers)
        values: dict[str, Value] = {
            "mae": Lower(state.absolute / count),
            "rmse": Lower(np.sqrt(state.squared / count)),
            "correlation": float(product / spread) if spread > 0 else 0.0,
            "r2": float(1 - state.squared / numbers) if numbers > 0 else 0.0,
        }
        return prefixed(self.name, values)


@dataclasses.dataclass(frozen=True)
class _Moments:
    """Sums over pairs of a predicted and a true value, centred by their means.

    Merged as in Chan, Golub and LeVeque, Updating formulae, 1979: sums of squares are never
    subtracted, so values far from zero lose no precision.
    """

    count: int
    absolute: float  # sum of |predicted - true|
    squared: float  # sum of (predicted - true)^2
    means: np.ndarray  # [2], predicted and true
    products: np.ndarray  # [3], sums of centred predicted^2, true^2, predicted x true

    @classmethod
    def of(cls, predicted: np.ndarray, numbers: np.ndarray) -> "_Moments":
        if not predicted.size:
            return cls(0, 0.0, 0.0, np.zeros(2), np.zeros(3))
        means = np.array([predicted.mean(), numbers.mean()])
        p, y = predicted - means[0], numbers - means[1]
        error = predicted - numbers
        products = np.array([p @ p, y @ y, p @ y])
        return cls(len(p), float(np.abs(error).sum()), float(error @ error), means, products)

    def merge(self, other: "_Moments") -> "_Moments":
        count = self.count + other.count
        apart = other.means - self.means
        share = other.count / max(count, 1)
        cross = np.array([apart[0] ** 2, apart[1] ** 2, apart[0] * apart[1]])
        return _Moments(
            count,
            self.absolute + other.absolute,
            self.squared + other.squared,
            self.means + share * apart,
            self.products + other.products + self.count * share * cross,
        )
