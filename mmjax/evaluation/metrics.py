"""Classification metrics from a state that can be merged: counts per batch, divided at the end.

The state is the confusion matrix, from which accuracy, precision, recall and F1 follow. So uneven
batches and several hosts give exactly the result of one pass over all examples.
"""

import dataclasses
from typing import Any

import numpy as np

__all__ = ["Averages", "Confusion", "f1_of_counts"]


@dataclasses.dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 averaged over classes."""

    precision: float
    recall: float
    f1: float


@dataclasses.dataclass(frozen=True)
class Confusion:
    """The confusion matrix: how often each class was predicted for each true class.

    A class without examples has recall 0, a class that was never predicted has precision 0, and an
    F1 of 0/0 is 0 (`zero_division=0` in scikit-learn). The macro average is over all C classes,
    including those without examples.

    Attributes:
        counts: [C, C] int64; row: the true class, column: the predicted one.
    """

    counts: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, predictions: np.ndarray, classes: int) -> "Confusion":
        """Counts one batch.

        Args:
            labels: [B] integers, the true classes.
            predictions: [B] integers, the predicted classes.
            classes: number of classes C.

        Returns:
            The state of these B examples.

        Raises:
            ValueError: the two differ in shape, or have values other than integers 0 to C - 1.
        """
        labels = _class_numbers(labels, "labels", classes)
        predictions = _class_numbers(predictions, "predictions", classes)
        if labels.shape != predictions.shape:
            raise ValueError(
                f"There are {labels.size} labels but {predictions.size} predictions: give one "
                "prediction for each label."
            )
        cells = np.bincount(labels * classes + predictions, minlength=classes * classes)
        return cls(cells.reshape(classes, classes).astype(np.int64))

    def merge(self, other: "Confusion") -> "Confusion":
        """The state of the examples of both; ValueError if their numbers of classes differ."""
        if self.counts.shape != other.counts.shape:
            raise ValueError(
                f"Confusion matrices of {len(self.counts)} and {len(other.counts)} classes cannot "
                "be merged: use the same number of classes."
            )
        return Confusion(self.counts + other.counts)

    @property
    def examples(self) -> int:
        """Number of examples that were counted."""
        return int(self.counts.sum())

    @property
    def support(self) -> np.ndarray:
        """[C] int64: examples of each class."""
        return self.counts.sum(axis=1)

    @property
    def accuracy(self) -> float:
        """Share of the examples that were predicted correctly; 0 without examples."""
        return float(_ratio(np.trace(self.counts), self.counts.sum()))

    @property
    def precision(self) -> np.ndarray:
        """[C] float64: the share of correct ones among the predictions of a class."""
        return _ratio(np.diagonal(self.counts), self.counts.sum(axis=0))

    @property
    def recall(self) -> np.ndarray:
        """[C] float64: the share of correctly predicted ones among the examples of a class."""
        return _ratio(np.diagonal(self.counts), self.support)

    @property
    def f1(self) -> np.ndarray:
        """[C] float64: the harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN)."""
        return f1_of_counts(np.diagonal(self.counts), self.counts.sum(axis=0), self.support)

    @property
    def macro(self) -> Averages:
        """Averages in which all classes have equal weight."""
        return self._averaged(np.ones(len(self.counts)))

    @property
    def weighted(self) -> Averages:
        """Averages in which the weight of a class is its number of examples."""
        return self._averaged(self.support)

    def per_class(self) -> list[dict[str, Any]]:
        """One row per class, for JSON and for the table of a report."""
        columns = zip(self.precision, self.recall, self.f1, self.support, strict=True)
        return [
            {
                "class": number,
                "precision": float(precision),
                "recall": float(recall),
                "f1": float(f1),
                "examples": int(support),
            }
            for number, (precision, recall, f1, support) in enumerate(columns)
        ]

    def _averaged(self, weight: np.ndarray) -> Averages:
        """The averages with the given class weights [C]."""

        def average(values: np.ndarray) -> float:
            return float(_ratio((values * weight).sum(), weight.sum()))

        return Averages(average(self.precision), average(self.recall), average(self.f1))


def _class_numbers(values: np.ndarray, what: str, classes: int) -> np.ndarray:
    """`values` as [B] int64, checked to be class numbers."""
    values = np.asarray(values)
    if values.ndim != 1 or (values.size and not np.issubdtype(values.dtype, np.integer)):
        raise ValueError(
            f"The {what} must be whole numbers in one dimension, "
            f"not {values.dtype} of shape {values.shape}."
        )
    outside = values[(values < 0) | (values >= classes)]
    if outside.size:
        raise ValueError(
            f"The {what} hold {outside[0]}, but {classes} classes are numbered from 0 to "
            f"{classes - 1}."
        )
    return values.astype(np.int64)


def f1_of_counts(right: Any, predicted: Any, true: Any) -> np.ndarray:
    """F1 from the numbers of correct predictions, predictions and examples of a class; 0/0 is 0."""
    right, predicted, true = (np.asarray(each, np.float64) for each in (right, predicted, true))
    return _ratio(2 * right, predicted + true)  # in float64, where counts of uint8 do not overflow


def _ratio(part: Any, total: Any) -> np.ndarray:
    """Part / total in float64, 0 where the total is 0."""
    part, total = np.asarray(part, np.float64), np.asarray(total, np.float64)
    return np.divide(part, total, out=np.zeros_like(part), where=total > 0)
