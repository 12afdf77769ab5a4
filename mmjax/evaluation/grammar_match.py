"""Generated sentences with the right meaning in any wording, if the data set can decide that."""

import dataclasses
from typing import Protocol, runtime_checkable

import numpy as np

from mmjax.data import Dataset
from mmjax.errors import ConfigError
from mmjax.evaluation.embeddings import check_generated
from mmjax.evaluation.evaluator import Reads, StreamedEvaluator, Task, Value
from mmjax.evaluation.exact_match import written_and_true
from mmjax.structs import Batch, Outputs


@runtime_checkable
class Equivalence(Protocol):
    """A data set that knows the grammar of a target, and which sentences have the same meaning."""

    def equivalent(self, target: str, ids: np.ndarray, other: np.ndarray) -> np.ndarray:
        """[B] bool: whether two arrays of ids [B, L] are valid sentences with the same meaning."""
        ...


@dataclasses.dataclass(frozen=True)
class GrammarMatch(StreamedEvaluator):
    """How often a generated sentence is grammatical and has the meaning of the true one.

    Gives `grammar_match`, a share of the sentences. If sentences of the same meaning are chosen at
    random, such as the word order in `shapes`, no model can reach an `ExactMatch` of 1, but it can
    reach a `grammar_match` of 1.

    Attributes:
        target: name of a target of the kind `tokens`.
        name: prefix of the metric name; empty for none.
    """

    target: str
    name: str = ""

    @property
    def reads(self) -> Reads:
        """See `Evaluator.reads`."""
        return Reads(generated=(self.target,))

    def check(self, task: Task) -> None:
        """See `Evaluator.check`."""
        check_generated(self.target, task)
        if not isinstance(task.data, Equivalence):
            raise ConfigError(
                f"The data set {task.data.name!r} does not know which sentences have the same "
                "meaning: use the evaluation ExactMatch, or define the method `equivalent` in the "
                "class of the data set."
            )

    def state(self, outputs: Outputs, batch: Batch, data: Dataset) -> dict[str, int]:
        """See `StreamedEvaluator.state`."""
        assert isinstance(data, Equivalence), "`check` makes sure"
        written, true = written_and_true(outputs, batch, self.target)
        right = data.equivalent(self.target, written, true)
        return {"right": int(right.sum()), "sentences": len(true)}

    def values(self, state: dict[str, int], data: Dataset) -> dict[str, Value]:
        """See `StreamedEvaluator.values`."""
        share = state["right"] / max(state["sentences"], 1)
        return {f"{self.name}_grammar_match" if self.name else "grammar_match": share}
