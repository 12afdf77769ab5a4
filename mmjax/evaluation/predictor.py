"""Runs a model over splits: batch by batch for streamed evaluations, all at once for others."""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from mmjax.data import Dataset, Selected, Source, eval_batches
from mmjax.errors import DataError, RunError
from mmjax.evaluation.evaluator import Evaluator, Reads, StreamedEvaluator
from mmjax.structs import Batch, Outputs, Prediction

Found = TypeVar("Found")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Outputs for the N examples of a split, in the order of its records, without padding."""

    embeddings: Mapping[str, np.ndarray]  # modality -> [N, D] float32
    present: Mapping[str, np.ndarray]  # modality -> [N] bool
    predictions: Mapping[str, np.ndarray]  # target -> [N, ...] float32
    generated: Mapping[str, np.ndarray]  # target -> [N, L] token ids, 0 for no token
    targets: Mapping[str, np.ndarray]  # name -> [N, ...]
    target_masks: Mapping[str, np.ndarray]  # name -> [N] or [N, ...] bool
    ids: np.ndarray  # [N] int32

    def known(self, target: str) -> np.ndarray:
        """[N] bool: the examples for which all values of a target are known."""
        if target not in self.target_masks:
            return np.ones(len(self.ids), bool)
        known = self.target_masks[target].reshape(len(self.ids), -1)
        return np.asarray(known.all(axis=1))


class Predictor:
    """Runs the model over splits, each at most once.

    Args:
        forward: from a batch with NumPy leaves to the outputs, on the devices.
        source_of: from the name of a split to its source.
        batch_size: examples per batch; the last one is padded.
        data: the data set.
        kept: the arrays that are kept for all examples of a split; None keeps all outputs of
            `forward`.
    """

    def __init__(
        self,
        forward: Callable[[Batch], Outputs],
        source_of: Callable[[str], Source],
        batch_size: int,
        data: Dataset,
        kept: Reads | None = None,
    ) -> None:
        self.source = source_of
        self._forward = forward
        self._batch_size = batch_size
        self.data = data
        self._kept = kept
        self._predictions: dict[Hashable, Predictions] = {}
        # Each state is stored with its evaluation, so that the id of the latter stays in use.
        self._states: dict[Hashable, tuple[StreamedEvaluator, Any]] = {}
        self._computed: dict[Hashable, Any] = {}

    def __call__(self, split: str, examples: int = 0, seed: int = 0) -> Predictions:
        """The predictions for a split, or for some of its examples.

        Args:
            split: name of the split.
            examples: at most so many examples, drawn at random; 0 for all.
            seed: seed of that draw.
        """
        size = len(self.source(split))
        key = (split, examples, seed) if 0 < examples < size else split
        if key not in self._predictions:
            rows = some(size, examples, seed)
            self._run(split, [], key, rows if len(rows) < size else None)
        return self._predictions[key]

    def changed(self, change: Callable[[Batch], Batch]) -> "Predictor":
        """A predictor whose model gets changed batches; evaluations see them as they are."""
        return Predictor(
            lambda batch: self._forward(change(batch)),
            self.source,
            self._batch_size,
            self.data,
            self._kept,
        )

    def state(self, evaluator: StreamedEvaluator, split: str) -> Any:
        """The state of a streamed evaluation after all examples of a split."""
        if (split, id(evaluator)) not in self._states:
            self._run(split, [evaluator])
        return self._states[split, id(evaluator)][1]

    def run(self, split: str, evaluators: Sequence[Evaluator]) -> None:
        """Runs the model over a split once, for all arrays that these evaluations read."""
        streamed = [item for item in evaluators if isinstance(item, StreamedEvaluator)]
        needs_all = any(
            item.reads != Reads() for item in evaluators if not isinstance(item, StreamedEvaluator)
        )
        if streamed or needs_all:
            self._run(split, streamed, split if needs_all else None)

    def once(self, key: Hashable, compute: Callable[[], Found]) -> Found:
        """The result of `compute`, cached by key, for fits that several evaluations share."""
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]

    def _run(
        self,
        split: str,
        streamed: Sequence[StreamedEvaluator],
        key: Hashable | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        """One pass: the states of streamed evaluations and, with a `key`, all predictions."""
        parts, states = [], [None] * len(streamed)
        for outputs, batch in self._outputs(split, rows):
            for place, evaluator in enumerate(streamed):
                new, old = evaluator.state(outputs, batch, self.data), states[place]
                states[place] = new if old is None else evaluator.merge(old, new)
            if key is not None:
                parts.append(self._arrays(outputs, batch))
        for evaluator, state in zip(streamed, states, strict=True):
            self._states[split, id(evaluator)] = evaluator, state
        if key is not None:
            joined = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
            self._predictions[key] = Predictions(**joined)

    def _outputs(self, split: str, rows: np.ndarray | None) -> Iterator[tuple[Outputs, Batch]]:
        """The outputs and examples of a split by batch, as NumPy arrays without padding."""
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
                        f"The {what} of the model on the split {split!r} is not finite: lower "
                        "optimizer.learning_rate, set optimizer.clip_norm, or evaluate an earlier "
                        "checkpoint."
                    )
            yield outputs, batch

    def _arrays(self, outputs: Outputs, batch: Batch) -> dict[str, Any]:
        """The fields of `Predictions` for one batch."""
        targets, masks = dict(batch.targets), dict(batch.target_masks)
        if self._kept is not None:
            outputs = self._kept.select(outputs)
            targets, masks = (
                {name: arrays[name] for name in self._kept.targets if name in arrays}
                for arrays in (targets, masks)
            )
        return {
            "embeddings": {
                name: array.astype(np.float32) for name, array in outputs.embeddings.items()
            },
            "present": dict(outputs.present),
            "predictions": {
                name: prediction.values.astype(np.float32)
                for name, prediction in outputs.predictions.items()
            },
            "generated": {
                name: written_ids(prediction) for name, prediction in outputs.generated.items()
            },
            "targets": targets,
            "target_masks": masks,
            "ids": batch.ids,
        }


def some(count: int, examples: int, seed: int) -> np.ndarray:
    """Sorted indices of at most `examples` (0: all) of `count` rows, drawn at random."""
    if examples == 0 or examples >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, examples, replace=False))


def written_ids(prediction: Prediction) -> np.ndarray:
    """The ids [B, L] of generated tokens, 0 at positions without a token."""
    ids = np.asarray(prediction.values)
    return ids if prediction.mask is None else np.where(prediction.mask, ids, 0)


def _floats(outputs: Outputs) -> Iterator[tuple[str, np.ndarray]]:
    """The embeddings and predictions, each with its description for messages."""
    for name, array in outputs.embeddings.items():
        yield f"embedding {name!r}", array.astype(np.float32)
    for name, prediction in outputs.predictions.items():
        yield f"prediction of {name!r}", prediction.values.astype(np.float32)
