"""What an evaluation is: from what a model gives on a split to named figures.

Most metrics are sums over examples. A `StreamedEvaluator` computes them batch by batch from states
that merge, so that no split has to fit in memory. What cannot be told from sums (rankings, probes,
clusters) is an `Evaluator` that gets the arrays which it reads of a whole split, on the host.
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
    """A metric of which less is better, such as an error; of a plain float more is better."""


class Neither(float):
    """A figure of which neither more nor less is better, such as a cost that was chosen."""


@runtime_checkable
class Task(Protocol):
    """What an evaluation may know of an experiment before the first step."""

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
    """Which arrays of a model and its batches an evaluation reads; others are not computed.

    Attributes:
        embeddings: modalities.
        predictions: targets.
        generated: targets whose generated tokens are read.
        targets: targets that are kept beside the outputs of a whole split; batches have them all.
        fields: other fields of `Outputs` whose arrays begin with the batch, such as `fused` or
            `reconstructions`, all of it; for streamed evaluations.
    """

    embeddings: tuple[str, ...] = ()
    predictions: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    @classmethod
    def union(cls, several: Iterable["Reads"]) -> "Reads":
        """All that one of several reads."""
        several = list(several)
        return cls(
            *(
                tuple(dict.fromkeys(name for each in several for name in getattr(each, field.name)))
                for field in dataclasses.fields(cls)
            )
        )

    def select(self, outputs: Outputs) -> Outputs:
        """The outputs with nothing in them but what is read; names that are not there are left."""

        def some(there: Any, names: tuple[str, ...]) -> dict[str, Any]:
            return {name: there[name] for name in names if name in there}

        return Outputs(
            embeddings=some(outputs.embeddings, self.embeddings),
            present=outputs.present,
            predictions=some(outputs.predictions, self.predictions),
            generated=some(outputs.generated, self.generated),
            **{name: getattr(outputs, name) for name in self.fields},
        )


class Evaluator(abc.ABC):
    """Base of the evaluations."""

    at_end_only: ClassVar[bool] = False  # left out of the evaluations between training steps

    @property
    @abc.abstractmethod
    def reads(self) -> Reads:
        """The arrays that this evaluation reads."""

    @abc.abstractmethod
    def check(self, task: Task) -> None:
        """Refuses an experiment that this evaluation does not fit, before the first step.

        Raises:
            ConfigError: naming the option and the fix.
        """

    @abc.abstractmethod
    def __call__(self, predictor: "Predictor", split: str) -> dict[str, Value]:
        """Evaluates on a split: name -> number (a metric) or array (a table of the report).

        A number of which less is better is a `Lower`.
        """


class StreamedEvaluator(Evaluator):
    """Base of the evaluations that are computed batch by batch."""

    @abc.abstractmethod
    def state(self, outputs: Outputs, batch: Batch, data: Dataset) -> Any:
        """What is kept of one batch.

        Args:
            outputs: what this evaluation reads of the model's outputs, as NumPy arrays.
            batch: the examples, none of them padding.
            data: the data set, which knows its targets and which of their values mean the same.

        Returns:
            Numbers and arrays whose shape does not depend on the number of examples.
        """

    def merge(self, one: Any, other: Any) -> Any:
        """The state of the examples of both; the sum, unless a subclass says otherwise."""
        return jax.tree.map(operator.add, one, other)

    @abc.abstractmethod
    def values(self, state: Any, data: Dataset) -> dict[str, Value]:
        """Figures from the state of all examples of a split; see `Evaluator.__call__`.

        Args:
            state: merged over all batches.
            data: the data set, which knows the names of classes and what is possible at best.
        """

    def __call__(self, predictor: "Predictor", split: str) -> dict[str, Value]:
        """See `Evaluator.__call__`."""
        return self.values(predictor.state(self, split), predictor.data)


def prefixed(name: str, values: dict[str, Value]) -> dict[str, Value]:
    """The figures of an evaluation, their names beginning with its own, where it has one."""
    return {f"{name}_{key}": value for key, value in values.items()} if name else values
