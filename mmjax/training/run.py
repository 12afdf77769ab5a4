"""A finished run, for use from Python: predictions and embeddings of new data."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from numpy.typing import ArrayLike

from mmjax.data import Dataset, Source, eval_batches, resolve_folder
from mmjax.errors import ConfigError, RunError, article
from mmjax.evaluation.embeddings import shapes_of
from mmjax.structs import Batch, Outputs, Prediction, Target
from mmjax.training.given import GivenExamples
from mmjax.training.published import published_parts, readers_of
from mmjax.training.run_directory import RESULT, RunDirectory
from mmjax.training.setup import Setup
from mmjax.training.step import TrainState, apply, merged


class Run:
    """The trained model of a run; made by `mmjax.train` and `mmjax.load`.

    Attributes:
        path: the run directory.
        result: the content of `result.json`.
        data: the data set, or the description of it that the run saved.

    Args:
        path: the directory of a finished run.
        setup: the setup of its experiment.
        state: the state with the trained parameters.
    """

    def __init__(self, path: Path, setup: Setup, state: TrainState) -> None:
        self.path = path
        self.result = RunDirectory(path).read(RESULT)
        self.data = setup.experiment.data
        self._setup, self._state = setup, state

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {self.result['name']!r})"

    @property
    def metrics(self) -> dict[str, float | None]:
        """`split/metric` -> value at the end of the run; None if it was not finite."""
        return dict(self.result["metrics"])

    @property
    def params(self) -> Any:
        """The trained parameters of the model, a tree of arrays."""
        trained, frozen = self._state.params["model"], self._state.frozen.get("model", {})
        return _merged_trees(trained, frozen)

    @cached_property
    def model(self) -> Any:
        """The model, an `nnx.Module`: `model(batch, train=False, rngs=None)` gives `Outputs`."""
        return merged(self._state, self._state.params).model

    def predict(
        self,
        data: Mapping[str, Any] | Dataset,
        split: str = "",
        *,
        present: Mapping[str, ArrayLike] | None = None,
        masks: Mapping[str, ArrayLike] | None = None,
        data_dir: str | Path | None = None,
    ) -> dict[str, np.ndarray]:
        """Predicts the targets of new examples, or of a split of a data set.

        Args:
            data: modality -> [N, ...] array; for text also N strings, if the run has a vocabulary
                or a published tokenizer; for images also a list of files, Pillow images or uint8
                arrays of any size, if the run has a published preprocessing. A modality that is
                left out is missing in all rows. Or a data set.
            split: of the data set.
            present: modality -> [N] bool, if only some rows have it.
            masks: modality -> [N, T] bool, the valid positions of sequences.
            data_dir: the folder of raw data, for a data set that needs one.

        Returns:
            Target -> predictions: [N, C] probabilities for a class or labels, [N, ...] numbers for
            a regression; for tokens [N] texts ([N, L] ids if the tokens have no names).

        Raises:
            ConfigError: an unknown modality, or no modality that the model reads.
            DataError: arrays whose shape or dtype differs from the training data.
        """
        source, size = self._source(data, split, present, masks, data_dir)
        targets = self.data.targets
        parts: dict[str, list[np.ndarray]] = {}
        for found, rows in self._by_batch(source, size, self._predict_step):
            for name, values in found.items():
                parts.setdefault(name, []).append(values[rows])
        return {
            name: _readable(np.concatenate(batches), targets[name])
            for name, batches in parts.items()
        }

    def embed(
        self,
        data: Mapping[str, Any] | Dataset,
        split: str = "",
        *,
        present: Mapping[str, ArrayLike] | None = None,
        masks: Mapping[str, ArrayLike] | None = None,
        data_dir: str | Path | None = None,
    ) -> np.ndarray:
        """Embeds new examples, or a split of a data set.

        A model with a fusion gives the fused vector of the modalities that a row has. Any other
        model gives the embedding of the given modality or, for several, the mean of the
        embeddings of those that a row has, each scaled to unit length. A row without any of them
        gets zeros.

        Args:
            data: as in `predict`.
            split: as in `predict`.
            present: as in `predict`.
            masks: as in `predict`.
            data_dir: as in `predict`.

        Returns:
            [N, D] float32.

        Raises:
            ConfigError: an unknown modality, no modality that the model reads, or several whose
                embeddings differ in width.
            DataError: arrays whose shape or dtype differs from the training data.
        """
        source, size = self._source(data, split, present, masks, data_dir)
        given = data if isinstance(data, Mapping) else self._encoded
        names = tuple(name for name in self._encoded if name in given)
        step = self._embed_step(names)
        parts = [found[rows] for found, rows in self._by_batch(source, size, step)]
        return np.concatenate(parts)

    def embed_each(
        self, data: Mapping[str, Any] | Dataset, **options: Any
    ) -> dict[str, np.ndarray]:
        """The embedding of each given modality: `embedding_<modality>` -> [N, D].

        Args:
            data: as in `embed`.
            options: as in `embed`.
        """
        source, size = self._source(data, **options)
        given = data if isinstance(data, Mapping) else self._encoded
        return {
            f"embedding_{name}": np.concatenate(
                [
                    found[rows]
                    for found, rows in self._by_batch(source, size, self._embed_step((name,)))
                ]
            )
            for name in self._encoded
            if name in given
        }

    @property
    def fuses(self) -> bool:
        """Whether the model gives one fused vector."""
        return self._shapes.fused is not None

    @cached_property
    def _shapes(self) -> Outputs:
        return shapes_of(self._setup.experiment)

    @property
    def _encoded(self) -> tuple[str, ...]:
        """The modalities that the model reads."""
        return tuple(self._shapes.present)

    def _source(
        self,
        data: Mapping[str, Any] | Dataset,
        split: str = "",
        present: Mapping[str, ArrayLike] | None = None,
        masks: Mapping[str, ArrayLike] | None = None,
        data_dir: str | Path | None = None,
    ) -> tuple[Source, int]:
        if isinstance(data, Dataset):
            if present or masks:
                raise ConfigError(
                    "`present` and `masks` cannot be given with a data set, which has its own: "
                    "leave them out, or give arrays."
                )
            if not split:
                raise ConfigError(
                    f"No split of the data set {data.name!r} was given: set `split` to one of "
                    f"{', '.join(data.splits)}."
                )
            data.check_split(split)
            for name in self._encoded:
                if data.modalities.get(name) != self.data.modalities[name]:
                    raise ConfigError(
                        f"The modality {name!r} of {data.name!r} is {data.modalities.get(name)}, "
                        f"but the model reads {self.data.modalities[name]}: give the data set of "
                        "its training, or arrays."
                    )
            source = data.load(split, resolve_folder(str(data_dir) if data_dir else None))
        elif not isinstance(data, Mapping):
            raise ConfigError(
                f"The data is {article(type(data).__name__)}: give a dict of modality -> array, "
                f"such as {{{self._encoded[0]!r}: array}}, or a data set and a split."
            )
        else:
            if split:
                raise ConfigError(
                    f"`split` is {split!r}, but arrays have no splits: leave `split` out, or give "
                    "a data set."
                )
            source = GivenExamples(
                data,
                {name: self.data.modalities[name] for name in self._encoded},
                self.data.modalities,
                present or {},
                masks or {},
                readers_of(self.path, published_parts(self._state)),
            )
        return source, len(source)

    def _by_batch(
        self, source: Source, size: int, step: Callable[[TrainState, Batch], Any]
    ) -> Iterator[tuple[Any, np.ndarray]]:
        """The results of a step for each batch, on the host, and which rows are not padding."""
        ways = self._setup.mesh.shape["data"] * self._setup.mesh.shape["fsdp"]
        # Powers of two, so that only a few batch sizes are compiled.
        wanted = min(1 << (size - 1).bit_length(), self._setup.eval_rows)
        rows = -(-wanted // ways) * ways
        for batch in eval_batches(source, batch_size=rows, name="the data given"):
            batch = dataclasses.replace(batch, targets={}, target_masks={})
            with jax.set_mesh(self._setup.mesh):
                found = jax.device_get(step(self._state, self._setup.put(batch)))
            found = jax.tree.map(np.asarray, found)
            real = np.asarray(batch.weight) > 0
            for leaf in jax.tree.leaves(found):
                if leaf.dtype.kind == "f" and not np.isfinite(leaf[real]).all():
                    raise RunError(
                        f"The outputs of the model of {self.path} are not finite: check the given "
                        "values, or train it again with a lower learning rate."
                    )
            yield found, real

    @cached_property
    def _predict_step(self) -> Any:
        written = tuple(self._shapes.generated)

        def step(state: TrainState, batch: Batch) -> dict[str, jax.Array]:
            predictions = apply(state, state.params, batch).predictions
            found = {
                name: prediction.values.astype(jnp.float32)
                for name, prediction in predictions.items()
                if name not in written
            }
            if written:
                ids = apply(state, state.params, batch, method="generate")
                found |= {name: _where_valid(ids[name]) for name in written}
            return found

        return jax.jit(step)

    @cached_property
    def _embed_step(self) -> Callable[[tuple[str, ...]], Any]:
        def step_for(names: tuple[str, ...]) -> Any:
            shapes = self._shapes
            widths = {shapes.embeddings[name].shape[-1] for name in names}
            if shapes.fused is None and len(widths) > 1:
                raise ConfigError(
                    f"The embeddings of {', '.join(names)} differ in width, so their mean does not "
                    "exist: embed one modality at a time."
                )

            def step(state: TrainState, batch: Batch) -> jax.Array:
                outputs = apply(state, state.params, batch)
                if outputs.fused is not None:
                    return outputs.fused.pooled.astype(jnp.float32)
                vectors = [outputs.embeddings[name].astype(jnp.float32) for name in names]
                if len(names) == 1:
                    return jnp.where(outputs.present[names[0]][:, None], vectors[0], 0)
                total = jnp.zeros_like(vectors[0])
                count = jnp.zeros((len(total), 1))
                for name, vector in zip(names, vectors, strict=True):
                    length = jnp.linalg.norm(vector, axis=1, keepdims=True)
                    unit = vector / jnp.where(length > 0, length, 1)
                    present = outputs.present[name][:, None]
                    total, count = total + jnp.where(present, unit, 0), count + present
                return total / jnp.maximum(count, 1)

            return jax.jit(step)

        return lru_cache(step_for)


def _where_valid(prediction: Prediction) -> jax.Array:
    """The values of a sequence, 0 at masked positions."""
    if prediction.mask is None:
        return prediction.values
    return jnp.where(prediction.mask, prediction.values, 0)


def _readable(values: np.ndarray, target: Target) -> np.ndarray:
    """Raw predictions as probabilities, numbers or texts, by the kind of the target."""
    if target.kind == "class":
        return scipy.special.softmax(values, axis=-1)
    if target.kind == "labels":
        return scipy.special.expit(values)
    if target.kind == "tokens" and values.ndim == 3:  # logits of a head that does not write
        values = values.argmax(axis=-1)
    if target.kind == "tokens" and target.names:
        unsaid = (0, target.end)
        texts = [
            " ".join(target.names[token] for token in ids if token not in unsaid) for ids in values
        ]
        return np.array(texts, dtype=object)
    return values


def _merged_trees(one: Any, other: Any) -> Any:
    """Merges two nested dicts."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return one
    both = {name: _merged_trees(one[name], other[name]) for name in one.keys() & other.keys()}
    return {**one, **other, **both}
