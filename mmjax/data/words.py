"""Texts as the ids of their words, and vocabularies learned from texts."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmjax.errors import DataError, unknown_name

UNKNOWN = "<unknown>"  # of a learned vocabulary: stands for all words that are not in it
PADDING = ""


def are_texts(values: Any) -> bool:
    """Whether an input is a list of strings, or an array of one dimension that holds some."""
    if isinstance(values, list | tuple):
        return all(isinstance(value, str) for value in values)
    if isinstance(values, Mapping):
        return False
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "UO":
        return False
    return any(isinstance(value, str) for value in array.tolist())


def words_of(text: str) -> list[str]:
    """The words of a text: in lower case, separated by white space."""
    return str(text).lower().split()


def learned_words(texts: Sequence[str], size: int = 0) -> tuple[str, ...]:
    """The vocabulary of some texts: padding, `UNKNOWN`, then the words, the most frequent first.

    Words that are equally frequent are in alphabetical order.

    Args:
        texts: those of the train split, and no others.
        size: number of ids, with these two; 0: as many as there are words.
    """
    counts = collections.Counter(word for text in texts for word in words_of(text))
    counts.pop(UNKNOWN, None)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return (PADDING, UNKNOWN, *words[: max(size - 2, 0) if size else None])


def ids_of(name: str, texts: Sequence[str], words: Sequence[str], length: int) -> np.ndarray:
    """Texts as word ids [N, length], with 0 after the last word.

    Args:
        name: of the modality, for messages.
        texts: N strings.
        words: the vocabulary, in the order of its ids; a word that it lacks is `UNKNOWN`.
        length: words that a text may have.

    Raises:
        DataError: a text is too long.
        ConfigError: a word is not in a vocabulary that has no `UNKNOWN`.
    """
    numbers = {word: number for number, word in enumerate(words) if number}
    ids = np.zeros((len(texts), length), np.int32)
    for row, text in enumerate(texts):
        found = words_of(text)
        if len(found) > length:
            raise DataError(
                f"The text {text!r} of {name!r} has {len(found)} words, but the model reads at "
                f"most {length}: shorten the text."
            )
        for place, word in enumerate(found):
            number = numbers.get(word, numbers.get(UNKNOWN))
            if number is None:
                raise unknown_name(f"word in the vocabulary of {name!r}", word, list(numbers))
            ids[row, place] = number
    return ids
