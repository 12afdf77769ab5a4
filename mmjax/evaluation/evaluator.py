"""The base classes of evaluations, which compute metrics from a model's outputs on a split.

Most metrics are sums over examples. A `StreamedEvaluator` computes them batch by batch from states
that can be merged, so that a split does not have to fit in memory. Metrics that are not sums
(rankings, probes, clusters) need an `Evaluator`, which gets the arrays of all examples of a split,
on the host.
"""

import abc
import dataclasses
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np

from mmjax.data import Dataset
from mmjax.models import Model
from mmjax.structs import Batch, Outputs

if TYPE_CHECKING:
    from mmjax.evaluation.predictor import Predictor

Value = float | np.ndarray


class Lower(float):
    """A metric for which lower is better, such as an error; for a plain float, higher is."""


class Neither(float):
    """A number for which neither higher nor lower is better, such as a chosen cost."""


@runtime_checkable
class Task(Protocol):
    """The parts of an experiment that an evaluation can check before the first step."""

    @property
    def data(self) -> Dataset:
        """The data set."""

    @property
    def model(self) -> Model:
        """The model's config."""

    @property
    def evaluation(self) -> tuple["Evaluator", ...]:
        """All evaluations of the experiment."""


@dataclasses.dataclass(frozen=True)
class Reads:
    """The arrays of outputs and batches that an evaluation reads; others are not computed.

    Attributes:
        embeddings: modalities whose embeddings are read.
        predictions: targets whose predictions are read.
        generated: targets whose generated tokens are read.
        targets: targets that are kept for all examples of a split; batches always have all targets.
        fields: other fields of `Outputs`, such as `fused` or `reconstructions`, whose arrays have
            the batch as first axis; they are kept completely; for streamed evaluations.
    """

    embeddings: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    @classmethod
    def union(cls, several: Iterable["Reads"]) -> "Reads":
        """All arrays that at least one of several reads."""
        several = list(several)
        return cls(
            *(
                tuple(dict.fromkeys(name for item in several for name in getattr(item, field.name)))
                for field in dataclasses.fields(cls)
            )
        )

    def select(self, outputs: Outputs) -> Outputs:
        """Only the outputs that are read; names that the outputs do not have are skipped."""

        def some(arrays: Any, names: tuple[str, ...]) -> dict[str, Any]:
            return {name: arrays[name] for name in names if name in arrays}

        return Outputs(
            embeddings=some(outputs.embeddings, self.embeddings),
            present=outputs.present,
            predictions=some(outputs.predictions, self.predictions),
            generated=some(outputs.generated, self.generated),
            **{name: getattr(outputs, name) for name in self.fields},
        )


class Evaluator(abc.ABC):
    """Base of the evaluations."""

    at_end_only: ClassVar[bool] = False  # skipped in the evaluations between training steps

    @property
    @abc.abstractmethod
    def reads(self) -> Reads:
        """The arrays that this evaluation reads."""

    @abc.abstractmethod
    def check(self, task: Task) -> None:
        """Checks that this evaluation fits the experiment, before the first step.

        Raises:
            ConfigError: it does not; names the option and the fix.
        """

    @abc.abstractmethod
    def __call__(self, predictor: "Predictor", split: str) -> dict[str, Value]:
        """Evaluates on a split: name -> number (a metric) or array (a table of the report).

        A number for which lower is better is a `Lower`.
        """


class StreamedEvaluator(Evaluator):
    """Base of the evaluations that are computed batch by batch."""

    @abc.abstractmethod
    def state(self, outputs: Outputs, batch: Batch, data: Dataset) -> Any:
        """The state of one batch.

        Args:
            outputs: the model's outputs that this evaluation reads, as NumPy arrays.
            batch: the examples, without padding.
            data: the data set, which knows its targets and which of their values are equivalent.

        Returns:
            Numbers and arrays whose shape does not depend on the number of examples.
        """

    def merge(self, one: Any, other: Any) -> Any:
        """The state of the examples of both: the sum, unless a subclass overrides it."""
        return jax.tree.map(operator.add, one, other)

    @abc.abstractmethod
    def values(self, state: Any, data: Dataset) -> dict[str, Value]:
        """Metrics from the state of all examples of a split; see `Evaluator.__call__`.

        Args:
            state: merged over all batches.
            data: the data set, which knows the names of classes and the best possible accuracy.
        """

    def __call__(self, predictor: "Predictor", split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""
        return self.values(predictor.state(self, split), predictor.data)


def prefixed(name: str, values: dict[str, Value]) -> dict[str, Value]:
    """The values of an evaluation, with its name as prefix of their names if it has one."""
    return {f"{name}_{key}": value for key, value in values.items()} if name else values
