"""The .npz format of NumPy: named arrays in a zip archive, read without pickle."""

import io
import math
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.lib.npyio import NpzFile

from mmjax.data.files import read_bytes
from mmjax.errors import DataError

_GET_AGAIN = "make or download the file again"


def read_npz(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    gaps: Collection[str] = (),
    texts: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Reads arrays of finite numbers from an .npz file; other arrays in it are ignored.

    Args:
        path: the file.
        shapes: name -> required shape, for every array to read.
        gaps: names of arrays that may hold NaN, for unknown values.
        texts: names of arrays of strings instead of numbers.

    Returns:
        Name -> array, with the dtype of the file.

    Raises:
        DataError: the file is missing or damaged, or an array is missing, pickled, of another
            shape, or not of finite numbers (or strings).
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
    """All arrays of an .npz file, of any shape, finite or not, read without pickle.

    Raises:
        DataError: the file is missing or damaged, or an array holds Python objects.
    """
    data = read_bytes(path)
    names = _names(path, data)
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return {name: _plain(path, archive, name) for name in names}


def _names(path: Path, data: bytes) -> list[str]:
    """The names of the arrays; verifies all checksums of the archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            damaged = archive.testzip()
            members = archive.namelist()
    # The errors of zipfile for archives that are cut, changed, encrypted or of an unknown kind.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{path} is damaged or not an .npz archive ({error}): {_GET_AGAIN}."
        ) from error
    if damaged:
        raise DataError(f"{path} is damaged (the checksum of {damaged} is wrong): {_GET_AGAIN}.")
    return [member.removesuffix(".npy") for member in members if member.endswith(".npy")]


def _plain(path: Path, archive: NpzFile, name: str) -> np.ndarray:
    """An array of numbers or strings."""
    try:
        _check_size(path, archive, name)
        array = archive[name]
    except ValueError as error:  # from NumPy, for pickled objects and files that are not arrays
        raise DataError(
            f"The array {name} of {path} cannot be read, because it is not an array of plain "
            "numbers or strings: save it as such, since pickled objects are never read."
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{name} of {path} is not an array of numbers: {_GET_AGAIN}.")
    return array


def _check_size(path: Path, archive: NpzFile, name: str) -> None:
    """Refuses an array that claims another size than it has, before memory for it is asked for."""
    members = archive.zip
    assert members is not None  # only a closed archive has none
    with members.open(f"{name}.npy") as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError("version 3 is for columns with names")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        there = members.getinfo(f"{name}.npy").file_size - file.tell()
    claimed = math.prod(shape) * dtype.itemsize
    if claimed != there and not dtype.hasobject:
        raise DataError(
            f"The array {name} of {path} is damaged (its header claims {claimed:,} bytes for the "
            f"shape {shape}, but {there:,} are there): {_GET_AGAIN}."
        )


def _array(
    path: Path,
    archive: NpzFile,
    name: str,
    shape: tuple[int, ...],
    gaps: bool,
    text: bool,
) -> np.ndarray:
    array = _plain(path, archive, name)
    if array.dtype.kind not in ("U" if text else "iuf"):
        what = "strings" if text else "numbers"
        raise DataError(f"{name} of {path} is not an array of {what}: {_GET_AGAIN}.")
    if array.shape != shape:
        raise DataError(
            f"The array {name} of {path} has the shape {array.shape}, but must have {shape}: "
            f"{_GET_AGAIN}."
        )
    if not text and not (np.isfinite(array) | (gaps & np.isnan(array))).all():
        raise DataError(
            f"The array {name} of {path} has values that are not finite (NaN or infinite): "
            f"{_GET_AGAIN}."
        )
    return array
