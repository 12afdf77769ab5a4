"""Selections: which records of the training split are trained on, and how often each.

A selection is a frozen dataclass. It is a function of its own fields, of the labels and of the seed
of the run, so a resumed run trains on the same records. Selections do not change the records: an
example that is selected twice is the same both times.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mmjax.data.dataset import Source
from mmjax.errors import ConfigError, DataError, unknown_name
from mmjax.structs import Batch

_CHUNK = 1024  # examples made at once, to read the labels of a source without `targets`
# Keys of the random streams of this file, different from that of the order of training.
_LONG_TAIL, _RESAMPLE, _FOLD = 101, 102, 103


class Selection(abc.ABC):
    """Base of the selections.

    Attributes:
        target: name of the target with the class of an example.
        needs_labels: whether the labels are used; if not, they are not loaded.
    """

    target: str = "label"
    needs_labels: ClassVar[bool] = True

    @abc.abstractmethod
    def __call__(self, records: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """Selects from the records that earlier selections kept.

        Args:
            records: [N] record numbers; may have repetitions.
            labels: [N] their classes; zeros if `needs_labels` is False.
            seed: seed of the run.

        Returns:
            The new record numbers, in any order.
        """


@dataclasses.dataclass(frozen=True)
class LongTail(Selection):
    """Reduces the classes to exponentially decreasing numbers of examples.

    Class c = 0 .. C - 1 keeps n_0 ratio^(-c / (C - 1)) examples, rounded, and at least one; n_0 is
    the size of the smallest of the C classes before, so that `ratio` is that of the most to the
    least frequent class for any data. Classes without examples do not count. The examples that are
    kept at one ratio are kept at every smaller one.

    Attributes:
        ratio: examples of the first class per example of the last; 1 or more.
        target: name of the target with the class.
        seed: chooses the examples; independent of the run's seed, so all runs have the same data.

    Reference:
        Cui, Jia, Lin, Song and Belongie, Class-balanced loss based on effective number of samples,
        CVPR 2019, section 5.1 (long-tailed CIFAR).
    """

    ratio: float
    target: str = "label"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.ratio < np.inf:
            raise ConfigError(f"LongTail.ratio is {self.ratio}: it must be 1 or more, and finite.")
        _check_seed(self)

    def __call__(self, records: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """The kept records, in the given order; see `Selection.__call__`."""
        _, members = np.unique(labels, return_inverse=True)
        counts = np.bincount(members)
        steps = np.arange(len(counts)) / max(len(counts) - 1, 1)
        sizes = np.maximum(np.rint(counts.min(initial=len(labels)) * self.ratio**-steps), 1)
        kept = []
        for number, size in enumerate(sizes.astype(int)):
            rng = np.random.default_rng((self.seed, number, _LONG_TAIL))
            kept.append(rng.permutation(np.flatnonzero(members == number))[:size])
        return records[np.sort(np.concatenate([*kept, np.zeros(0, int)]).astype(int))]


@dataclasses.dataclass(frozen=True)
class Resample(Selection):
    """Oversamples the rarer classes by repeating their examples.

    The frequencies become proportional to n_c^(1 - power). The most frequent class stays unchanged
    and no class gets smaller: class c grows to n_max (n_c / n_max)^(1 - power) examples, rounded.
    For this, all its examples are repeated equally often, and the remainder is drawn without
    replacement. The draw depends on the run's seed and is the same in all its epochs.

    Attributes:
        power: 1 makes all classes equally frequent, 1/2 is square-root sampling, 0 changes nothing.
        target: name of the target with the class.

    Reference:
        Kang et al., Decoupling representation and classifier for long-tailed recognition, ICLR
        2020, eq. 1 (there q = 1 - power); Mahajan et al., Exploring the limits of weakly supervised
        pretraining, ECCV 2018 (square root).
    """

    power: float = 1.0
    target: str = "label"

    def __post_init__(self) -> None:
        if not 0 <= self.power <= 1:
            raise ConfigError(f"Resample.power is {self.power}: choose it from 0 to 1.")

    def __call__(self, records: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """All records, followed by the repeated ones; see `Selection.__call__`."""
        _, members = np.unique(labels, return_inverse=True)
        counts = np.bincount(members)
        most = counts.max(initial=1)
        sizes = np.rint(most * (counts / most) ** (1 - self.power)).astype(int)
        more = []
        for number, (count, size) in enumerate(zip(counts, sizes, strict=True)):
            rng = np.random.default_rng((seed, number, _RESAMPLE))
            places = np.flatnonzero(members == number)
            more.append(np.tile(places, size // count - 1))
            more.append(np.sort(rng.permutation(places)[: size % count]))
        return np.concatenate([records, *(records[places] for places in more)])


@dataclasses.dataclass(frozen=True)
class Fold(Selection):
    """Leaves out one of `count` folds of the split, for cross-validation.

    The fold of a record depends only on the record, `count` and `seed`: of every `count`
    consecutive records, each fold has one at random. Classes are not used.

    Attributes:
        index: the fold that is left out, from 0 to `count` - 1.
        count: number of folds, 2 or more.
        seed: assigns the records to folds; independent of the run's seed.
    """

    index: int
    count: int
    seed: int = 0
    needs_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ConfigError(f"Fold.count is {self.count}: it must be 2 or more.")
        if not 0 <= self.index < self.count:
            raise ConfigError(
                f"Fold.index is {self.index}: the {self.count} folds are numbered from 0 to "
                f"{self.count - 1}."
            )
        _check_seed(self)

    def held_out(self, size: int) -> np.ndarray:
        """The record numbers that are left out of a split of `size` records, ascending.

        The `count` folds of one seed partition `range(size)`; their sizes differ by at most one.
        """
        return np.flatnonzero(self._parts(size) == self.index)

    def __call__(self, records: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """The records of the other folds, in the given order; see `Selection.__call__`."""
        parts = self._parts(int(records.max(initial=-1)) + 1)
        return records[parts[records] != self.index]

    def _parts(self, size: int) -> np.ndarray:
        """[size] the fold of every record; that of record i does not depend on `size`."""
        rng = np.random.default_rng((self.seed, self.count, _FOLD))
        drawn = rng.random((-(-size // self.count), self.count))
        return np.argsort(drawn, axis=1).ravel()[:size]


@dataclasses.dataclass(frozen=True)
class Selected:
    """Selected records of a source: example i is record `records[i]`.

    Attributes:
        source: the complete source.
        records: [N] record numbers of the source, which are also the `ids` of batches.
    """

    source: Source
    records: np.ndarray

    def __len__(self) -> int:
        return len(self.records)

    def take(self, indices: np.ndarray) -> Batch:
        """The examples `indices` [B]; see `Source.take`."""
        return self.source.take(self.records[indices])


def select(source: Source, selections: Sequence[Selection], seed: int) -> Selected:
    """Applies selections to a source.

    Args:
        source: the complete training split.
        selections: applied in order.
        seed: seed of the run.

    Raises:
        ConfigError: the source does not have the target, or it is not a class.
        DataError: a selection needs the class of a record for which it is unknown.
    """
    records = np.arange(len(source))
    for selection in selections:
        if selection.needs_labels:
            labels = labels_of(source, selection.target)[records]
            if (labels < 0).any():
                raise DataError(
                    f"The selection {type(selection).__name__} needs the class of each record, but "
                    f"record {records[labels < 0][0]} of train has no known {selection.target!r}: "
                    "remove the records without one, or remove the selection."
                )
        else:
            labels = np.zeros(len(records), np.int32)
        records = selection(records, labels, seed)
    return Selected(source, records)


def labels_of(source: Source, target: str) -> np.ndarray:
    """The class of every record, -1 where a mask says that it is not known.

    If the source has an attribute `targets` (name -> [N]), it is used; else all examples are made
    once.

    Args:
        source: a split.
        target: name of the target with the class.

    Returns:
        [N] integers.

    Raises:
        ConfigError: the source does not have the target, or it is not one integer per example.
    """
    if isinstance(source, Selected):
        return labels_of(source.source, target)[source.records]
    targets, masks = getattr(source, "targets", None), getattr(source, "target_masks", {})
    if targets is None:
        chunks = np.array_split(np.arange(len(source)), max(-(-len(source) // _CHUNK), 1))
        parts = [(batch.targets, batch.target_masks) for batch in map(source.take, chunks)]
        targets, masks = (
            {name: np.concatenate([part[name] for part in dicts]) for name in dicts[0]}
            for dicts in zip(*parts, strict=True)
        )
    if target not in targets:
        raise unknown_name("target", target, targets)
    labels = np.asarray(targets[target])
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(
            f"The target {target!r} has shape {labels.shape} and dtype {labels.dtype}, but a class "
            "is one integer per example: choose another target."
        )
    return np.where(masks[target], labels, -1) if target in masks else labels


def _check_seed(selection: LongTail | Fold) -> None:
    if selection.seed < 0:
        raise ConfigError(f"{type(selection).__name__}.seed is {selection.seed}: choose 0 or more.")
