"""Runs a model over splits: batch by batch for streamed evaluations, whole for the others."""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from mmjax.data import Dataset, Selected, Source, eval_batches
from mmjax.errors import DataError, RunError
from mmjax.evaluation.evaluator import Evaluator, Reads, StreamedEvaluator
from mmjax.structs import Batch, Outputs

Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Outputs of a split in the order of its records; N examples, no padding rows."""

    embeddings: Mapping[str, np.ndarray]  # modality -> [N, D] float32
    present: Mapping[str, np.ndarray]  # modality -> [N] bool
    predictions: Mapping[str, np.ndarray]  # target -> [N, ...] float32
    generated: Mapping[str, np.ndarray]  # target -> [N, L] token ids, 0 where there is no token
    targets: Mapping[str, np.ndarray]  # name -> [N, ...]
    target_masks: Mapping[str, np.ndarray]  # name -> [N] or [N, ...] bool
    ids: np.ndarray  # [N] int32

    def known(self, target: str) -> np.ndarray:
        """[N] bool: the examples that have a target, all of it."""
        if target not in self.target_masks:
            return np.ones(len(self.ids), bool)
        return np.asarray(self.target_masks[target].reshape(len(self.ids), -1).all(axis=1))


class Predictor:
    """Runs the model over splits, each at most once.

    Args:
        forward: from a batch with NumPy leaves to the outputs, on the devices.
        source_of: from the name of a split to its source.
        batch_size: examples a batch; the last one is padded.
        data: the data set.
        whole: the arrays that are kept of a whole split; None keeps all that `forward` gives.
    """

    def __init__(
        self,
        forward: Callable[[Batch], Outputs],
        source_of: Callable[[str], Source],
        batch_size: int,
        data: Dataset,
        whole: Reads | None = None,
    ) -> None:
        self.source = source_of
        self._forward = forward
        self._batch_size = batch_size
        self.data = data
        self._whole = whole
        self._seen: dict[Hashable, Predictions] = {}
        # Beside each state its evaluation, so that no other one can come to have its id.
        self._states: dict[Hashable, tuple[StreamedEvaluator, Any]] = {}
        self._found: dict[Hashable, Any] = {}

    def __call__(self, split: str, examples: int = 0, seed: int = 0) -> Predictions:
        """The predictions of a split, or of some of its examples.

        Args:
            split: its name.
            examples: how many, drawn at random, at most; 0 for all.
            seed: of that draw.
        """
        size = len(self.source(split))
        key = (split, examples, seed) if 0 < examples < size else split
        if key not in self._seen:
            rows = some(size, examples, seed)
            self._run(split, [], key, rows if len(rows) < size else None)
        return self._seen[key]

    def state(self, evaluator: StreamedEvaluator, split: str) -> Any:
        """The state of a streamed evaluation after all examples of a split."""
        if (split, id(evaluator)) not in self._states:
            self._run(split, [evaluator])
        return self._states[split, id(evaluator)][1]

    def run(self, split: str, evaluators: Sequence[Evaluator]) -> None:
        """Runs the model over a split once for all that these evaluations read of it."""
        streamed = [each for each in evaluators if isinstance(each, StreamedEvaluator)]
        needs_whole = any(
            each.reads != Reads() for each in evaluators if not isinstance(each, StreamedEvaluator)
        )
        if streamed or needs_whole:
            self._run(split, streamed, split if needs_whole else None)

    def once(self, key: Hashable, compute: Callable[[], Found]) -> Found:
        """What `compute` gives, computed for each key once: fits that evaluations share."""
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]

    def _run(
        self,
        split: str,
        streamed: Sequence[StreamedEvaluator],
        key: Hashable | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        """One pass: the states of streamed evaluations and, for a `key`, the whole arrays."""
        parts, states = [], [None] * len(streamed)
        for outputs, batch in self._outputs(split, rows):
            for place, evaluator in enumerate(streamed):
                new, old = evaluator.state(outputs, batch), states[place]
                states[place] = new if old is None else evaluator.merge(old, new)
            if key is not None:
                parts.append(self._kept(outputs, batch))
        for evaluator, state in zip(streamed, states, strict=True):
            self._states[split, id(evaluator)] = evaluator, state
        if key is not None:
            whole = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
            self._seen[key] = Predictions(**whole)

    def _outputs(self, split: str, rows: np.ndarray | None) -> Iterator[tuple[Outputs, Batch]]:
        """The outputs and examples of a split, batch by batch, as NumPy arrays of real rows."""
        source, name = self.source(split), f"{self.data.name} ({split})"
        if not len(source):
            raise DataError(
                f"The split {split!r} of {self.data.name} has no examples: evaluate another split."
            )
        batches = eval_batches(
            source if rows is None else Selected(source, rows),
            batch_size=self._batch_size,
            targets=self.data.targets,
            name=name,
        )
        for batch in batches:
            outputs = jax.device_get(self._forward(batch))
            real = np.asarray(batch.weight) > 0
            if not real.all():
                outputs, batch = jax.tree.map(lambda leaf, real=real: leaf[real], (outputs, batch))
            for what, values in _floats(outputs):
                if not np.isfinite(values).all():
                    raise RunError(
                        f"The {what} that the model gives on the split {split!r} is not finite: "
                        "lower optimizer.learning_rate, set optimizer.clip_norm, or evaluate an "
                        "earlier checkpoint."
                    )
            yield outputs, batch

    def _kept(self, outputs: Outputs, batch: Batch) -> dict[str, Any]:
        """What is kept of a batch where a whole split is asked for."""
        targets, masks = dict(batch.targets), dict(batch.target_masks)
        if self._whole is not None:
            outputs = self._whole.select(outputs)
            targets, masks = (
                {name: each[name] for name in self._whole.targets if name in each}
                for each in (targets, masks)
            )
        return {
            "embeddings": {
                name: array.astype(np.float32) for name, array in outputs.embeddings.items()
            },
            "present": dict(outputs.present),
            "predictions": {
                name: each.values.astype(np.float32) for name, each in outputs.predictions.items()
            },
            "generated": {
                name: np.where(each.mask, each.values, 0)
                for name, each in outputs.generated.items()
            },
            "targets": targets,
            "target_masks": masks,
            "ids": batch.ids,
        }


def some(count: int, examples: int, seed: int) -> np.ndarray:
    """Which of `count` rows to take: at most `examples` (0: all), drawn at random, in order."""
    if examples == 0 or examples >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, examples, replace=False))


def _floats(outputs: Outputs) -> Iterator[tuple[str, np.ndarray]]:
    """The embeddings and predictions, each with what it is called."""
    for name, array in outputs.embeddings.items():
        yield f"embedding {name!r}", array.astype(np.float32)
    for name, prediction in outputs.predictions.items():
        yield f"prediction of {name!r}", prediction.values.astype(np.float32)
