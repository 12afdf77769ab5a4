"""`digits_halves`: the left and right halves of the real 8x8 digits that scikit-learn ships.

Reference:
    Andrew, Arora, Bilmes and Livescu, "Deep canonical correlation analysis", ICML 2013, section
    5.1: the two halves of a handwritten digit as two views (there of MNIST).
"""

import dataclasses
import functools
import importlib.util
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmjax.data.dataset import About, ArraySource, Dataset, Modality, Target

_SIZES = {"train": 1_197, "valid": 200, "test": 400}
_SPLIT_SEED = 0  # of the permutation that makes the splits, the same for all users
_FILE = "datasets/data/digits.csv.gz"  # inside scikit-learn: a row of 64 pixels and the digit


@functools.cache
def _digits() -> np.ndarray:
    """[1797, 65]: pixels from 0 to 16, and the digit.

    Read without `sklearn.datasets.load_digits`, as the import of scikit-learn takes most of a
    second in every process of a study.
    """
    package = importlib.util.find_spec("sklearn")
    file = Path(package.origin).parent / _FILE if package and package.origin else Path(_FILE)
    if file.is_file():
        return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits  # of another version, which keeps it elsewhere

    return np.column_stack(load_digits(return_X_y=True))


@dataclasses.dataclass(frozen=True)
class DigitsHalves(Dataset):
    """1,797 handwritten digits of 8x8 pixels in [0, 1]: columns 0-3 and columns 4-7.

    Built in: nothing has to be downloaded. Splits: train 1,197, valid 200, test 400.
    """

    name: ClassVar[str] = "digits_halves"
    about: ClassVar[About] = About(
        title="Left and right halves of scikit-learn's 8x8 handwritten digits",
        citation="Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine "
        "Learning Repository, 1998; the copy in scikit-learn",
        licence="CC BY 4.0",
    )

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        return {"left": Modality("vector", (32,)), "right": Modality("vector", (32,))}

    @property
    def layouts(self) -> dict[str, tuple[int, int]]:
        """Modality -> height and width of its image, for previews."""
        return {"left": (8, 4), "right": (8, 4)}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {"label": Target("class", 10)}

    def load(self, split: str, folder: Path | None = None) -> ArraySource:
        """Opens a split; `folder` is not used. See `Dataset.load`."""
        self.check_split(split)
        digits = _digits()
        order = np.random.default_rng(_SPLIT_SEED).permutation(len(digits))
        end = np.cumsum(list(_SIZES.values()))[list(_SIZES).index(split)]
        rows = digits[order[end - _SIZES[split] : end]]
        images = rows[:, :64].reshape(-1, 8, 8).astype(np.float32) / 16
        return ArraySource(
            inputs={
                "left": images[:, :, :4].reshape(len(rows), 32),
                "right": images[:, :, 4:].reshape(len(rows), 32),
            },
            targets={"label": rows[:, 64].astype(np.int32)},
        )
