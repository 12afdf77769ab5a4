"""Batches of a source: endless and shuffled for training, once and in order for evaluation.

`batch_size` is the number of rows of a batch over all processes. With several processes, each gets
its own consecutive rows of every batch, so that all of them make the same batch as one process.
"""

import dataclasses
import functools
import sys
from collections.abc import Iterator, Mapping, Sequence

import grain
import numpy as np
from absl import flags

from mmjax.data.checks import check_finite, with_known_targets
from mmjax.data.dataset import Source
from mmjax.data.transforms import RecordTransform, Transform
from mmjax.errors import ConfigError
from mmjax.structs import Batch, Target


def train_batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    transforms: Sequence[Transform] = (),
    threads: int = 2,
    buffer: int = 4,
    workers: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    targets: Mapping[str, Target] | None = None,
    name: str = "the data set",
) -> grain.DatasetIterator[Batch]:
    """An endless stream of shuffled batches.

    Every epoch is a new permutation of all examples; a batch may hold the end of one epoch and the
    start of the next. Batch k is a function of (seed, k). The iterator's `get_state`, a small
    dictionary, and `set_state` resume it exactly; `close` it when done.

    Args:
        source: the examples.
        batch_size: rows per batch, over all processes.
        seed: seed of the order and the transforms.
        transforms: applied in order.
        threads: threads that make batches; in each worker, if there are workers.
        buffer: batches that are prefetched.
        workers: processes that make batches, each with its own copy of the source, for a source
            that is slow in Python; 0 makes them in this process. A script that uses workers needs
            an `if __name__ == "__main__"` guard.
        process_index: index of this process among those of the run.
        process_count: number of processes of the run.
        targets: as the data set declares them; each gets a mask of its known values.
        name: name of the data set, for error messages.

    Returns:
        The iterator. Its leaves are NumPy arrays of `batch_size // process_count` rows.

    Raises:
        ConfigError: the batch is larger than the split, or not divisible by the processes.
        DataError: by the iterator: float values of a present modality are not finite.
    """
    if batch_size > len(source):
        raise ConfigError(
            f"The batch size is {batch_size}, but the split of {name} has {len(source):,} "
            f"examples: choose {len(source)} or less."
        )
    rows = _rows_of(process_index, process_count, batch_size)
    order = _Order(len(source), batch_size, seed, rows)
    # Grain indexes batches, not examples: its overhead of some microseconds per element would
    # otherwise exceed the cost of gathering the rows.
    batches = grain.MapDataset.range(sys.maxsize).map(order).map(source.take)
    known = functools.partial(with_known_targets, targets=targets or {}, what=name)
    batches = batches.map(known)
    for position, transform in enumerate(transforms):
        if isinstance(transform, RecordTransform):
            batches = batches.map_with_index(_EachRecord(transform, order, seed, position))
            continue
        entropy = np.random.SeedSequence((seed, process_index, position))
        batches = batches.random_map(transform, seed=int(entropy.generate_state(1)[0]))
    batches = batches.map(functools.partial(check_finite, what=name))
    stream = batches.to_iter_dataset(
        grain.ReadOptions(num_threads=threads, prefetch_buffer_size=buffer)
    )
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain passes its command-line flags to the workers
            flags.FLAGS.mark_as_parsed()
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=buffer)
        )
    return iter(stream)


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    targets: Mapping[str, Target] | None = None,
    name: str = "the data set",
) -> Iterator[Batch]:
    """Every example once, in order, in batches of equal size.

    The last batch is padded with copies of record 0, whose `weight` is 0.

    Args:
        source: the examples.
        batch_size: rows per batch, over all processes.
        process_index: index of this process among those of the run.
        process_count: number of processes of the run.
        targets: as the data set declares them; each gets a mask of its known values.
        name: name of the data set, for error messages.

    Yields:
        Batches of NumPy arrays of `batch_size // process_count` rows.

    Raises:
        ConfigError: the batch size is below 1, or not divisible by the processes.
        DataError: float values of a present modality are not finite.
    """
    rows = _rows_of(process_index, process_count, batch_size)
    for start in range(0, len(source), batch_size):
        numbers = np.arange(start, start + batch_size)[rows]
        real = numbers < len(source)
        batch = source.take(np.where(real, numbers, 0))
        batch = with_known_targets(batch, targets or {}, name)
        yield check_finite(dataclasses.replace(batch, weight=batch.weight * real), name)


@dataclasses.dataclass(frozen=True)
class _Order:
    """Batch number -> this process's record numbers of that batch."""

    examples: int
    batch_size: int
    seed: int
    rows: slice

    def __call__(self, number: int) -> np.ndarray:
        return self.with_epochs(number)[0]

    def with_epochs(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The record numbers, and the epoch that each of them belongs to."""
        places = number * self.batch_size + np.arange(self.batch_size)[self.rows]
        epochs, places = np.divmod(places, self.examples)
        records = [
            _permutation(self.seed, int(epoch), self.examples)[places[epochs == epoch]]
            for epoch in np.unique(epochs)
        ]
        return np.concatenate(records), epochs


@dataclasses.dataclass(frozen=True)
class _EachRecord:
    """Changes the records of batch `number`, each with the generator of its number and epoch.

    Philox is a function of a key and a counter (Salmon et al. 2011, Parallel Random Numbers: As
    Easy as 1, 2, 3): record and epoch are the upper half of the counter, so that no two generators
    overlap.
    """

    transform: RecordTransform
    order: _Order
    seed: int
    position: int

    def __call__(self, number: int, batch: Batch) -> Batch:
        key = np.array([self.seed, self.position], np.uint64)
        start = np.zeros((len(batch.ids), 4), np.uint64)
        start[:, 2], start[:, 3] = self.order.with_epochs(number)
        rngs = [np.random.Generator(np.random.Philox(key=key, counter=each)) for each in start]
        return self.transform.change_records(batch, rngs)


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, examples: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(examples)


def _rows_of(process_index: int, process_count: int, batch_size: int) -> slice:
    if batch_size < 1:
        raise ConfigError(f"The batch size is {batch_size}: choose at least 1.")
    if batch_size % process_count:
        raise ConfigError(
            f"The batch size is {batch_size}, which cannot be split equally over {process_count} "
            f"processes: choose a multiple of {process_count}."
        )
    share = batch_size // process_count
    return slice(process_index * share, (process_index + 1) * share)
