"""`Arrays`: a data set made from arrays in memory."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from mmjax.data.checks import narrowed
from mmjax.data.dataset import About, ArraySource, Dataset, named_arrays
from mmjax.data.described import DescribedData
from mmjax.data.words import are_texts, ids_of, learned_words, words_of
from mmjax.errors import ConfigError, DataError, article, unknown_name
from mmjax.structs import Modality, Target

LARGEST_VOCABULARY = 10_000_000  # of a text whose modality is not declared

SPLITS = ("train", "valid", "test")


class Arrays(Dataset):
    """Arrays in memory as the data of an experiment.

    The config of a run holds the SHA-256 of the arrays, not the arrays. So a program with the same
    arrays can continue the run, and `mmjax.load` opens the trained model without them.

    The kind of a modality follows from shape and dtype: [N, D] floats are a `vector`, [N, T, D]
    floats a `sequence`, [N, height, width, channels] an `image` (uint8, or floats in [0, 1]),
    [N, T, height, width, channels] of these a `video`, [N, L] integers a `text` of token ids in
    which 0 is padding. Declare all others in `modalities`.

    A list of N strings is a `text` too. Its words, in lower case and separated by white space, get
    ids in the order of their frequency in the split `train`; a word that does not occur there is
    `<unknown>`. The run keeps the vocabulary, so `run.predict` reads strings as well. To limit it
    to the 5,000 most frequent, and texts to 40 words, declare Modality("text", (40,),
    vocabulary=5000); to use words of your own, declare `words` and the size of that vocabulary.

    So does the kind of a target: [N] integers or strings are a `class` (-1 or None: unknown), [N]
    or [N, ...] floats a `number` (NaN: unknown), [N, C] bools `labels`.

    Args:
        inputs: modality -> [N, ...], or a dict of such arrays for a modality with several parts.
        targets: name -> [N, ...].
        masks: modality -> [N, T] bool, the valid positions of a sequence; by default all (for a
            text, those that are not 0).
        present: modality -> [N] bool, whether an example has the modality; by default all have.
        target_masks: name -> [N] or [N, ...] bool, whether a target is known.
        modalities: modality -> `Modality`, if shape and dtype do not determine it.
        kinds: target -> `Target`, if shape and dtype do not determine it.
        valid: fraction of the examples in the split `valid`, drawn at random; 0 for no such split.
        test: fraction of the examples in the split `test`, drawn at random; 0 for no such split.
        seed: seed of that draw.
        split: [N] names, `train`, `valid` or `test`, instead of fractions.
        name: name of the data set.

    Raises:
        DataError: an array does not fit; names the array and the fix.
        ConfigError: an option does not fit.
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
        for what, mapping in (("inputs", inputs), ("targets", targets or {})):
            if not isinstance(mapping, Mapping):
                raise ConfigError(
                    f"{what} of Arrays is {article(type(mapping).__name__)}: give a dict of "
                    "name -> array, such as {'x': array}."
                )
        if not inputs:
            raise ConfigError("Arrays has no inputs: give one array for at least one modality.")
        for what, given, existing in (
            ("modality, for `masks`,", masks, inputs),
            ("modality, for `present`,", present, inputs),
            ("modality, for `modalities`,", modalities, inputs),
            ("target, for `target_masks`,", target_masks, targets or {}),
            ("target, for `kinds`,", kinds, targets or {}),
        ):
            for key in given or {}:
                if key not in existing:
                    raise unknown_name(what, key, existing)
        declared, arrays = dict(modalities or {}), {}
        for key, value in inputs.items():
            if are_texts(value) and len(value):
                rows = _rows_of_splits(len(value), valid, test, seed, split)["train"]
                arrays[key], declared[key] = _text(key, value, rows, declared.get(key))
            else:
                arrays[key] = _tree(value, f"inputs.{key}")
        self._modalities = {
            key: declared.get(key) or _modality(key, array) for key, array in arrays.items()
        }
        labels, self._targets = {}, {}
        for key, values in (targets or {}).items():
            labels[key], self._targets[key] = _target(key, values, (kinds or {}).get(key))
        self._arrays = ArraySource(
            inputs=arrays,
            targets=labels,
            masks=_masks_of_text(arrays, self._modalities) | _bools("masks", masks),
            present=_bools("present", present),
            target_masks=_bools("target_masks", target_masks),
        )
        self._rows = _rows_of_splits(len(self._arrays), valid, test, seed, split)
        self._check_train()

    def _check_train(self) -> None:
        """Refuses what no example of the train split has: a model would learn nothing from it."""
        train = self._rows["train"]
        for name, present in self._arrays.present.items():
            if not present[train].any():
                raise DataError(
                    f"present.{name} is False in all {len(train)} examples of the split 'train': "
                    "leave the modality out, or give some of these examples its values."
                )
        for name, target in self._targets.items():
            values = self._arrays.targets[name][train]
            if target.kind == "number" and values.dtype.kind == "f" and np.isnan(values).all():
                raise DataError(
                    f"targets.{name} is NaN (unknown) in all {len(train)} examples of the split "
                    "'train': leave the target out, or give some of these examples a number."
                )

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        return dict(self._modalities)

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return dict(self._targets)

    @property
    def splits(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the splits that have examples."""
        return tuple(self._rows)

    def load(self, split: str, folder: Path | None = None) -> ArraySource:
        """The examples of a split; `folder` is not used. See `Dataset.load`."""
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
        """What the config of a run holds instead of the arrays."""
        return DescribedData.of(self, self.sha256)


def _tree(value: Any, path: str) -> Any:
    """The arrays of an input, with 64-bit numbers converted to 32-bit."""
    if isinstance(value, Mapping):
        return {name: _tree(child, f"{path}.{name}") for name, child in value.items()}
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of unequal length
        raise DataError(
            f"{path} cannot be converted to an array ({error}): give rows of equal shape."
        ) from error
    if array.dtype.kind not in "biuf" and array.dtype != object:
        raise DataError(
            f"{path} has dtype {array.dtype}: give numbers; give texts as token ids [N, L], with 0 "
            "for padding."
        )
    narrow = {"float64": np.float32, "int64": np.int32, "uint64": np.int32}
    return narrowed(path, array, narrow.get(str(array.dtype), array.dtype))


def _text(
    name: str, given: Sequence[str] | np.ndarray, train: np.ndarray, declared: Modality | None
) -> tuple[np.ndarray, Modality]:
    """Strings as ids [N, L], and the modality with the vocabulary, which `train` rows alone make.

    The length L is that of the longest text of any split, if it is not declared.
    """
    texts = list(given)
    odd = [text for text in texts if not isinstance(text, str)]
    if odd:
        raise DataError(
            f"inputs.{name} has the value {odd[0]!r} among its texts: give strings, and False in "
            "`present` where the text is missing."
        )
    if declared is not None and declared.kind != "text":
        raise DataError(
            f"inputs.{name} has strings, but is declared as a modality of the kind "
            f"{declared.kind!r}: give numbers, or declare a text."
        )
    words = declared.words if declared is not None else ()
    if not words:
        size = declared.vocabulary if declared is not None else 0
        words = learned_words([texts[row] for row in train], size)
    longest = max(1, *(len(words_of(text)) for text in texts))
    shape = declared.shape if declared is not None and declared.shape else (longest,)
    modality = Modality("text", shape, vocabulary=len(words), words=words)
    return ids_of(name, texts, words, shape[0]), modality


def _modality(name: str, array: Any) -> Modality:
    """The `Modality` that follows from the shape and dtype of an array."""
    declare = f"declare it, as in modalities={{{name!r}: Modality('vector', (32,))}}"
    if isinstance(array, Mapping):
        raise DataError(f"inputs.{name} is a dict of arrays: {declare}, with its `parts`.")
    if array.ndim == 0 or not len(array):
        raise DataError(f"inputs.{name} has no rows: give one per example.")
    if array.dtype == object:
        raise DataError(
            f"inputs.{name} is an array of Python objects: give numbers in one array whose rows "
            "have the same shape."
        )
    if array.ndim == 1:
        raise DataError(
            f"inputs.{name} has one value per example: make it a column by array[:, None]."
        )
    shape, kind = array.shape[1:], array.dtype.kind
    if kind in "iu" and len(shape) in (3, 4) and array.dtype != np.uint8:
        raise DataError(
            f"inputs.{name} holds pictures as {array.dtype}: convert them by array.astype('uint8') "
            "(0 to 255), or to floats from 0 to 1."
        )
    if kind in "uf" and len(shape) in (3, 4):
        _check_pictures(name, array, declare)
    if array.dtype == np.uint8 and len(shape) in (3, 4):
        return Modality({3: "image", 4: "video"}[len(shape)], shape, "uint8")
    if kind == "f" and 1 <= len(shape) <= 4:
        kinds = {1: "vector", 2: "sequence", 3: "image", 4: "video"}
        return Modality(kinds[len(shape)], shape)
    if kind in "iu" and len(shape) == 1:
        return Modality("text", shape, vocabulary=_vocabulary(name, array))
    raise DataError(
        f"The kind of inputs.{name} does not follow from its shape {array.shape} and dtype "
        f"{array.dtype}: {declare}."
    )


def _vocabulary(name: str, ids: np.ndarray) -> int:
    """One more than the largest id; DataError for ids that do not number the words of a text."""
    largest = int(ids.max())
    if largest >= LARGEST_VOCABULARY:
        raise DataError(
            f"inputs.{name} has the token id {largest}, so its encoder would need a table of "
            f"{largest + 1:,} words: number the words that occur from 1, with 0 for padding, or "
            f"declare the text, as in modalities={{{name!r}: Modality('text', {ids.shape[1:]}, "
            f"vocabulary={largest + 1})}}."
        )
    return largest + 1


def _check_pictures(name: str, array: np.ndarray, declare: str) -> None:
    """Refuses arrays [..., height, width, channels] that are pictures in another format."""
    channels = (1, 3, 4)
    if array.shape[-3] in channels and array.shape[-1] not in channels:
        raise DataError(
            f"inputs.{name} has the shape {array.shape}, which looks like pictures with their "
            f"channels first: move them last by np.moveaxis(array, {array.ndim - 3}, -1)."
        )
    if array.dtype.kind == "f":
        low, high = np.nanmin(array), np.nanmax(array)
        if low < 0 or high > 1:
            raise DataError(
                f"inputs.{name} holds pictures with values from {low:g} to {high:g}, but floats "
                "are from 0 to 1: divide them by 255, give uint8, or, if they are no pictures, "
                f"{declare}."
            )


def _target(name: str, values: ArrayLike, declared: Target | None) -> tuple[np.ndarray, Target]:
    """The array and the `Target` of a target."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(
            f"targets.{name} cannot be converted to an array ({error}): give rows of equal shape."
        ) from error
    if array.ndim == 0:
        raise DataError(f"targets.{name} is a single value: give one row per example.")
    if not len(array):
        raise DataError(f"targets.{name} has no rows: give one per example.")
    if array.dtype.kind in "UO" and array.ndim == 1:
        return _numbered(name, array, declared)
    if declared is not None:
        return array, declared
    kind, one = array.dtype.kind, array.ndim == 1
    if kind == "b":
        count = 2 if one else array.shape[-1]
        return array.astype(np.int32), Target("class" if one else "labels", count)
    if kind in "iu" and one and array.size:
        return narrowed(f"targets.{name}", array, np.int32), Target("class", _classes(name, array))
    if kind == "f" and array.ndim >= 1:
        number = Target("number", shape=array.shape[1:])
        return narrowed(f"targets.{name}", array, np.float32), number
    if kind in "iu" and array.ndim == 2 and np.isin(array, (0, 1)).all():
        raise DataError(
            f"targets.{name} holds 0 and 1 as {array.dtype}: for labels, any of which an example "
            "may have, give bools by array.astype(bool)."
        )
    raise DataError(
        f"The kind of targets.{name} does not follow from its shape {array.shape} and dtype "
        f"{array.dtype}: give [N] integers for a class, floats for numbers, [N, C] bools for "
        f"labels, or declare it, as in kinds={{{name!r}: Target('class', 10)}}."
    )


def _classes(name: str, array: np.ndarray) -> int:
    """The number of classes; DataError for classes without an example, often wrong numbering."""
    present = np.unique(array[array != -1])
    if not present.size:
        raise DataError(
            f"targets.{name} is -1 (unknown) in all examples: give some examples a class."
        )
    if present[0] < 0:
        raise DataError(
            f"targets.{name} has the class {present[0]}: number classes from 0, and use -1 for an "
            "unknown class."
        )
    if len(present) != present[-1] + 1:
        missing = int(np.argmin(present == np.arange(len(present))))  # the first of them
        shifted = missing == 0 and present[0] == 1 and present[-1] == len(present)
        fix = "subtract 1 from all" if shifted else "renumber them"
        raise DataError(
            f"targets.{name} has no example of the class {missing}, but classes are numbered "
            f"from 0 without gaps: {fix}, or declare the number of classes, as in "
            f"kinds={{{name!r}: Target('class', {present[-1] + 1})}}."
        )
    return len(present)


def _numbered(name: str, array: np.ndarray, declared: Target | None) -> tuple[np.ndarray, Target]:
    """Class names as numbers, -1 for None, and the target with these names.

    They are numbered as declared, or else in alphabetical order.
    """
    if declared is not None and declared.kind != "class":
        raise DataError(
            f"targets.{name} has strings, but is declared as a target of the kind "
            f"{declared.kind!r}: give numbers, or declare a class."
        )
    invalid = [value for value in array if not (value is None or isinstance(value, str))]
    if invalid:
        raise DataError(
            f"targets.{name} has the value {invalid[0]!r}: give numbers, or strings for classes "
            "and None for an unknown class."
        )
    names = tuple(sorted({str(value) for value in array if value is not None}))
    if not names:
        raise DataError(
            f"targets.{name} is None (unknown) in all examples: give some examples a class."
        )
    if declared is not None and declared.names:
        for value in names:
            if value not in declared.names:
                raise unknown_name(f"class of targets.{name}", value, declared.names)
        names = declared.names
    elif declared is not None and declared.classes != len(names):
        raise DataError(
            f"targets.{name} has {len(names)} different strings, but is declared with "
            f"{declared.classes} classes: declare the names of the classes too."
        )
    numbers = {value: number for number, value in enumerate(names)}
    array = np.array([numbers.get(value, -1) for value in array.tolist()], np.int32)
    return array, Target("class", len(names), names=names)


def _masks_of_text(
    arrays: Mapping[str, Any], modalities: Mapping[str, Modality]
) -> dict[str, np.ndarray]:
    texts = [name for name, modality in modalities.items() if modality.kind == "text"]
    return {name: arrays[name] != 0 for name in texts}


def _bools(what: str, given: Mapping[str, ArrayLike] | None) -> dict[str, np.ndarray]:
    found = {name: np.asarray(value) for name, value in (given or {}).items()}
    for name, array in found.items():
        if array.dtype != bool:
            raise DataError(f"{what}.{name} has dtype {array.dtype}: give an array of bool.")
    return found


def _rows_of_splits(
    count: int,
    valid: float | int,
    test: float | int,
    seed: int,
    split: Sequence[str] | np.ndarray | None,
) -> dict[str, np.ndarray]:
    """Split -> [n] its row numbers, sorted; splits without rows are left out."""
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
                f"valid={valid} and test={test} leave no examples for training: choose fractions "
                "of at least 0 whose sum is below 1."
            )
        if not 0 <= seed < 2**32:
            raise ConfigError(f"Arrays.seed is {seed}: a seed is from 0 to {2**32 - 1}.")
        order = np.random.default_rng(seed).permutation(count)
        valid_end = round(valid * count)
        test_end = valid_end + round(test * count)
        parts = {
            "valid": order[:valid_end],
            "test": order[valid_end:test_end],
            "train": order[test_end:],
        }
        rows = {name: np.sort(parts[name]) for name in SPLITS}
    if not rows["train"].size:
        raise DataError("The split 'train' has no rows: put at least one row into it.")
    return {name: found for name, found in rows.items() if found.size}
