import gzip
import struct

import numpy as np
import pytest

from mmjax.data.idx import read_idx
from mmjax.errors import DataError


def encode(array: np.ndarray, kind: int) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
GOOD = encode(PIXELS, 0x08)


def zipped(data):
    """Without the time of day, which would make the tests' names differ from run to run."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("u1", 0x08), ("i1", 0x09), ("i2", 0x0B), ("i4", 0x0C), ("f4", 0x0D), ("f8", 0x0E)],
)
@pytest.mark.parametrize("suffix", [".gz", ""])
def test_reads_every_type_compressed_or_not(tmp_path, dtype, kind, suffix):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    path = tmp_path / f"x-idx{suffix}"
    data = encode(array, kind)
    path.write_bytes(zipped(data) if suffix else data)
    read = read_idx(path)
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (GOOD, "is not a gzip file"),
        (b"", "is not a gzip file"),
        (zipped(GOOD)[:-12], "is cut short .its gzip stream has no end"),
        (zipped(GOOD)[:-8] + b"\0" * 8, "is damaged .gzip"),
        (zipped(GOOD)[:12] + b"\xff\xff" + zipped(GOOD)[14:], "is damaged"),
        (zipped(b"\0\0"), "ends after 2 bytes, inside its header"),
        (zipped(GOOD[:10]), "ends after 10 bytes, inside its header"),
        (zipped(GOOD[:-1]), "is cut short .39 bytes, but 40"),
        (zipped(GOOD + b"!"), "has bytes after its end .41 bytes"),
        (zipped(b"\x01" + GOOD[1:]), "magic number is 0x01000803"),
        (zipped(b"\0\0\x0a" + GOOD[3:]), "unknown idx type 0x0a"),
        (zipped(b"\0\0\x08\xc8" + b"\0\0\0\x01" * 200 + b"!"), "has 200 dimensions in its header"),
        (zipped(b"\0\0\x08\x03" + b"\xff" * 12), "is cut short .16 bytes, but 79,228,162,"),
    ],
)
def test_names_a_damaged_file_and_what_is_wrong_with_it(tmp_path, content, sentence):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"The file .*absent\.gz does not exist"):
        read_idx(tmp_path / "absent.gz")


def test_names_a_folder_in_the_place_of_a_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)
