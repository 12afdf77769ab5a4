"""Selections: which records of the training split are trained on, and how often each.

A selection is a frozen dataclass, a function of its own fields, of the labels and of the seed of
the run, so a run that is resumed trains on the same records. Selections say nothing of the records
themselves: an example that is selected twice is the same both times.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mmjax.data.dataset import Source
from mmjax.errors import ConfigError, DataError, unknown_name
from mmjax.structs import Batch

_CHUNK = 1024  # records whose examples are made at once, of a source that does not know its targets
# What tells the random streams of this file from each other and from that of the order of training.
_LONG_TAIL, _RESAMPLE, _FOLD = 101, 102, 103


class Selection(abc.ABC):
    """Base of the selections.

    Attributes:
        target: name of the target that holds the class of an example.
        needs_labels: whether the labels are looked at; where not, they are not looked up either.
    """

    target: str = "label"
    needs_labels: ClassVar[bool] = True

    @abc.abstractmethod
    def __call__(self, records: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """Selects among the records that earlier selections have left.

        Args:
            records: [N] record numbers, some perhaps repeated.
            labels: [N] their classes; zeros where `needs_labels` is False.
            seed: of the run.

        Returns:
            The new record numbers, in an order that need not be random.
        """


@dataclasses.dataclass(frozen=True)
class LongTail(Selection):
    """Cuts the classes to an exponentially falling number of examples.

    Class c = 0 .. C - 1 keeps n_0 ratio^(-c / (C - 1)) examples, rounded, and at least one; n_0 is
    the size of the smallest of the C classes before, so that `ratio` is that of the most to the
    least frequent class whatever the data was like. Classes without examples do not count. The
    examples that are kept at one ratio are kept at every smaller one.

    Attributes:
        ratio: examples of the first class for one of the last; 1 or more.
        target: name of the target that holds the class.
        seed: chooses the examples; it is not that of the run, so all runs have the same data.

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
        """The records kept, in the order given; see `Selection.__call__`."""
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
    """Repeats examples of the rarer classes, so that the classes come up more evenly.

    The frequencies become proportional to n_c^(1 - power). The most frequent class stays as it is
    and no class is cut: class c is brought to n_max (n_c / n_max)^(1 - power) examples, rounded, by
    repeating all of them equally often and drawing the remainder without replacement. What is drawn
    depends on the run's seed and stays the same in all its epochs.

    Attributes:
        power: 1 makes all classes equally frequent, 1/2 is square-root sampling, 0 changes nothing.
        target: name of the target that holds the class.

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
        """All records, and after them the repeated ones; see `Selection.__call__`."""
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
    """Leaves out one of `count` equal parts of the split, for predictions on data not trained on.

    Which part a record belongs to depends on the record, `count` and `seed` only: of every `count`
    consecutive records, each part has one at random. Classes are not looked at.

    Attributes:
        index: the part that is left out, from 0 to `count` - 1.
        count: number of parts, 2 or more.
        seed: deals the records out; it is not that of the run.
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
        """The record numbers left out of a split of `size` records, ascending.

        The `count` folds of one seed share `range(size)` among them, evenly to one record.
        """
        return np.flatnonzero(self._parts(size) == self.index)

    def __call__(self, records: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
        """The records of the other folds, in the order given; see `Selection.__call__`."""
        parts = self._parts(int(records.max(initial=-1)) + 1)
        return records[parts[records] != self.index]

    def _parts(self, size: int) -> np.ndarray:
        """[size] the part of every record; the first ones do not change with `size`."""
        rng = np.random.default_rng((self.seed, self.count, _FOLD))
        drawn = rng.random((-(-size // self.count), self.count))
        return np.argsort(drawn, axis=1).ravel()[:size]


@dataclasses.dataclass(frozen=True)
class Selected:
    """A source seen through a list of its records: example i is record `records[i]`.

    Attributes:
        source: the whole.
        records: [N] record numbers of it; the `ids` of a batch are these.
    """

    source: Source
    records: np.ndarray

    def __len__(self) -> int:
        return len(self.records)

    def take(self, indices: np.ndarray) -> Batch:
        """The examples `indices` [B]; see `Source.take`."""
        return self.source.take(self.records[indices])


def select(source: Source, selections: Sequence[Selection], seed: int) -> Selected:
    """What selections, one after the other, leave of a source.

    Args:
        source: the whole training split.
        selections: applied in order.
        seed: of the run.

    Raises:
        ConfigError: for a target that the source does not have, or that is no class.
        DataError: for a record whose class is not known, where a selection needs it.
    """
    records = np.arange(len(source))
    for selection in selections:
        if selection.needs_labels:
            labels = labels_of(source, selection.target)[records]
            if (labels < 0).any():
                raise DataError(
                    f"The selection {type(selection).__name__} needs the class of each record, but "
                    f"record {records[labels < 0][0]} of train has no {selection.target!r}: leave "
                    "out the records without one, or the selection."
                )
        else:
            labels = np.zeros(len(records), np.int32)
        records = selection(records, labels, seed)
    return Selected(source, records)


def labels_of(source: Source, target: str) -> np.ndarray:
    """The class of every record, -1 where a mask says that it is not known.

    A source with an attribute `targets` (name -> [N]) is asked for it; of any other, all examples
    are made once.

    Args:
        source: a split.
        target: name of the target that holds the class.

    Returns:
        [N] integers.

    Raises:
        ConfigError: for a target that the source does not have, or that is not one integer each.
    """
    if isinstance(source, Selected):
        return labels_of(source.source, target)[source.records]
    targets, masks = getattr(source, "targets", None), getattr(source, "target_masks", {})
    if targets is None:
        chunks = np.array_split(np.arange(len(source)), max(-(-len(source) // _CHUNK), 1))
        parts = [(batch.targets, batch.target_masks) for batch in map(source.take, chunks)]
        targets, masks = (
            {name: np.concatenate([part[name] for part in each]) for name in each[0]}
            for each in zip(*parts, strict=True)
        )
    if target not in targets:
        raise unknown_name("target", target, targets)
    labels = np.asarray(targets[target])
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ConfigError(
            f"The target {target!r} has shape {labels.shape} and type {labels.dtype}, but classes "
            "are one integer an example: name another target."
        )
    return np.where(masks[target], labels, -1) if target in masks else labels


def _check_seed(selection: LongTail | Fold) -> None:
    if selection.seed < 0:
        raise ConfigError(f"{type(selection).__name__}.seed is {selection.seed}: choose 0 or more.")
