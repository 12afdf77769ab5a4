import io
import struct
import zipfile

import numpy as np
import pytest

from mmjax.data.npz import read_all, read_npz
from mmjax.errors import DataError

SHAPES = {"y": (3,), "x": (3, 2)}
Y, X = np.arange(3, dtype=np.uint8), np.arange(6.0).reshape(3, 2)


def archive(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def alone(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zipped(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, data in members.items():
            made.writestr(f"{name}.npy", data)
    return buffer.getvalue()


GOOD = archive(y=Y, x=X)
CHANGED = GOOD.replace(X.tobytes(), X.tobytes()[::-1])


def test_reads_what_is_asked_for_and_nothing_else(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(archive(y=Y, x=X, more=np.array([object()], object)))
    arrays = read_npz(path, SHAPES)
    assert list(arrays) == ["y", "x"]
    np.testing.assert_array_equal(arrays["y"], Y)
    np.testing.assert_array_equal(arrays["x"], X)
    assert arrays["y"].dtype == np.uint8


def test_reads_compressed_archives(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", y=Y, x=X)
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz", SHAPES)["x"], X)


def test_gaps_and_texts_are_read_where_they_are_asked_for(tmp_path):
    path = tmp_path / "a.npz"
    gaps, words = np.array([1.0, np.nan]), np.array(["a", "bc"])
    path.write_bytes(archive(x=gaps, w=words, bad=np.array([np.nan, np.inf])))
    found = read_npz(path, {"x": (2,), "w": (2,)}, gaps=("x",), texts=("w",))
    np.testing.assert_array_equal(found["x"], gaps)
    assert found["w"].tolist() == ["a", "bc"]
    for wanted, options, sentence in [
        ("x", {}, "not finite"),
        ("bad", {"gaps": ("bad",)}, "not finite"),
        ("w", {}, "not an array of numbers"),
        ("x", {"texts": ("x",)}, "not an array of strings"),
    ]:
        with pytest.raises(DataError, match=sentence):
            read_npz(path, {wanted: (2,)}, **options)


def claiming(shape, descr="<f8"):
    """48 bytes under a header that claims this shape."""
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (63 - (10 + len(head)) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + bytes(48)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (claiming((10**12,)), r"claims 8,000,000,000,000 bytes .*, but 48 are there"),
        (claiming((300, 2)), r"claims 4,800 bytes for the shape \(300, 2\), but 48 are there"),
        (claiming((3,)), "claims 24 bytes"),
        (claiming((10**12,), "<U9"), "claims 36,000,000,000,000 bytes"),
        (claiming((10**12,), "|O"), "pickled objects are never read"),
        (claiming((3, 2)).replace(b"NUMPY\1", b"NUMPY\3"), "not an array of plain"),
    ],
    ids=range(6),
)
def test_a_header_that_claims_another_size_is_refused_before_it_is_believed(
    tmp_path, data, sentence
):
    path = tmp_path / "a.npz"
    path.write_bytes(zipped(y=alone(Y), x=data))
    for read in (lambda: read_npz(path, SHAPES), lambda: read_all(path)):
        with pytest.raises(DataError, match=sentence):
            read()


class Bomb:
    """Unpickling it fails the test, for only a file that pickle wrote does that."""

    def __reduce__(self):
        return (pytest.fail, ("a pickled object was loaded",))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is damaged or not an .npz archive"),
        (b"no archive", "is damaged or not an .npz archive"),
        (alone(X), "is damaged or not an .npz archive"),
        (GOOD[:-30], "is damaged or not an .npz archive"),
        (CHANGED, r"is damaged .the checksum of x.npy is wrong"),
        (archive(y=Y), r"has no array x \(it has y\)"),
        (archive(), r"has no array y, x \(it has none\)"),
        (archive(y=Y, x=np.array([[Bomb()] * 2] * 3)), "array x .* pickled objects are never read"),
        (zipped(y=alone(Y), x=b"\x93NUMPY"), "array x of .* cannot be read"),
        (zipped(y=alone(Y), x=b"text"), "x of .* is not an array"),
        (archive(y=Y, x=X.astype(str)), "x of .* is not an array"),
        (archive(y=Y, x=X.T), r"x of .* has the shape \(2, 3\), but must have \(3, 2\)"),
        (archive(y=Y, x=np.where(X == 4, np.nan, X)), "x of .* has values that are not finite"),
        (archive(y=Y, x=np.where(X == 4, -np.inf, X)), "not finite"),
    ],
)
def test_names_a_damaged_file_and_what_is_wrong_with_it(tmp_path, content, sentence):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=sentence) as caught:
        read_npz(path, SHAPES)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", range(0, len(GOOD), 7))
def test_no_cut_or_changed_byte_gives_another_error(tmp_path, cut):
    path = tmp_path / "a.npz"
    path.write_bytes(GOOD[:cut])
    with pytest.raises(DataError):
        read_npz(path, SHAPES)
    path.write_bytes(GOOD[:cut] + bytes([GOOD[cut] ^ 0xFF]) + GOOD[cut + 1 :])
    try:  # some bytes of an archive, such as its times, say nothing of the arrays
        arrays = read_npz(path, SHAPES)
    except DataError:
        return
    np.testing.assert_array_equal(arrays["x"], X)
    np.testing.assert_array_equal(arrays["y"], Y)


def test_names_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"The file .*absent\.npz does not exist"):
        read_npz(tmp_path / "absent.npz", SHAPES)
