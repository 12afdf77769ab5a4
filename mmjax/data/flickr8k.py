"""`flickr8k`: photographs with five captions each.

Reference:
    Hodosh, Young and Hockenmaier, "Framing image description as a ranking task: data, models and
    evaluation metrics", Journal of Artificial Intelligence Research 47, 2013.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmjax.data.dataset import About, Dataset, Modality, Target
from mmjax.data.files import read_bytes, require
from mmjax.data.pictures_with_texts import PicturesWithTexts, ids_of_bytes
from mmjax.data.preprocessing import Pictures, Texts
from mmjax.errors import ConfigError, DataError

_IMAGES, _CAPTIONS = "flickr8k/images/", "flickr8k/Flickr8k.token.txt"
_SPLITS = {"train": "train", "valid": "dev", "test": "test"}
_COUNTS = {"train": 6_000, "valid": 1_000, "test": 1_000}
_EACH = 5  # captions of a picture
_BYTES = 200  # the longest caption has 199


@dataclasses.dataclass(frozen=True)
class Flickr8k(Dataset):
    """8,000 photographs, each with five captions by different people: 40,000 pairs.

    Record i of a split is picture i // 5 with its caption i % 5. `image` [height, width, 3] uint8;
    `text` [L] ids, 0 for padding. The target `picture` numbers the pictures of all splits, so that
    `Retrieval(views, target="", group="picture")` takes each picture once and accepts any of its
    captions, as the paper does; it is nothing to learn.

    Splits: the authors', 6,000, 1,000 and 1,000 pictures. Two training pictures are the same.

    Attributes:
        pictures: resizes and crops the pictures, as `mmjax.pretrained.load(folder).preprocessing`
            does for published weights; None: to `side`.
        texts: makes ids of the captions, such as that of published weights; a caption that is too
            long is cut. None: the bytes of the caption, plus 1, so 257 ids; 200 of them.
        side: height and width of the pictures, in pixels, without `pictures`.
        longest: most ids of a caption, with `texts`; 40 are more than any caption has words.
    """

    pictures: Pictures | None = None
    texts: Texts | None = None
    side: int = 128
    longest: int = 40

    name: ClassVar[str] = "flickr8k"
    about: ClassVar[About] = About(
        title="Photographs with five captions each",
        citation="Hodosh, Young and Hockenmaier, Framing image description as a ranking task, "
        "Journal of Artificial Intelligence Research, 2013",
        licence="research use only; not to be redistributed",
        homepage="https://hockenmaier.cs.illinois.edu/Framing_Image_Description/KCCA.html",
        files={
            _CAPTIONS: "1e1f3a371ba1a1bf742e6930521c037e046b2bf3fcc2390ba8405e0301ed7689",
            "flickr8k/Flickr_8k.trainImages.txt": (
                "e330ddd5156a4c2d2e2b67bc587e70e588f2d132bd8a10dc54dcb71e58115d8e"
            ),
            "flickr8k/Flickr_8k.devImages.txt": (
                "18ba829f47f6df1cb830bf7f0506e2ddf333818925299babbd1bbcaf50fdc504"
            ),
            "flickr8k/Flickr_8k.testImages.txt": (
                "c0924146c131458ceba45da59670fe9520eadce1e5cafffa16a817672a9b1f17"
            ),
            _IMAGES: "14f075618c2c6cf8b52dda49b77800be0e1580b26c637a94b7bb6a4fd3508a3f",
        },
    )

    def __post_init__(self) -> None:
        if not 1 <= self.side <= 4_096 or self.longest < 1:
            raise ConfigError(
                f"flickr8k: side is {self.side} and longest {self.longest}; choose a side from 1 "
                "to 4096 pixels, and 1 id or more."
            )

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        size = self._pictures.size
        text = Modality("text", (_BYTES,), vocabulary=257)
        if self.texts:
            length = min(self.longest, self.texts.longest)
            text = Modality("text", (length,), vocabulary=self.texts.vocabulary)
        return {"image": Modality("image", (*size, 3), "uint8"), "text": text}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {"picture": Target("class", sum(_COUNTS.values()))}

    @property
    def _pictures(self) -> Pictures:
        size = (self.side, self.side)
        return self.pictures or Pictures(size=size, resize=size, mean=(0.0,), std=(1.0,))

    def load(self, split: str, folder: Path | None) -> PicturesWithTexts:
        """Opens a split; see `Dataset.load`."""
        self.check_split(split)
        listed = require(folder, f"flickr8k/Flickr_8k.{_SPLITS[split]}Images.txt", self.about)
        names = read_bytes(listed).decode("utf-8", "replace").split()
        if len(names) != _COUNTS[split] or len(set(names)) != len(names):
            raise DataError(
                f"{listed} lists {len(set(names))} different pictures, but the split has "
                f"{_COUNTS[split]}: download it again."
            )
        captions = _captions(require(folder, _CAPTIONS, self.about), names)
        images = require(folder, _IMAGES, self.about)
        for name in names:
            if Path(name).name != name or not (images / name).is_file():
                raise DataError(
                    f"{images} does not have the picture {name!r} of the split {split!r}: copy the "
                    "pictures again."
                )
        before = sum(_COUNTS[other] for other in self.splits[: self.splits.index(split)])
        rows = np.repeat(np.arange(len(names)), _EACH)
        return PicturesWithTexts(
            [images / name for name in names],
            rows,
            self._pictures,
            {"text": self._ids(captions)},
            {"picture": (rows + before).astype(np.int32)},
        )

    def _ids(self, captions: list[str]) -> np.ndarray:
        """[N, L] int32 ids of the captions."""
        (length,) = self.modalities["text"].shape
        if self.texts:
            return self.texts(captions, truncate=True, length=length)
        return ids_of_bytes(captions, length)


def _captions(file: Path, names: list[str]) -> list[str]:
    """The five captions of each picture, in the order of the names."""
    found: dict[str, str] = {}
    for number, line in enumerate(read_bytes(file).decode("utf-8", "replace").splitlines(), 1):
        key, tab, caption = line.partition("\t")
        if not tab:
            raise DataError(f"Line {number} of {file} has no tab: download it again.")
        found[key] = caption.strip()
    keys = [f"{name}#{index}" for name in names for index in range(_EACH)]
    missing = [key for key in keys if key not in found]
    if missing:
        raise DataError(f"{file} has no caption {missing[0]}: download it again.")
    return [found[key] for key in keys]
