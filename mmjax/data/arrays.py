"""`Arrays`: a data set of arrays that a Python program has in memory."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mmjax.data.dataset import About, ArraySource, Dataset, named_arrays
from mmjax.data.described import DescribedData
from mmjax.errors import ConfigError, DataError, unknown_name
from mmjax.structs import Modality, Target

SPLITS = ("train", "valid", "test")


class Arrays(Dataset):
    """Arrays of a program as the data of an experiment.

    The config of a run holds the SHA-256 of the arrays, not the arrays: the same program goes on
    with the run, and a model that was trained is used by `mmjax.load` without them.

    Modalities are told by shape and type: [N, D] floats are a `vector`, [N, T, D] floats a
    `sequence`, [N, height, width, channels] an `image` (uint8, or floats in [0, 1]), [N, L]
    integers a `text` of token ids in which 0 is padding. All others are declared.

    Targets likewise: [N] integers or strings are a `class` (-1 or None: not known), [N] or [N, ...]
    floats a `number` (NaN: not known), [N, C] bools `labels`.

    Args:
        inputs: modality -> [N, ...], or a dict of such arrays for a modality of several.
        targets: name -> [N, ...].
        masks: modality -> [N, T] bool, the valid positions of a sequence; all, where it is left out
            (of a text those that are not 0).
        present: modality -> [N] bool, whether an example has it; all, where it is left out.
        target_masks: name -> [N] or [N, ...] bool, whether a target is known.
        modalities: modality -> what it is, for those that are not told by shape and type.
        kinds: target -> what it is, likewise.
        valid: share of the examples in the split `valid`, drawn at random; 0 for no such split.
        test: likewise.
        seed: of that draw.
        split: [N] names, `train`, `valid` or `test`, in place of shares.
        name: of the data set.

    Raises:
        DataError: for arrays that do not fit, naming the array and the fix.
        ConfigError: for options that do not fit.
    """

    about: ClassVar[About] = About("Arrays of a program", "not known", "not known")

    def __init__(
        self,
        inputs: Mapping[str, Any],
        targets: Mapping[str, ArrayLike] | None = None,
        *,
        masks: Mapping[str, ArrayLike] | None = None,
        present: Mapping[str, ArrayLike] | None = None,
        target_masks: Mapping[str, ArrayLike] | None = None,
        modalities: Mapping[str, Modality] | None = None,
        kinds: Mapping[str, Target] | None = None,
        valid: float | int = 0.1,
        test: float | int = 0.2,
        seed: int = 0,
        split: Sequence[str] | np.ndarray | None = None,
        name: str = "arrays",
    ) -> None:
        self.name = name  # type: ignore[misc]
        if not inputs:
            raise ConfigError("Arrays has no inputs: give one array for at least one modality.")
        for what, given, known in (
            ("modality, for `masks`,", masks, inputs),
            ("modality, for `present`,", present, inputs),
            ("modality, for `modalities`,", modalities, inputs),
            ("target, for `target_masks`,", target_masks, targets or {}),
            ("target, for `kinds`,", kinds, targets or {}),
        ):
            for each in given or {}:
                if each not in known:
                    raise unknown_name(what, each, known)
        arrays = {each: _tree(value, f"inputs.{each}") for each, value in inputs.items()}
        self._modalities = {
            each: (modalities or {}).get(each) or _modality(each, array)
            for each, array in arrays.items()
        }
        labels, self._targets = {}, {}
        for each, values in (targets or {}).items():
            labels[each], self._targets[each] = _target(each, values, (kinds or {}).get(each))
        self._arrays = ArraySource(
            inputs=arrays,
            targets=labels,
            masks=_masks_of_text(arrays, self._modalities) | _bools("masks", masks),
            present=_bools("present", present),
            target_masks=_bools("target_masks", target_masks),
        )
        self._rows = _rows_of_splits(len(self._arrays), valid, test, seed, split)

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> what one example of it looks like."""
        return dict(self._modalities)

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> what is to be predicted of one example."""
        return dict(self._targets)

    @property
    def splits(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the splits that have examples."""
        return tuple(self._rows)

    def load(self, split: str, folder: Path | None = None) -> ArraySource:
        """The examples of a split; `folder` is not looked at. See `Dataset.load`."""
        self.check_split(split)
        batch = self._arrays.take(self._rows[split])
        present = {name: rows for name, rows in batch.present.items() if not rows.all()}
        return ArraySource(batch.inputs, batch.targets, batch.masks, present, batch.target_masks)

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of all arrays, their names and the splits, in hexadecimal."""
        digest = hashlib.sha256()
        source = self._arrays
        parts = {
            "inputs": source.inputs,
            "targets": source.targets,
            "masks": source.masks,
            "present": source.present,
            "target_masks": source.target_masks,
            "splits": self._rows,
        }
        for name, array in sorted(named_arrays(parts, ""), key=lambda pair: pair[0]):
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def as_config(self) -> DescribedData:
        """What the config of a run holds in place of the arrays."""
        return DescribedData.of(self, self.sha256)


def _tree(value: Any, path: str) -> Any:
    """The arrays of an input, 64-bit numbers as 32-bit ones."""
    if isinstance(value, Mapping):
        return {name: _tree(child, f"{path}.{name}") for name, child in value.items()}
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of unequal length
        raise DataError(f"{path} is no array ({error}): give rows of one shape.") from error
    if array.dtype.kind not in "biuf" and array.dtype != object:
        raise DataError(
            f"{path} holds {array.dtype}: give numbers; texts as ids of tokens [N, L], 0 where "
            "there is no token."
        )
    narrow = {"float64": np.float32, "int64": np.int32}
    return array.astype(narrow.get(str(array.dtype), array.dtype), copy=False)


def _modality(name: str, array: Any) -> Modality:
    """What a modality is, by the shape and type of its array."""
    declare = f"declare it, as in modalities={{{name!r}: Modality('vector', (32,))}}"
    if isinstance(array, Mapping):
        raise DataError(f"inputs.{name} is a dict of arrays: {declare} with its `parts`.")
    shape, kind = array.shape[1:], array.dtype.kind
    if array.dtype == np.uint8 and len(shape) == 3:
        return Modality("image", shape, "uint8")
    if kind == "f" and 1 <= len(shape) <= 3:
        return Modality({1: "vector", 2: "sequence", 3: "image"}[len(shape)], shape)
    if kind in "iu" and len(shape) == 1 and array.size:
        return Modality("text", shape, vocabulary=int(array.max()) + 1)
    raise DataError(
        f"What inputs.{name} is cannot be told from its shape {array.shape} and type "
        f"{array.dtype}: {declare}."
    )


def _target(name: str, values: ArrayLike, declared: Target | None) -> tuple[np.ndarray, Target]:
    """A target's array and what it is."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"targets.{name} is no array ({error}): give rows of one shape.") from error
    if array.ndim == 0:
        raise DataError(f"targets.{name} is a single value: give one row for each example.")
    if array.dtype.kind in "UO" and array.ndim == 1:
        return _numbered(name, array, declared)
    if declared is not None:
        return array, declared
    kind, one = array.dtype.kind, array.ndim == 1
    if kind == "b":
        count = 2 if one else array.shape[-1]
        return array.astype(np.int32), Target("class" if one else "labels", count)
    if kind in "iu" and one and array.size:
        return array.astype(np.int32), Target("class", _classes(name, array))
    if kind == "f" and array.ndim >= 1:
        return array.astype(np.float32), Target("number", shape=array.shape[1:])
    raise DataError(
        f"What targets.{name} is cannot be told from its shape {array.shape} and type "
        f"{array.dtype}: give [N] integers for a class, floats for numbers, [N, C] bools for "
        f"labels, or declare it, as in kinds={{{name!r}: Target('class', 10)}}."
    )


def _classes(name: str, array: np.ndarray) -> int:
    """The number of classes; refuses classes without an example, which are often a wrong count."""
    present = np.unique(array[array != -1])
    if not present.size:
        raise DataError(f"targets.{name} is -1 in all examples: give some of them a class.")
    if present[0] < 0:
        raise DataError(
            f"targets.{name} has the class {present[0]}: number classes from 0, and give -1 where "
            "the class is not known."
        )
    missing = np.setdiff1d(np.arange(present[-1] + 1), present)
    if missing.size:
        begins = "they begin with 1: subtract 1" if list(missing) == [0] else "number them anew"
        raise DataError(
            f"targets.{name} has no example of the class {missing[0]}, but classes are numbered "
            f"from 0 without a gap; {begins}, or declare them, as in kinds={{{name!r}: "
            f"Target('class', {present[-1] + 1})}}."
        )
    return len(present)


def _numbered(name: str, array: np.ndarray, declared: Target | None) -> tuple[np.ndarray, Target]:
    """Names of classes as numbers, -1 for None, and the target with these names.

    They are numbered as declared or else in the order of the alphabet.
    """
    if declared is not None and declared.kind != "class":
        raise DataError(
            f"targets.{name} holds texts, but is declared as a target of the kind "
            f"{declared.kind!r}: give numbers, or declare a class."
        )
    strange = [value for value in array if not (value is None or isinstance(value, str))]
    if strange:
        raise DataError(
            f"targets.{name} holds {strange[0]!r} among Python objects: give numbers, or a text "
            "for each class and None where it is not known."
        )
    names = tuple(sorted({str(value) for value in array if value is not None}))
    if not names:
        raise DataError(f"targets.{name} is None in all examples: give some of them a class.")
    if declared is not None and declared.names:
        for value in names:
            if value not in declared.names:
                raise unknown_name(f"class of targets.{name}", value, declared.names)
        names = declared.names
    elif declared is not None and declared.classes != len(names):
        raise DataError(
            f"targets.{name} holds {len(names)} different texts, but is declared as one of "
            f"{declared.classes} classes: declare their names too."
        )
    numbers = {value: number for number, value in enumerate(names)}
    array = np.array([numbers.get(value, -1) for value in array.tolist()], np.int32)
    return array, Target("class", len(names), names=names)


def _masks_of_text(
    arrays: Mapping[str, Any], modalities: Mapping[str, Modality]
) -> dict[str, np.ndarray]:
    return {name: arrays[name] != 0 for name, each in modalities.items() if each.kind == "text"}


def _bools(what: str, given: Mapping[str, ArrayLike] | None) -> dict[str, np.ndarray]:
    found = {name: np.asarray(value) for name, value in (given or {}).items()}
    for name, array in found.items():
        if array.dtype != bool:
            raise DataError(f"{what}.{name} holds {array.dtype}: give bools.")
    return found


def _rows_of_splits(
    count: int,
    valid: float | int,
    test: float | int,
    seed: int,
    split: Sequence[str] | np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Split -> [n] its rows, rising; splits without a row are left out."""
    if split is not None:
        names = np.asarray(split)
        if names.shape != (count,):
            raise DataError(
                f"`split` has the shape {names.shape}: give one name for each of the {count} rows."
            )
        for name in dict.fromkeys(names.tolist()):
            if name not in SPLITS:
                raise unknown_name("split", str(name), SPLITS)
        rows = {name: np.flatnonzero(names == name) for name in SPLITS}
    else:
        if not (0 <= valid < 1 and 0 <= test < 1 and valid + test < 1):
            raise ConfigError(
                f"The shares valid={valid} and test={test} leave nothing to train on: choose them "
                "from 0 so that their sum is below 1."
            )
        if seed < 0:
            raise ConfigError(f"Arrays.seed is {seed}: it must be 0 or more.")
        order = np.random.default_rng(seed).permutation(count)
        held = round(valid * count)
        last = held + round(test * count)
        parts = {"valid": order[:held], "test": order[held:last], "train": order[last:]}
        rows = {name: np.sort(parts[name]) for name in SPLITS}
    if not rows["train"].size:
        raise DataError("No row is in the split 'train': give it some.")
    return {name: found for name, found in rows.items() if found.size}
