"""The base classes of data: a data set, a frozen config, and its sources with random access."""

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from mmjax.errors import DataError, article, unknown_name
from mmjax.structs import Batch, Modality, Target

__all__ = ["About", "ArraySource", "Dataset", "Modality", "Source", "Target"]


@dataclasses.dataclass(frozen=True)
class About:
    """The catalogue's entry of a data set: its origin and the hashes of its files.

    Attributes:
        title: one line.
        citation: the publication to cite.
        licence: terms of use.
        homepage: where to download the original; empty for a built-in data set.
        files: path relative to the data folder -> SHA-256 of the file; for a folder of many files,
            `folder/` -> SHA-256 over the lines `<sha256 of file>  <path>` of all files in it and
            in its subfolders, hidden ones left out, sorted by path.
    """

    title: str
    citation: str
    licence: str
    homepage: str = ""
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)


@runtime_checkable
class Source(Protocol):
    """The examples of one split, with random access. Example i never changes.

    A source that knows its targets without making the examples can have an attribute `targets`,
    name -> [N, ...].
    """

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> Batch:
        """The examples `indices` [B] as one batch of NumPy arrays, `ids` = `indices`."""
        ...


class Dataset(abc.ABC):
    """Base of the data sets: a frozen dataclass that defines its examples."""

    name: ClassVar[str]
    about: ClassVar[About] = About("A data set of its user", "not known", "not known")
    splits: ClassVar[tuple[str, ...]] = ("train", "valid", "test")

    @property
    @abc.abstractmethod
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""

    @property
    @abc.abstractmethod
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""

    @abc.abstractmethod
    def load(self, split: str, folder: Path | None) -> Source:
        """Opens a split.

        Args:
            split: one of `splits`.
            folder: the folder of raw data, with a subfolder per data set; None if none was given.

        Raises:
            ConfigError: the split does not exist.
            DataError: a file is missing or damaged.
        """

    def check_split(self, split: str) -> None:
        """Raises a ConfigError for a split that is not one of `splits`."""
        if split not in self.splits:
            raise unknown_name(f"split of {self.name}", split, self.splits)


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """A source with all examples in memory: every array has one row per example.

    Attributes:
        inputs: modality -> [N, ...], or a dict of such arrays.
        targets: name -> [N, ...]; a label of -1 and a NaN mean unknown.
        masks: modality -> [N, T] bool, the valid positions of a sequence.
        present: modality -> [N] bool; a modality without an entry is present in all examples.
        target_masks: name -> [N] or [N, ...] bool, whether the target is known.

    Raises:
        DataError: arrays have unequal lengths or hold Python objects.
    """

    inputs: Mapping[str, Any]
    targets: Mapping[str, np.ndarray]
    masks: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    present: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    target_masks: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths: dict[str, int] = {}
        for field in dataclasses.fields(self):
            for name, array in named_arrays(getattr(self, field.name), field.name):
                if not hasattr(array, "dtype"):
                    raise DataError(
                        f"{name} is {article(type(array).__name__)}: give a NumPy array, as "
                        "np.asarray(...) makes of it."
                    )
                if array.dtype == object:
                    raise DataError(
                        f"{name} is an array of Python objects: give numbers in one array whose "
                        "rows all have the same shape."
                    )
                if array.ndim == 0:
                    raise DataError(f"{name} is a single value: give one row per example.")
                lengths[name] = len(array)
        for name, length in lengths.items():
            first = next(iter(lengths))
            if length != lengths[first]:
                raise DataError(
                    f"{name} has {length} rows, but {first} has {lengths[first]}: give arrays with "
                    "one row per example."
                )

    def __len__(self) -> int:
        return len(named_arrays(self.inputs or self.targets, "")[0][1])

    def all(self) -> Batch:
        """All examples; the arrays are not copied."""
        return Batch.of(
            self.inputs,
            np.arange(len(self)),
            masks=self.masks,
            present=self.present,
            targets=self.targets,
            target_masks=self.target_masks,
        )

    def take(self, indices: np.ndarray) -> Batch:
        """Gathers rows; see `Source.take`."""

        def rows(arrays: Any) -> Any:
            if isinstance(arrays, Mapping):
                return {name: rows(array) for name, array in arrays.items()}
            return arrays[indices]

        return Batch.of(
            rows(self.inputs),
            indices,
            masks=rows(self.masks),
            present=rows(self.present),
            targets=rows(self.targets),
            target_masks=rows(self.target_masks),
        )


def named_arrays(tree: Any, path: str) -> list[tuple[str, np.ndarray]]:
    """The arrays of nested dicts, each with its dotted path, in the order of the dicts."""
    if not isinstance(tree, Mapping):
        return [(path, tree)]
    return [
        found
        for name, child in tree.items()
        for found in named_arrays(child, f"{path}.{name}".lstrip("."))
    ]
