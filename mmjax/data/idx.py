"""The idx format of MNIST: a four-byte magic number, the sizes, then the elements, big-endian.

Reference:
    LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section on file formats.
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from mmjax.data.files import read_bytes
from mmjax.errors import DataError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_DIMS = 8  # MNIST has 3
_GET_AGAIN = "download the original file again"


def read_idx(path: Path) -> np.ndarray:
    """Reads an idx file, compressed with gzip if its name ends in `.gz`.

    Args:
        path: the file.

    Returns:
        The array, with the shape and dtype in the file's header, in native byte order.

    Raises:
        DataError: the file is missing, damaged or not in this format.
    """
    data = read_bytes(path)
    if path.suffix == ".gz":
        data = _decompress(path, data)
    if len(data) < 4:
        raise DataError(f"{path} ends after {len(data)} bytes, inside its header: {_GET_AGAIN}.")
    if data[:2] != b"\0\0":
        raise DataError(
            f"{path} is not an idx file (its magic number is 0x{data[:4].hex()}, not 0x0000....): "
            f"{_GET_AGAIN}."
        )
    kind, dims = data[2], data[3]
    if kind not in _TYPES:
        known = ", ".join(f"0x{number:02x}" for number in _TYPES)
        raise DataError(
            f"{path} has elements of the unknown idx type 0x{kind:02x} (known: {known}): "
            f"{_GET_AGAIN}."
        )
    if dims > _MOST_DIMS:
        raise DataError(
            f"{path} has {dims} dimensions in its header, more than the {_MOST_DIMS} that an idx "
            f"file is read with: {_GET_AGAIN}."
        )
    header = 4 + 4 * dims
    if len(data) < header:
        raise DataError(f"{path} ends after {len(data)} bytes, inside its header: {_GET_AGAIN}.")
    shape = tuple(np.frombuffer(data, ">u4", dims, 4).tolist())
    dtype = np.dtype(_TYPES[kind])
    expected = header + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        problem = "is cut short" if len(data) < expected else "has bytes after its end"
        raise DataError(
            f"{path} {problem} ({len(data):,} bytes, but {expected:,} for the shape {shape} in its "
            f"header): {_GET_AGAIN}."
        )
    return np.frombuffer(data, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))


def _decompress(path: Path, data: bytes) -> bytes:
    if data[:2] != b"\x1f\x8b":
        raise DataError(f"{path} is not a gzip file, although it ends in .gz: {_GET_AGAIN}.")
    try:
        return gzip.decompress(data)
    except EOFError as error:
        raise DataError(
            f"{path} is cut short (its gzip stream has no end): {_GET_AGAIN}."
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged (gzip: {error!s}): {_GET_AGAIN}.") from error
