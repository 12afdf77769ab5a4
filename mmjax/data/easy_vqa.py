"""`easy_vqa`: questions about generated pictures of one coloured shape.

Reference:
    Victor Zhou, "Easy Visual Question Answering", 2019, and its data set, easy-VQA.
"""

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmjax.data.dataset import About, Dataset, Modality, Target
from mmjax.data.files import read_bytes, require
from mmjax.data.pictures_with_texts import PicturesWithTexts, ids_of_bytes
from mmjax.data.preprocessing import Pictures, Texts
from mmjax.errors import ConfigError, DataError

_ANSWERS = "easy_vqa/answers.txt"
_COUNTS = {"train": 4_000, "test": 1_000}  # pictures
_VALID = 10  # of the training pictures, the tenth ones are those of `valid`
_BYTES = 64  # the longest question has fewer


@dataclasses.dataclass(frozen=True)
class EasyVQA(Dataset):
    """48,248 questions about 5,000 pictures of 64 x 64 pixels, with 13 answers.

    A record is a question: `image` [height, width, 3] uint8; `question` [L] ids, 0 for padding;
    `label` is the answer, in the order of `answers`. About half of the questions are answered by
    yes or no, so much of an answer follows from the question alone.

    Splits: `test` as published (1,000 pictures); `valid` is every tenth of the 4,000 training
    pictures with all its questions, `train` the others.

    Attributes:
        pictures: resizes and crops the pictures, as `mmjax.pretrained.load(folder).preprocessing`
            does for published weights; None: to `side`.
        texts: makes ids of the questions, such as that of published weights; None: the bytes of the
            question, plus 1, so 257 ids; 64 of them.
        side: height and width of the pictures, in pixels, without `pictures`.
        longest: most ids of a question, with `texts`; 16 are more than any question has words.
    """

    pictures: Pictures | None = None
    texts: Texts | None = None
    side: int = 64
    longest: int = 16

    name: ClassVar[str] = "easy_vqa"
    about: ClassVar[About] = About(
        title="Questions about pictures of one coloured shape",
        citation="Victor Zhou, Easy Visual Question Answering, 2019",
        licence="MIT",
        homepage="https://github.com/vzhou842/easy-VQA",
        files={
            _ANSWERS: "f004fd115e14db5f70a3a4e1b06d89fd76d45d7446a62d12b50ed1ac2a1a824c",
            "easy_vqa/train/questions.json": (
                "bb67697636aed0e65631d4266824aebeae5c833b0f37ed781e20752e85617ec5"
            ),
            "easy_vqa/test/questions.json": (
                "0d4630a51bafec65343e2f6af9cdd20cf8eae214344ef57636202eec409553f7"
            ),
            "easy_vqa/train/images/": (
                "88d3e9bad3586c935a1f61989cd1033d674232841837093f34adc913929dbbcb"
            ),
            "easy_vqa/test/images/": (
                "a2dd49228f952114e647d6152af1901a62f8445395612be5893baa660b532f6d"
            ),
        },
    )
    answers: ClassVar[tuple[str, ...]] = (
        *("circle", "green", "red", "gray", "yes", "teal", "black"),
        *("rectangle", "yellow", "triangle", "brown", "blue", "no"),
    )

    def __post_init__(self) -> None:
        if not 1 <= self.side <= 4_096 or self.longest < 1:
            raise ConfigError(
                f"easy_vqa: side is {self.side} and longest {self.longest}; choose a side from 1 "
                "to 4096 pixels, and 1 id or more."
            )

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        text = Modality("text", (_BYTES,), vocabulary=257)
        if self.texts:
            length = min(self.longest, self.texts.longest)
            text = Modality("text", (length,), vocabulary=self.texts.vocabulary)
        return {"image": Modality("image", (*self._pictures.size, 3), "uint8"), "question": text}

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {"label": Target("class", len(self.answers), names=self.answers)}

    @property
    def _pictures(self) -> Pictures:
        size = (self.side, self.side)
        return self.pictures or Pictures(size=size, resize=size, mean=(0.0,), std=(1.0,))

    def load(self, split: str, folder: Path | None) -> PicturesWithTexts:
        """Opens a split; see `Dataset.load`."""
        self.check_split(split)
        published = "test" if split == "test" else "train"
        listed = require(folder, f"easy_vqa/{published}/questions.json", self.about)
        known = read_bytes(require(folder, _ANSWERS, self.about)).decode("utf-8", "replace").split()
        if tuple(known) != self.answers:
            raise DataError(
                f"The file answers.txt beside {listed.parent} lists other answers than easy-VQA: "
                "download it again."
            )
        records = _records(listed, self.answers, _COUNTS[published])
        if split != "test":
            records = [
                record for record in records if (record[2] % _VALID == 0) == (split == "valid")
            ]
        images = require(folder, f"easy_vqa/{published}/images/", self.about)
        numbers = sorted({number for _, _, number in records})
        files = [images / f"{number}.png" for number in numbers]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise DataError(f"{images} has no picture {missing[0]}: copy the pictures again.")
        questions = [question for question, _, _ in records]
        answers = [self.answers.index(answer) for _, answer, _ in records]
        return PicturesWithTexts(
            files,
            np.searchsorted(numbers, [number for _, _, number in records]),
            self._pictures,
            {"question": self._ids(questions)},
            {"label": np.array(answers, np.int32)},
        )

    def _ids(self, questions: list[str]) -> np.ndarray:
        """[N, L] int32 ids of the questions."""
        (length,) = self.modalities["question"].shape
        if self.texts:
            return self.texts(questions, truncate=True, length=length)
        return ids_of_bytes(questions, length)


def _records(file: Path, answers: tuple[str, ...], pictures: int) -> list[tuple[str, str, int]]:
    """The (question, answer, number of the picture) of a file."""
    try:
        records = json.loads(read_bytes(file))
    except ValueError as error:
        raise DataError(f"{file} is damaged ({error}): download it again.") from None
    if not isinstance(records, list) or not records:
        raise DataError(f"{file} is not a list of questions: download it again.")
    for place, record in enumerate(records):
        good = isinstance(record, list) and list(map(type, record)) == [str, str, int]
        if not good or record[1] not in answers or not 0 <= record[2] < pictures:
            raise DataError(
                f"Entry {place} of {file} is {record!r}, not [question, one of the "
                f"{len(answers)} answers, a picture from 0 to {pictures - 1}]: download it again."
            )
    return [tuple(record) for record in records]
