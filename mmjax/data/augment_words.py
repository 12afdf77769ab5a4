"""Random changes of texts of word ids; a text is never emptied.

Reference:
    Wei and Zou 2019, EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
    Classification Tasks, section 2 (dropping and swapping words).
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from mmjax.data.transforms import RecordTransform, check_range
from mmjax.errors import ConfigError
from mmjax.structs import Modality


class _OfWords(RecordTransform):
    """Base: changes texts [L] of ids, of which 0 is padding if there is no mask."""

    spare: tuple[int, ...]
    kinds: ClassVar[tuple[str, ...]] = ("text",)

    def change(
        self, values: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See `RecordTransform.change`."""
        places = np.flatnonzero(values != 0 if valid is None else valid)
        before = values[places]
        words = self.words(before, np.isin(before, self.spare), rng)
        changed, left = values.copy(), places[: len(words)]
        changed[places] = 0
        changed[left] = words
        if valid is None:
            return changed, None
        after = np.zeros_like(valid)
        after[left] = True
        return changed, after

    @abc.abstractmethod
    def words(self, ids: np.ndarray, spared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The new ids, at most as many as the old [n]; the words in `spared` [n] must stay."""


@dataclasses.dataclass(frozen=True)
class DropWords(_OfWords):
    """Leaves out words; those that stay move together, and padding follows them.

    Attributes:
        modality: name of a modality of text.
        rate: probability for each word, from 0 to 1; one word, drawn at random, always stays.
        spare: ids that are never left out, such as those of begin and end.
    """

    modality: str
    rate: float = 0.1
    spare: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_range(self, "rate")

    def words(self, ids: np.ndarray, spared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        return ids[~_chosen(~spared, self.rate, rng)]


@dataclasses.dataclass(frozen=True)
class MaskWords(_OfWords):
    """Replaces words by one id, such as that of an unknown word.

    Attributes:
        modality: name of a modality of text.
        id: the id that takes their place; not 0, which is padding.
        rate: probability for each word, from 0 to 1; one word, drawn at random, always stays.
        spare: ids that are never replaced, such as those of begin and end.
    """

    modality: str
    id: int
    rate: float = 0.15
    spare: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_range(self, "rate")
        if self.id < 1:
            raise ConfigError(f"MaskWords: id is {self.id}; choose 1 or more, as 0 is padding.")

    def check(self, modalities: Mapping[str, Modality]) -> None:
        """See `Transform.check`."""
        super().check(modalities)
        vocabulary = modalities[self.modality].vocabulary
        if self.id >= vocabulary:
            raise ConfigError(
                f"MaskWords: id is {self.id}, but {self.modality!r} has a vocabulary of "
                f"{vocabulary} ids: choose less than {vocabulary}, or declare a larger one."
            )

    def words(self, ids: np.ndarray, spared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        return np.where(_chosen(~spared, self.rate, rng), self.id, ids)


@dataclasses.dataclass(frozen=True)
class SwapWords(_OfWords):
    """Swaps neighbours, from the first word to the last, so that a word may move several places.

    Attributes:
        modality: name of a modality of text.
        rate: probability for each pair of neighbours, from 0 to 1.
        spare: ids that stay in their place, such as those of begin and end.
    """

    modality: str
    rate: float = 0.1
    spare: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_range(self, "rate")

    def words(self, ids: np.ndarray, spared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        swapped = ids.copy()
        pairs = rng.random(max(len(ids) - 1, 0)) < self.rate
        for place in np.flatnonzero(pairs & ~spared[:-1] & ~spared[1:]):
            swapped[[place, place + 1]] = swapped[[place + 1, place]]
        return swapped


def _chosen(choices: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """[n] some of the words that may be chosen, each at this rate; never all words of a text."""
    chosen = (rng.random(len(choices)) < rate) & choices
    if len(chosen) and chosen.all():
        chosen[rng.integers(len(chosen))] = False
    return chosen
