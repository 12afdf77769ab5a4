"""Checks examples against the declaration of their data set, and adds masks of known targets."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmjax.data.dataset import ArraySource, Dataset, Source, named_arrays
from mmjax.data.selection import Selected, labels_of
from mmjax.errors import ConfigError, DataError
from mmjax.structs import Batch, Modality, Target

_CHECKED = 64  # examples of every split that are checked before the first step


def check_declaration(data: Dataset) -> None:
    """Checks that a data set declares its modalities and targets with the right classes.

    Raises:
        ConfigError: it does not; names the modality or target and the fix.
    """
    if not isinstance(getattr(data, "name", None), str):
        raise ConfigError(
            f"The data set {type(data).__name__} has no name: give its class one, as in "
            "`name: ClassVar[str] = 'mine'`."
        )
    for name, target in data.targets.items():
        if not isinstance(target, Target):
            raise ConfigError(
                f"The data set {data.name!r} declares the target {name!r} as {target!r}: use a "
                "mmjax.data.Target, such as Target('class', 10) for one of 10 classes."
            )
    for name, modality in data.modalities.items():
        if not isinstance(modality, Modality):
            raise ConfigError(
                f"The data set {data.name!r} declares the modality {name!r} as {modality!r}: use a "
                "mmjax.data.Modality, such as Modality('vector', (32,))."
            )
        for path, part in _parts(name, modality):
            if part.vocabulary and part.dtype == "uint8":
                raise ConfigError(
                    f"The modality {path!r} of {data.name!r} declares ids with dtype uint8, but "
                    "uint8 values are taken for images and divided by 255: declare dtype='int32'."
                )


def _parts(name: str, modality: Modality) -> list[tuple[str, Modality]]:
    """The arrays of a modality, each with its dotted path."""
    if not modality.parts:
        return [(name, modality)]
    return [
        found for part in modality.parts for found in _parts(f"{name}.{part}", modality.parts[part])
    ]


def check_examples(data: Dataset, split: str, source: Source) -> None:
    """Checks that a split has examples, and the first ones against the data set's declaration.

    If the arrays of the source are in memory, all examples are checked; if the source has an
    attribute `targets`, the targets of all examples are.

    Raises:
        DataError: a check fails; names the modality or target and the fix.
    """
    what = f"the split {split!r} of {data.name}"
    if not len(source):
        raise DataError(
            f"The split {split!r} of {data.name} has no examples: give it at least one."
        )
    if isinstance(source, ArraySource):
        batch = source.all()
    else:
        batch = source.take(np.arange(min(len(source), _CHECKED)))
    rows = len(batch.ids)
    for name, modality in data.modalities.items():
        if name not in batch.inputs or name not in batch.present:
            raise DataError(
                f"The modality {name!r} is declared, but not in the inputs of {what}: add its "
                "values, and set `present` to False where it is missing."
            )
        _check_modality(name, modality, batch.inputs[name], rows, what)
    check_masks(batch.masks, batch.present, data.modalities, rows, what)
    check_finite(batch, what)
    with_known_targets(batch, data.targets, what)
    known = getattr(source, "targets", None)
    if isinstance(known, Mapping) and rows < len(source):
        ids = np.arange(len(source), dtype=np.int32)
        masks = dict(getattr(source, "target_masks", {}))
        declared = {name: target for name, target in data.targets.items() if name in known}
        with_known_targets(Batch.of({}, ids, targets=known, target_masks=masks), declared, what)


def check_masks(
    masks: Mapping[str, Any],
    present: Mapping[str, Any],
    modalities: Mapping[str, Modality],
    rows: int,
    what: str,
) -> None:
    """Checks that masks are bools of the right shape, and presences one bool per example.

    Args:
        masks: modality -> [B, T].
        present: modality -> [B].
        modalities: as they are declared.
        rows: B.
        what: the origin of the examples, for the message.

    Raises:
        DataError: a check fails.
    """
    for name, presence in present.items():
        array = np.asarray(presence)
        if array.dtype != bool or array.shape != (rows,):
            raise DataError(
                f"The presence of {name!r} in {what} has dtype {array.dtype} and shape "
                f"{array.shape}: give one bool for each of the {rows} examples."
            )
    for name, mask in masks.items():
        array, shape = np.asarray(mask), modalities[name].shape if name in modalities else ()
        wanted = (rows, *shape[:1])
        if array.dtype != bool or (array.shape != wanted if shape else len(array) != rows):
            raise DataError(
                f"The mask of {name!r} in {what} has dtype {array.dtype} and shape {array.shape}: "
                f"give an array of bool with the shape {wanted}, True at valid positions."
            )


def check_finite(batch: Batch, what: str) -> Batch:
    """The batch; refuses values of present modalities that are not finite.

    Raises:
        DataError: naming the modality and the records.
    """
    for modality, tree in batch.inputs.items():
        for path, values in named_arrays(tree, modality):
            if not np.issubdtype(values.dtype, np.floating) or np.isfinite(values).all():
                continue
            finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
            bad = batch.ids[~finite & batch.present[modality] & (batch.weight > 0)]
            if len(bad):
                few = ", ".join(str(record) for record in bad[:5])
                raise DataError(
                    f"Modality {path!r} of {what} has values that are not finite (NaN or infinite) "
                    f"in {len(bad)} of the {len(values)} examples of a batch, record {few}: set "
                    "`present` to False where the modality is missing, fix or remove the other "
                    "records, and check the transforms if the records are correct."
                )
    return batch


def missing_classes(data: Dataset, source: Source) -> list[str]:
    """A sentence for each target with a class that has no example in the training split.

    Only a source with an attribute `targets` is checked.
    """
    sentences = []
    known = getattr(source.source if isinstance(source, Selected) else source, "targets", None)
    for name, target in data.targets.items():
        if target.kind != "class" or name not in (known or {}):
            continue
        labels = np.asarray(labels_of(source, name))
        missing = np.setdiff1d(np.arange(target.classes), labels)
        if missing.size:
            few = ", ".join(map(str, missing[:5])) + (", ..." if missing.size > 5 else "")
            sentences.append(
                f"{missing.size} of the {target.classes} classes of {name!r} have no example in "
                f"the split 'train' of {data.name} ({few}), so a model cannot learn them: check "
                "the labels, or declare fewer classes."
            )
    return sentences


def _check_modality(name: str, modality: Modality, values: Any, rows: int, what: str) -> None:
    if modality.parts:
        for part, inner in modality.parts.items():
            if not isinstance(values, Mapping) or part not in values:
                raise DataError(
                    f"The modality {name!r} of {what} has no part {part!r}: give a dict with "
                    f"{', '.join(modality.parts)}."
                )
            _check_modality(f"{name}.{part}", inner, values[part], rows, what)
        return
    if isinstance(values, Mapping):
        raise DataError(
            f"The modality {name!r} of {what} is a dict, but is declared as one array: declare "
            "its `parts` in Modality."
        )
    if values.shape != (rows, *modality.shape):
        raise DataError(
            f"The modality {name!r} of {what} has examples of the shape {values.shape[1:]}, but is "
            f"declared as {modality.shape}: correct the data or the declaration."
        )
    declared = np.dtype(modality.dtype)
    fits = np.can_cast(values.dtype, declared, "same_kind")
    if not fits or (values.dtype == np.uint8) != (declared == np.uint8):
        raise DataError(
            f"The modality {name!r} of {what} has dtype {values.dtype}, but is declared as "
            f"{declared}: convert the values, or declare Modality(..., "
            f"dtype={str(values.dtype)!r})."
        )
    if modality.vocabulary and ((values < 0) | (values >= modality.vocabulary)).any():
        wrong = values[(values < 0) | (values >= modality.vocabulary)]
        raise DataError(
            f"The modality {name!r} of {what} has the id {wrong[0]}, but the ids of its vocabulary "
            f"are 0 to {modality.vocabulary - 1}: correct the data or the declared vocabulary."
        )


def with_known_targets(batch: Batch, targets: Mapping[str, Target], what: str) -> Batch:
    """The batch with a mask for each declared target, False where the target is unknown.

    A class or label of -1 and a NaN are unknown. Unknown values are replaced by zero.

    Args:
        batch: of NumPy arrays.
        targets: as the data set declares them.
        what: the origin of the examples ("the split 'train' of mine"), for the message.

    Raises:
        DataError: a target is missing, has another shape or dtype, or is out of its range.
    """
    values, masks = dict(batch.targets), dict(batch.target_masks)
    for name, target in targets.items():
        if name not in values:
            raise DataError(
                f"The target {name!r} is declared, but not in the targets of {what}: add its "
                "values, with -1 or NaN where it is unknown."
            )
        array = np.asarray(values[name])
        if array.shape[1:] != target.example_shape:
            raise DataError(
                f"The target {name!r} of {what} has examples of the shape {array.shape[1:]}, but "
                f"is declared as {target.example_shape}: correct the data or the declaration."
            )
        if array.dtype.kind not in "biuf":
            raise DataError(
                f"The target {name!r} of {what} has dtype {array.dtype}: give numbers, such as a "
                "number for each class."
            )
        known = _KNOWN.get(target.kind, _finite)(array, target)
        if name in masks:
            mask = np.asarray(masks[name])
            if mask.dtype != bool or mask.shape != array.shape[: mask.ndim]:
                raise DataError(
                    f"The mask of the target {name!r} of {what} has dtype {mask.dtype} and shape "
                    f"{mask.shape}: give one bool for each example, or for each of its values."
                )
            known = known & mask.reshape(mask.shape + (1,) * (known.ndim - mask.ndim))
        _check_range(name, target, array, known, batch.ids, what)
        values[name] = np.where(known, array, 0).astype(target.dtype)
        masks[name] = known
    return dataclasses.replace(batch, targets=values, target_masks=masks)


def _finite(array: np.ndarray, target: Target) -> np.ndarray:
    return ~np.isnan(array) if array.dtype.kind == "f" else np.ones(array.shape, bool)


def _not_negative(array: np.ndarray, target: Target) -> np.ndarray:
    return _finite(array, target) & (array != -1 if array.dtype.kind in "if" else True)


def _not_padding(array: np.ndarray, target: Target) -> np.ndarray:
    return _finite(array, target) & (array != 0)


# Kind of target -> which of its values are known, of the shape of the values.
_KNOWN = {
    "class": _not_negative,
    "labels": _not_negative,
    "number": _finite,
    "tokens": _not_padding,
}


def _check_range(
    name: str, target: Target, array: np.ndarray, known: np.ndarray, ids: np.ndarray, what: str
) -> None:
    """Checks that the known values of a target are in its range."""
    if target.kind in ("class", "tokens"):
        noun = "class" if target.kind == "class" else "token"
        wrong = known & ((array < 0) | (array >= target.classes))
        if array.dtype.kind == "f":
            wrong |= known & (array != np.floor(array))
        reason = (
            f"but its {target.classes} {noun}{'es' if noun == 'class' else 's'} are numbered from "
            f"0 to {target.classes - 1}: use these numbers"
        )
        if noun == "class":
            reason += ", and -1 where the class is unknown"
    elif target.kind == "labels":
        wrong = known & ((array < 0) | (array > 1))
        reason = "but a label is from 0 to 1: give 0 or 1, and -1 or NaN where it is unknown"
    elif array.dtype.kind == "f":
        wrong = known & np.isinf(array)
        reason = "which is infinite: give a finite number, and NaN where it is unknown"
    else:
        return
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0])
        raise DataError(
            f"The target {name!r} of {what} is {array[place]:g} in record {ids[place[0]]}, "
            f"{reason}."
        )


def narrowed(what: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    """The array in another dtype; DataError if a value does not fit, which a plain cast would hide.

    Args:
        what: the array's name, for messages.
        array: numbers of any shape.
        dtype: of the result, such as `np.int32` for 64-bit integers.
    """
    dtype = np.dtype(dtype)
    if dtype.kind in "iu" and array.dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        extreme = next(
            (v for v in (int(array.min()), int(array.max())) if not _in(v, limits)), None
        )
        if extreme is not None:
            raise DataError(
                f"{what} has the value {extreme}, but {dtype} reaches from {limits.min} to "
                f"{limits.max}: give smaller numbers, such as indices from 0."
            )
    with np.errstate(over="ignore"):
        result = array.astype(dtype, copy=False)
    if dtype.kind == "f" and array.dtype.kind in "iuf" and array.dtype.itemsize > dtype.itemsize:
        lost = np.isinf(result) & np.isfinite(array)
        if lost.any():
            raise DataError(
                f"{what} has the value {array[lost][0]:g}, but {dtype} reaches to "
                f"{np.finfo(dtype).max:.3g}: scale the values, or take their logarithm."
            )
    return result


def _in(value: int, limits: Any) -> bool:
    return limits.min <= value <= limits.max
