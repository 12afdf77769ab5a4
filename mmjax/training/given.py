"""A source of examples that the user gives to a trained model: arrays by modality name."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mmjax.data.checks import check_masks, narrowed
from mmjax.data.dataset import named_arrays
from mmjax.data.words import are_texts, ids_of
from mmjax.errors import ConfigError, DataError, unknown_name
from mmjax.structs import Batch, Modality


class GivenExamples:
    """A source of arrays in which modalities may be missing.

    Args:
        data: modality -> [N, ...] array; for a text with a known vocabulary, also N strings.
        read: the modalities that the model reads.
        known: all modalities of the data set that the model was trained on.
        present: modality -> [N] bool, whether the row has the modality.
        masks: modality -> [N, T] bool, valid positions.
        readers: modality -> from raw texts or pictures to inputs; for those of published weights.

    Raises:
        ConfigError: an unknown modality, or no modality that the model reads.
        DataError: arrays of another shape or dtype than the model reads, or of unequal lengths.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        read: Mapping[str, Modality],
        known: Mapping[str, Modality],
        present: Mapping[str, ArrayLike],
        masks: Mapping[str, ArrayLike],
        readers: Mapping[str, Callable[[Any], np.ndarray]] | None = None,
    ) -> None:
        for name in data:
            if name not in known:
                raise unknown_name("modality of the model", name, known)
        for what, names in (("present", present), ("masks", masks)):
            for name in names:
                if name not in data:
                    raise unknown_name(f"modality in the given data, for `{what}`,", name, data)
        self._read = read
        self._inputs = {
            name: _checked(name, _read_raw(name, data[name], read[name], readers or {}), read[name])
            for name in read
            if name in data
        }
        if not self._inputs:
            raise ConfigError(
                f"The data has no modality that the model reads: give {' or '.join(read)}."
            )
        self._masks = {
            name: np.asarray(mask) for name, mask in masks.items() if name in self._inputs
        }
        for name, modality in read.items():
            if modality.kind == "text" and name in self._inputs and name not in self._masks:
                self._masks[name] = self._inputs[name] != 0
        self._present = {
            name: np.asarray(rows) for name, rows in present.items() if name in self._inputs
        }
        self._check_lengths()
        if not len(self):
            raise DataError("The arrays have no rows: give arrays of one row or more.")
        anywhere = [
            self._present.get(name, np.ones(len(self), bool)).any() for name in self._inputs
        ]
        if not any(anywhere):
            raise ConfigError(
                "`present` is False for every modality in every row: set it to True where a row "
                "has the modality."
            )

    def __len__(self) -> int:
        return len(named_arrays(self._inputs, "")[0][1])

    def _check_lengths(self) -> None:
        rows = len(self)
        for name, array in named_arrays(self._inputs, ""):
            if len(array) != rows:
                first = named_arrays(self._inputs, "")[0][0]
                raise DataError(
                    f"{name} has {len(array)} rows, but {first} has {rows}: give arrays with one "
                    "row per example."
                )
        check_masks(self._masks, self._present, self._read, rows, "the data given")

    def take(self, indices: np.ndarray) -> Batch:
        """Gathers rows; a missing modality is zeros and marked absent. See `Source.take`."""
        inputs, present = {}, {}
        for name, modality in self._read.items():
            if name in self._inputs:
                inputs[name] = _rows(self._inputs[name], indices)
                present[name] = self._present.get(name, np.ones(len(self), bool))[indices]
            else:
                inputs[name] = modality.blank(len(indices))
                present[name] = np.zeros(len(indices), bool)
        masks = {name: mask[indices] for name, mask in self._masks.items()}
        for name in self._read.keys() - self._inputs.keys():
            if self._read[name].kind == "text":
                masks[name] = np.zeros(inputs[name].shape, bool)
        return Batch.of(inputs, indices, masks=masks, present=present)


def _rows(tree: Any, indices: np.ndarray) -> Any:
    if isinstance(tree, Mapping):
        return {name: _rows(child, indices) for name, child in tree.items()}
    return tree[indices]


def _read_raw(
    name: str,
    values: Any,
    modality: Modality,
    readers: Mapping[str, Callable[[Any], np.ndarray]],
) -> Any:
    """Raw texts and lists of pictures as inputs, if the run knows how; else the values."""
    if name not in readers:
        return values
    if modality.kind == "text" and are_texts(values):
        ids, (length,) = readers[name](list(values)), modality.shape
        if ids.shape[1] > length:
            row = int(np.argmax((ids[:, length:] != 0).any(axis=1)))
            raise DataError(
                f"Text {row} of {name!r} has {np.count_nonzero(ids[row])} word pieces, but the "
                f"model reads at most {length}: shorten it."
            )
        return np.pad(ids, ((0, 0), (0, length - ids.shape[1])))
    if modality.kind == "image" and isinstance(values, list | tuple):
        pictures = readers[name](values)
        return pictures if modality.dtype == "uint8" else pictures.astype(np.float32) / 255
    return values


def _checked(name: str, values: Any, modality: Modality) -> Any:
    """The values as the model reads them: shape and dtype checked, words replaced by ids."""
    if modality.parts:
        if not isinstance(values, Mapping) or set(values) != set(modality.parts):
            raise DataError(
                f"The modality {name!r} has the parts {', '.join(modality.parts)}: give a dict "
                "with one array for each of them."
            )
        return {
            part: _checked(f"{name}.{part}", values[part], inner)
            for part, inner in modality.parts.items()
        }
    if modality.kind == "text" and are_texts(values):
        return _ids(name, list(values), modality)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(
            f"The modality {name!r} cannot be converted to a NumPy array ({error}): give an array."
        ) from error
    declared = np.dtype(modality.dtype)
    if array.shape[1:] != modality.shape or array.ndim == 0:
        raise DataError(
            f"The modality {name!r} has the shape {array.shape}, but the model reads "
            f"[N, {', '.join(map(str, modality.shape))}]: give an array of that shape."
        )
    fits = np.can_cast(array.dtype, declared, "same_kind")
    if not fits or (array.dtype == np.uint8) != (declared == np.uint8):
        raise DataError(
            f"The modality {name!r} has dtype {array.dtype}, but the model reads {declared}: "
            "convert the values in the same way as the training data."
        )
    if modality.vocabulary and array.size:
        outside = array[(array < 0) | (array >= modality.vocabulary)]
        if outside.size:
            raise DataError(
                f"The modality {name!r} has the token {outside[0]}, but its tokens are numbered "
                f"from 0 to {modality.vocabulary - 1}: use the vocabulary of the training data."
            )
    return narrowed(f"The modality {name!r}", array, declared)


def _ids(name: str, texts: list[Any], modality: Modality) -> np.ndarray:
    """Texts as word ids [N, length]; raises an error if the run has no vocabulary."""
    if not modality.words:
        raise DataError(
            f"The run has no vocabulary for {name!r}, so it cannot read strings: give token ids "
            f"[N, {', '.join(map(str, modality.shape))}]."
        )
    return ids_of(name, texts, modality.words, modality.shape[0])
