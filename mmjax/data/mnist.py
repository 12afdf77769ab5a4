"""Loads and checks the arrays of MNIST, for all data sets that are made from it."""

from pathlib import Path
from typing import Literal

import numpy as np

from mmjax.data.dataset import About
from mmjax.data.files import require
from mmjax.data.idx import read_idx
from mmjax.errors import DataError

Part = Literal["train", "t10k"]
SIDE = 28

CITATION = (
    "LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition, "
    "Proceedings of the IEEE, 1998"
)
HOMEPAGE = "https://github.com/cvdfoundation/mnist (mirror of yann.lecun.com/exdb/mnist)"
SHA256 = {
    "mnist/train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "mnist/train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "mnist/t10k-images-idx3-ubyte.gz": (
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
    ),
    "mnist/t10k-labels-idx1-ubyte.gz": (
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
    ),
}
_SIZES = {"train": 60_000, "t10k": 10_000}


def load_mnist(part: Part, folder: Path | None, about: About) -> tuple[np.ndarray, np.ndarray]:
    """Reads one of the two official parts.

    Args:
        part: `train` (60,000 images) or `t10k` (10,000).
        folder: the folder of raw data that holds `mnist/`; None if none was given.
        about: the entry of the data set that uses MNIST.

    Returns:
        images [N, 28, 28] uint8 and labels [N] int32 from 0 to 9.

    Raises:
        DataError: a file is missing, damaged, or not that part of MNIST.
    """
    images_path = require(folder, f"mnist/{part}-images-idx3-ubyte.gz", about)
    labels_path = require(folder, f"mnist/{part}-labels-idx1-ubyte.gz", about)
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.shape[1:] != (SIDE, SIDE) or images.dtype != np.uint8:
        raise DataError(
            f"{images_path} has {images.dtype} values of shape {images.shape}, not uint8 images of "
            f"{SIDE}x{SIDE}: download the original file again."
        )
    if labels.ndim != 1 or not np.all((labels >= 0) & (labels <= 9)):
        raise DataError(
            f"{labels_path} has an array of shape {labels.shape} that is not a list of labels from "
            "0 to 9: download the original file again."
        )
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} has {len(images):,} images, but {labels_path.name} has "
            f"{len(labels):,} labels: download both original files again."
        )
    if len(images) != _SIZES[part]:
        raise DataError(
            f"{images_path} has {len(images):,} images, but MNIST has {_SIZES[part]:,}: download "
            "the original file again."
        )
    return images, labels.astype(np.int32)
