import gzip
import struct

import numpy as np
import pytest

from mmjax.data import MNISTHalves
from mmjax.data.mnist import load_mnist
from mmjax.errors import DataError

ABOUT = MNISTHalves.about


def write_part(folder, images, labels):
    (folder / "mnist").mkdir()
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        path = folder / "mnist" / f"t10k-{name}-ubyte.gz"
        path.write_bytes(gzip.compress(header + array.tobytes(), 1))


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        ((9, 28, 28), np.zeros(8, np.uint8), "has 9 images, but .*labels.* has 8 labels"),
        ((9, 28, 27), np.zeros(9, np.uint8), "not uint8 images of 28x28"),
        ((9, 784), np.zeros(9, np.uint8), "not uint8 images of 28x28"),
        ((9, 28, 28), np.full(9, 10, np.uint8), "not a list of labels from 0 to 9"),
        ((9, 28, 28), np.zeros((9, 1), np.uint8), "not a list of labels from 0 to 9"),
        ((9, 28, 28), np.zeros(9, np.uint8), "has 9 images, but MNIST has 10,000"),
    ],
)
def test_refuses_what_is_not_mnist(tmp_path, images, labels, sentence):
    write_part(tmp_path, np.zeros(images, np.uint8), labels)
    with pytest.raises(DataError, match=sentence):
        load_mnist("t10k", tmp_path, ABOUT)


def test_says_which_file_is_missing_and_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"does not have mnist/train-images.*cvdfoundation/mnist"):
        load_mnist("train", tmp_path, ABOUT)


def test_says_how_to_name_the_folder():
    with pytest.raises(DataError, match=r"set MMJAX_DATA or --data-dir .* mnist/train-images"):
        load_mnist("train", None, ABOUT)


def test_reads_the_real_files(data_folder):
    images, labels = load_mnist("t10k", data_folder, ABOUT)
    assert images.shape == (10_000, 28, 28)
    assert images.dtype == np.uint8
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]  # as printed in every tutorial
