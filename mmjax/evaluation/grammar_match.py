"""Generated sentences that say the right thing, in whatever words, where the data set can tell."""

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
    """A data set that knows which sentences of a target are right, and which say the same."""

    def equivalent(self, target: str, ids: np.ndarray, other: np.ndarray) -> np.ndarray:
        """[B] bool: whether ids and other ids, [B, L] each, are both sentences and say the same."""
        ...


@dataclasses.dataclass(frozen=True)
class GrammarMatch(StreamedEvaluator):
    """How often a generated sentence is one of the grammar and says what the true one says.

    Gives `grammar_match`, a share of the sentences. Where chance decides between sentences that say
    the same, as the order of the words in `shapes`, no model can be right by `ExactMatch` each
    time, but it can by this.

    Attributes:
        target: name of a target of the kind `tokens`.
        name: what the name of the metric begins with; empty for nothing.
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
                f"The data set {task.data.name!r} does not know which sentences say the same: take "
                "the evaluation ExactMatch, or give the data set a method `equivalent`."
            )

    def state(self, outputs: Outputs, batch: Batch, data: Dataset) -> dict[str, int]:
        """See `StreamedEvaluator.state`."""
        assert isinstance(data, Equivalence), "`check` refuses the others"
        written, true = written_and_true(outputs, batch, self.target)
        right = data.equivalent(self.target, written, true)
        return {"right": int(right.sum()), "sentences": len(true)}

    def values(self, state: dict[str, int], data: Dataset) -> dict[str, Value]:
        """See `StreamedEvaluator.values`."""
        share = state["right"] / max(state["sentences"], 1)
        return {f"{self.name}_grammar_match" if self.name else "grammar_match": share}
