"""Compares generated sequences with the true ones, token by token."""

import dataclasses

import numpy as np

from mmjax.data import Dataset
from mmjax.evaluation.embeddings import check_generated
from mmjax.evaluation.evaluator import Reads, StreamedEvaluator, Task, Value, prefixed
from mmjax.evaluation.predictor import written_ids
from mmjax.structs import Batch, Outputs


@dataclasses.dataclass(frozen=True)
class ExactMatch(StreamedEvaluator):
    """How often a generated sequence equals the true one.

    Gives `exact_match`, the share of sequences in which all tokens are equal, and `token_accuracy`,
    the share of true tokens that are generated at the same position (an inserted or a missing
    token shifts all tokens after it). Examples without a known token do not count.

    Attributes:
        target: name of a target of the kind `tokens`.
        name: prefix of the metric names; empty for none.
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

    def state(self, outputs: Outputs, batch: Batch, data: Dataset) -> dict[str, int]:
        """See `StreamedEvaluator.state`."""
        written, true = written_and_true(outputs, batch, self.target)
        tokens = true != 0
        return {
            "exact": int((written == true).all(axis=1).sum()),
            "sequences": len(true),
            "right": int(((written == true) & tokens).sum()),
            "tokens": int(tokens.sum()),
        }

    def values(self, state: dict[str, int], data: Dataset) -> dict[str, Value]:
        """See `StreamedEvaluator.values`."""
        values: dict[str, Value] = {
            "exact_match": state["exact"] / max(state["sequences"], 1),
            "token_accuracy": state["right"] / max(state["tokens"], 1),
        }
        return prefixed(self.name, values)


def written_and_true(outputs: Outputs, batch: Batch, target: str) -> tuple[np.ndarray, np.ndarray]:
    """The generated and the true ids [M, L] of the examples with at least one known token.

    Both are 0 at positions without a token.
    """
    true = np.asarray(batch.targets[target])
    if target in batch.target_masks:
        known = np.asarray(batch.target_masks[target])
        true = np.where(known.reshape(known.shape + (1,) * (true.ndim - known.ndim)), true, 0)
    rows = (true != 0).any(axis=1)
    return written_ids(outputs.generated[target])[rows], true[rows]
