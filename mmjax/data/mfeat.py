"""`mfeat`: handwritten digits in six views, the Multiple Features of UCI.

Reference:
    Van Breukelen, Duin, Tax and den Hartog, "Handwritten digit recognition by combined
    classifiers", Kybernetika, 1998.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmjax.data.dataset import About, ArraySource, Dataset, Modality, Target
from mmjax.data.files import require
from mmjax.data.npz import read_npz
from mmjax.errors import ConfigError, DataError, unknown_name

_FILE = "mfeat/mfeat.npz"
_CLASSES, _PER_CLASS = 10, 200
_WIDTHS = {"pix": 240, "fou": 76, "fac": 216, "zer": 47, "kar": 64, "mor": 6}
_PER_CLASS_SIZES = {"train": 120, "valid": 30, "test": 50}


@dataclasses.dataclass(frozen=True)
class Mfeat(Dataset):
    """2,000 digits from Dutch maps, 200 of each class, in up to six views of the same scan.

    Views: `pix` 240 averages of 2x3 pixels (15x16 of them), `fou` 76 Fourier coefficients of the
    outline, `fac` 216 profile correlations, `zer` 47 Zernike moments, `kar` 64 Karhunen-Loève
    coefficients, `mor` 6 morphological features. `fou`, `zer` and `mor` are nearly invariant to
    rotation, so they cannot distinguish 6 from 9.

    Splits: there is no official split. Here train 1,200, valid 300, test 500, with balanced
    classes, drawn by `seed`, in random order.

    The file holds one array for each view, [2000, width], and `y` [2000], the digits. It is made
    from the six text files of the original, mfeat-pix and so on, whose rows are the digits 0 to 9
    in this order, 200 each: `np.savez("mfeat.npz", y=np.repeat(np.arange(10), 200),
    pix=np.loadtxt("mfeat-pix"), ...)`. A file made in this way has another SHA-256.

    Attributes:
        views: names of the views, in this order; empty for all six.
        seed: chooses the splits; 0 or more.
        standardise: whether all splits are standardised by mean and standard deviation over train.
            Else the values are as in the file, up to 17,572.
    """

    views: tuple[str, ...] = ()
    seed: int = 0
    standardise: bool = True

    name: ClassVar[str] = "mfeat"
    about: ClassVar[About] = About(
        title="Multiple Features: handwritten digits in six views",
        citation="Duin, Multiple Features, UCI Machine Learning Repository, 1998; van Breukelen, "
        "Duin, Tax and den Hartog, Kybernetika, 1998",
        licence="CC BY 4.0",
        homepage="https://archive.ics.uci.edu/dataset/72/multiple+features (six text files; the "
        "docstring of mmjax.data.Mfeat says how to make the .npz from them)",
        files={_FILE: "e68b2536a1f5b192b163ed2f9f1b8c4b1b48d528689256c514b574524d9ea1c8"},
    )

    def __post_init__(self) -> None:
        for view in self.views:
            if view not in _WIDTHS:
                raise unknown_name("view of mfeat", view, _WIDTHS)
        if len(set(self.views)) < len(self.views):
            raise ConfigError(
                f"mfeat: views ({', '.join(self.views)}) has a view twice; name each once."
            )
        if self.seed < 0:
            raise ConfigError(f"mfeat: seed is {self.seed}; choose 0 or more.")

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        return {view: Modality("vector", (_WIDTHS[view],)) for view in self.views or _WIDTHS}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {"label": Target("class", _CLASSES)}

    def load(self, split: str, folder: Path | None) -> ArraySource:
        """Opens a split; see `Dataset.load`."""
        self.check_split(split)
        path = require(folder, _FILE, self.about)
        size = _CLASSES * _PER_CLASS
        widths = {view: modality.shape[0] for view, modality in self.modalities.items()}
        arrays = read_npz(path, {"y": (size,)} | {v: (size, w) for v, w in widths.items()})
        labels = arrays.pop("y")
        if not np.array_equal(np.sort(labels), np.repeat(np.arange(_CLASSES), _PER_CLASS)):
            raise DataError(
                f"The array y of {path} does not have each digit from 0 to 9 {_PER_CLASS} times: "
                "make or download the file again."
            )
        labels = labels.astype(np.int32)
        rows = self._rows(labels)
        inputs = {}
        for view, values in arrays.items():
            values = values.astype(np.float64)
            if self.standardise:
                train = values[rows["train"]]
                deviation = train.std(axis=0)
                values = (values - train.mean(axis=0)) / np.where(deviation == 0, 1, deviation)
            inputs[view] = values[rows[split]].astype(np.float32)
        return ArraySource(inputs=inputs, targets={"label": labels[rows[split]]})

    def _rows(self, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Split -> rows of the file, for labels [2000]."""
        rng = np.random.default_rng(self.seed)
        by_class = np.stack(
            [rng.permutation(np.flatnonzero(labels == digit)) for digit in range(_CLASSES)]
        )
        rows, start = {}, 0
        for split, count in _PER_CLASS_SIZES.items():
            rows[split] = rng.permutation(by_class[:, start : start + count].reshape(-1))
            start += count
        return rows
