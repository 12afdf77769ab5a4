"""Prepares a run: sources, mesh, state and step. Errors appear here, before the first step."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmjax.data import Source, eval_batches, labels_of, select, train_batches
from mmjax.data.checks import check_examples, with_known_targets
from mmjax.errors import ConfigError, DataError, unknown_name
from mmjax.evaluation import Evaluator, Predictor, Reads, StreamedEvaluator
from mmjax.evaluation.evaluate import check_names
from mmjax.objectives import Objective
from mmjax.structs import Batch, Outputs
from mmjax.training.experiment import Experiment, check
from mmjax.training.sharding import batch_sharding, check_devices
from mmjax.training.step import (
    TrainState,
    abstract_state,
    apply,
    create_state,
    eval_step,
    state_maker,
    train_step,
)


@dataclasses.dataclass(frozen=True)
class Setup:
    """An experiment with its data, mesh and model, each opened or made when first needed.

    Args:
        experiment: the experiment.
        folder: the folder of raw data, or None.
    """

    experiment: Experiment
    folder: Path | None

    @cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """The mesh of all devices."""
        return self.experiment.training.mesh.build()

    @cached_property
    def unselected(self) -> Callable[[str], Source]:
        """From the name of a split to all its records, without selections; opened once."""
        return lru_cache(self._load)

    def _load(self, split: str) -> Source:
        try:
            return self.experiment.data.load(split, self.folder)
        except TypeError as error:
            if self.folder is not None:
                raise
            raise DataError(  # most likely a path was made of None
                f"The data set {self.experiment.data.name} cannot be loaded without a folder of "
                f"raw data ({error}): name one by --data-dir or MMJAX_DATA."
            ) from error

    @cached_property
    def source(self) -> Callable[[str], Source]:
        """From the name of a split to its source; for `train`, only the selected records."""
        return lru_cache(self._source)

    def _source(self, split: str) -> Source:
        selections = self.experiment.selections if split == "train" else ()
        source = self.unselected(split)
        return select(source, selections, self.experiment.training.seed) if selections else source

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives, given the class counts of the training data that they need."""
        wanted = [
            name for objective in self.experiment.objectives for name in objective.counted_targets
        ]
        counts = {name: self._counts(name) for name in wanted}
        return tuple(objective.of_data(counts) for objective in self.experiment.objectives)

    def _counts(self, target: str) -> np.ndarray:
        """[C] number of examples of each class in `train`; unlabelled examples do not count."""
        data = self.experiment.data
        if target not in data.targets:
            raise unknown_name("target", target, data.targets)
        labels = labels_of(self.source("train"), target)
        found = with_known_targets(
            Batch.of({}, np.arange(len(labels)), targets={target: labels}),
            {target: data.targets[target]},
            f"the split 'train' of {data.name}",
        )
        known = found.targets[target][found.target_masks[target]]
        return np.bincount(known, minlength=data.targets[target].classes)

    @cached_property
    def _make(self) -> Callable[[], TrainState]:
        experiment, training = self.experiment, self.experiment.training
        return state_maker(
            experiment.model,
            experiment.data.modalities,
            experiment.data.targets,
            self.objectives,
            experiment.optimizer.build(training.steps) if training.steps else optax.identity(),
            seed=training.seed,
            dtype=jnp.dtype(training.precision),
            frozen=training.frozen,
            balance=experiment.balance,
        )

    @cached_property
    def abstract_state(self) -> TrainState:
        """The shapes and shardings of the state."""
        return abstract_state(self._make, self.mesh)

    def create_state(self) -> TrainState:
        """A newly initialised state, sharded over the mesh."""
        return create_state(self._make, self.mesh, self._compiler_options)

    def train_batches(self) -> grain.DatasetIterator[Batch]:
        """The endless iterator over training batches; the caller closes it."""
        training = self.experiment.training
        return train_batches(
            self.source("train"),
            batch_size=training.batch_size,
            seed=training.seed,
            transforms=self.experiment.transforms,
            threads=training.data_threads,
            workers=training.data_workers,
            targets=self.experiment.data.targets,
            name=f"the split 'train' of {self.experiment.data.name}",
        )

    def put(self, batch: Batch) -> Batch:
        """Moves a batch to the devices, with its rows split over them."""
        return jax.device_put(batch, self._batch_sharding)

    @cached_property
    def _batch_sharding(self) -> jax.sharding.NamedSharding:
        return batch_sharding(self.mesh)

    def compile_step(self) -> jax.stages.Wrapped:
        """The jitted train step; it donates (reuses the memory of) the given state."""
        shardings = jax.tree.map(lambda leaf: leaf.sharding, self.abstract_state)
        return jax.jit(
            train_step,
            donate_argnums=0,
            out_shardings=(shardings, None),
            compiler_options=self._compiler_options,
        )

    @cached_property
    def _compiler_options(self) -> dict[str, Any] | None:
        if self.experiment.training.deterministic and jax.default_backend() == "gpu":
            return {"xla_gpu_deterministic_ops": True}
        return None

    @cached_property
    def _eval_step(self) -> Callable[[Reads], Any]:
        """From the outputs that are read to a jitted step that computes only these."""

        def step_for(reads: Reads) -> Any:
            def step(state: TrainState, batch: Batch) -> Outputs:
                outputs = eval_step(state, batch)
                if reads.generated:
                    written = apply(state, state.params, batch, method="generate")
                    outputs = dataclasses.replace(outputs, generated=written)
                return reads.select(outputs)

            return jax.jit(step, compiler_options=self._compiler_options)

        return lru_cache(step_for)

    def predictor(
        self,
        state: TrainState,
        evaluators: Sequence[Evaluator],
        source: Callable[[str], Source] | None = None,
    ) -> Predictor:
        """The predictor that gives the model's outputs on splits, for the given evaluators.

        Args:
            state: of the model.
            evaluators: the outputs that they read are computed; those that are read by evaluators
                that are not streamed are kept for all examples of a split.
            source: from the name of a split to its source; None takes that of the data set.
        """
        kept = [item.reads for item in evaluators if not isinstance(item, StreamedEvaluator)]
        forward = self.forward(state, Reads.union(item.reads for item in evaluators))
        data = self.experiment.data
        return Predictor(forward, source or self.source, self.eval_rows, data, Reads.union(kept))

    @property
    def eval_rows(self) -> int:
        """Examples per evaluation batch: the configured number, rounded up for the devices."""
        training = self.experiment.training
        size = training.eval_batch_size or training.batch_size
        ways = self.mesh.shape["data"] * self.mesh.shape["fsdp"]
        return -(-size // ways) * ways

    def forward(self, state: TrainState, reads: Reads) -> Callable[[Batch], Outputs]:
        """From a batch of NumPy arrays to the outputs that are read, on the devices."""

        def run(batch: Batch) -> Outputs:
            with jax.set_mesh(self.mesh):
                return self._eval_step(reads)(state, self.put(batch))

        return run


def prepare(experiment: Experiment, folder: Path | None) -> Setup:
    """Opens the data, and traces the train step on shapes after transforms of one batch.

    Raises:
        ConfigError: parts of the experiment do not fit together.
        DataError: data is missing or damaged.
    """
    check_devices()
    check(experiment)
    check_names(experiment)
    setup = Setup(experiment, folder)
    for split in experiment.data.splits:
        check_examples(experiment.data, split, setup.unselected(split))
        setup.source(split)
    rows = len(setup.source("train"))
    size = experiment.training.batch_size
    if size > rows:
        left = " after its selections" if experiment.selections else ""
        raise ConfigError(
            f"training.batch_size is {size}, but the train split of {experiment.data.name} has "
            f"{rows} examples{left}: set it to {rows} or less."
        )
    ways = setup.mesh.shape["data"] * setup.mesh.shape["fsdp"]
    if size % ways:
        raise ConfigError(
            f"training.batch_size is {size}, which cannot be split evenly over {ways} devices: "
            f"set it to a multiple of {ways}."
        )
    if experiment.training.steps and not jax.tree.leaves(setup.abstract_state.params):
        raise ConfigError(
            "The model has no parameters to train: set training.steps to 0 to evaluate it without "
            "training."
        )
    first = eval_batches(
        setup.source("train"),
        batch_size=64,
        targets=experiment.data.targets,
        name=experiment.data.name,
    )
    batch = next(iter(first))
    for transform in experiment.transforms:
        batch = transform(batch, np.random.default_rng(0))
    widened = jax.tree.map(
        lambda array: jax.ShapeDtypeStruct((size, *np.shape(array)[1:]), array.dtype), batch
    )
    with jax.set_mesh(setup.mesh):
        jax.eval_shape(train_step, setup.abstract_state, widened)
    if experiment.training.steps:
        for objective in experiment.objectives:
            objective.check_batch(batch)
    return setup
