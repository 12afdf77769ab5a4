"""The catalogue: all data sets, the location of their files, and their verification."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np

from mmjax.data.arrays import Arrays
from mmjax.data.dataset import ArraySource, Dataset, Target
from mmjax.data.digits_halves import DigitsHalves
from mmjax.data.easy_vqa import EasyVQA
from mmjax.data.esc10 import Esc10
from mmjax.data.files import FOLDER_VARIABLE, require, sha256
from mmjax.data.flickr8k import Flickr8k
from mmjax.data.fsdd_audio import FsddAudio
from mmjax.data.gmu_synthetic import GMUSynthetic
from mmjax.data.mfeat import Mfeat
from mmjax.data.mnist_halves import MNISTHalves
from mmjax.data.mosi_utterance import MOSIUtterance
from mmjax.data.noisy_mnist import NoisyMNIST
from mmjax.data.shapes import Shapes
from mmjax.data.spoken_digits import SpokenDigits
from mmjax.data.wikipedia import Wikipedia
from mmjax.errors import DataError, unknown_name

_CLASSES: tuple[type[Dataset], ...] = (
    DigitsHalves,
    Shapes,
    MNISTHalves,
    NoisyMNIST,
    SpokenDigits,
    Wikipedia,
    Mfeat,
    MOSIUtterance,
    FsddAudio,
    Esc10,
    Flickr8k,
    EasyVQA,
    GMUSynthetic,
)
DATASETS: Mapping[str, type[Dataset]] = MappingProxyType({cls.name: cls for cls in _CLASSES})

_HASHED_EXAMPLES = 64  # of every split of a data set without files that is not in memory
_HASHED_AT_ONCE = 1024


def find(name: str) -> type[Dataset]:
    """The class of a data set.

    Raises:
        ConfigError: the name is not in the catalogue; the message has the closest one.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]


def resolve_folder(option: str | None) -> Path | None:
    """The folder of raw data: `option`, else the environment's MMJAX_DATA, else None.

    Raises:
        DataError: the folder does not exist.
    """
    given = option or os.environ.get(FOLDER_VARIABLE)
    if not given:
        return None
    folder = Path(os.path.expanduser(given))  # does not fail for an unknown ~user
    if not folder.is_dir():
        origin = "--data-dir" if option else FOLDER_VARIABLE
        raise DataError(
            f"The data folder {folder} (from {origin}) does not exist or is not a folder: set "
            f"{origin} to the folder that holds the data."
        )
    return folder


def describe(dataset: Dataset) -> str:
    """The description of a data set as plain text, for `mmjax data info`."""
    about = dataset.about
    lines = [f"{dataset.name}: {about.title}", "", f"splits    {', '.join(dataset.splits)}"]
    for name, modality in dataset.modalities.items():
        extra = f", {modality.sample_rate} Hz" if modality.sample_rate else ""
        extra += f", {modality.vocabulary} word ids" if modality.vocabulary else ""
        shape = "x".join(map(str, modality.shape)) or f"of {', '.join(modality.parts)}"
        lines.append(f"modality  {name}: {modality.kind} {shape}{extra}")
    for name, target in dataset.targets.items():
        lines.append(f"target    {name}: {describe_target(target)}")
    lines += [f"citation  {about.citation}", f"licence   {about.licence}"]
    if about.files:
        lines += [f"original  {about.homepage}"]
        lines += [f"file      {name}  SHA-256 {value}" for name, value in about.files.items()]
    else:
        lines += ["file      none needed: the data is built in"]
    return "\n".join(lines)


def describe_target(target: Target) -> str:
    """A target in a few words."""
    shape = "x".join(map(str, target.shape))
    words = {
        "class": f"{target.classes} classes",
        "labels": f"any of {target.classes} labels",
        "number": f"numbers {shape}" if shape else "a number",
        "tokens": f"up to {shape} tokens of {target.classes}",
    }
    return words.get(target.kind, target.kind)


def verify(dataset: Dataset | type[Dataset], folder: Path | None) -> dict[str, str]:
    """Compares the files of a data set with their published SHA-256.

    Args:
        dataset: the data set.
        folder: the folder of raw data; None if none was given.

    Returns:
        Every name in `about.files` -> `ok`, or a sentence with the problem and the fix. Empty for
        a built-in data set.
    """
    status = {}
    for name, expected in dataset.about.files.items():
        try:
            found = sha256(require(folder, name, dataset.about))
        except DataError as error:
            status[name] = str(error)
            continue
        status[name] = "ok"
        if found != expected:
            status[name] = (
                f"{name} is not the published file: its SHA-256 is {found}, not {expected}; "
                f"download it again from {dataset.about.homepage}."
            )
    return status


def fingerprint(dataset: Dataset, folder: Path | None) -> dict[str, str]:
    """Hashes of the data of a run, to be stored with its results.

    Args:
        dataset: the data set.
        folder: the folder of raw data; None if none was given.

    Returns:
        Every name in `about.files` -> SHA-256 of the file that was found. For a data set without
        files: `name/split` -> SHA-256 over its size and its examples, of which a source that is not
        an `ArraySource` gives 64, spread over the split.

    Raises:
        DataError: a file is missing.
    """
    about = dataset.about
    if isinstance(dataset, Arrays):
        return {f"{dataset.name}/arrays": dataset.sha256}
    if about.files:
        return {name: sha256(require(folder, name, about)) for name in about.files}
    return {f"{dataset.name}/{split}": _content(dataset, split, folder) for split in dataset.splits}


def _content(dataset: Dataset, split: str, folder: Path | None) -> str:
    source = dataset.load(split, folder)
    count = len(source)
    digest = hashlib.sha256(str(count).encode())
    chosen = np.arange(count)
    if not isinstance(source, ArraySource):  # whose examples may take time to make
        chosen = np.unique(np.linspace(0, count - 1, _HASHED_EXAMPLES).astype(int))
    for start in range(0, len(chosen), _HASHED_AT_ONCE):
        batch = source.take(chosen[start : start + _HASHED_AT_ONCE])
        for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
            digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
            digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
