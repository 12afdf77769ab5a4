"""The .npz format of NumPy: named arrays in a zip archive, read without pickle."""

import io
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from mmjax.data.files import read_bytes
from mmjax.errors import DataError

_GET_AGAIN = "get the file again"


def read_npz(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    gaps: Collection[str] = (),
    texts: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Reads arrays of finite numbers from an .npz file; other arrays in it are not looked at.

    Args:
        path: the file.
        shapes: name of every array that is wanted -> the shape that it has to have.
        gaps: names of those that may hold NaN, for what is not known.
        texts: names of those that hold texts in place of numbers.

    Returns:
        Name -> array, in the type of the file.

    Raises:
        DataError: for a file that is missing or damaged, or an array that is missing, pickled, of
            another shape, or not of finite numbers (or texts).
    """
    data = read_bytes(path)
    names = _names(path, data)
    missing = [name for name in shapes if name not in names]
    if missing:
        raise DataError(
            f"{path} has no array {', '.join(missing)} (it has {', '.join(names) or 'none'}): "
            f"{_GET_AGAIN}."
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {
            name: _array(path, archive, name, shape, name in gaps, name in texts)
            for name, shape in shapes.items()
        }


def read_all(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file, of any shape and finite or not, read without pickle.

    Raises:
        DataError: for a file that is missing or damaged, or an array of Python objects.
    """
    data = read_bytes(path)
    names = _names(path, data)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: _plain(path, archive, name) for name in names}


def _names(path: Path, data: bytes) -> list[str]:
    """The names of the arrays, after all of the archive was compared with its checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()
            members = archive.namelist()
    # What zipfile raises for archives that are cut, changed, encrypted or of an unknown kind.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path} is damaged, or no .npz archive at all ({error}): {_GET_AGAIN}."
        ) from error
    if damaged:
        raise DataError(f"{path} is damaged: the checksum of {damaged} is wrong; {_GET_AGAIN}.")
    return [member.removesuffix(".npy") for member in members if member.endswith(".npy")]


def _plain(path: Path, archive: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """An array of numbers or texts."""
    try:
        array = archive[name]
    except ValueError as error:  # of NumPy, for pickled objects and for what is no array
        raise DataError(
            f"The array {name} of {path} cannot be read, since only plain numbers can, never "
            f"pickled objects: {_GET_AGAIN}."
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{name} of {path} is no array of numbers: {_GET_AGAIN}.")
    return array


def _array(
    path: Path,
    archive: Mapping[str, np.ndarray],
    name: str,
    shape: tuple[int, ...],
    gaps: bool,
    text: bool,
) -> np.ndarray:
    array = _plain(path, archive, name)
    if array.dtype.kind not in ("U" if text else "iuf"):
        what = "texts" if text else "numbers"
        raise DataError(f"{name} of {path} is no array of {what}: {_GET_AGAIN}.")
    if array.shape != shape:
        raise DataError(
            f"The array {name} of {path} has the shape {array.shape} where {shape} is expected: "
            f"{_GET_AGAIN}."
        )
    if not text and not (np.isfinite(array) | (gaps & np.isnan(array))).all():
        raise DataError(
            f"The array {name} of {path} has values that are not finite (NaN or infinite): "
            f"{_GET_AGAIN}."
        )
    return array
