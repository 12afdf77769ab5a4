"""Which modalities of `shapes` carry the label, and the best accuracy that a model can reach.

Each of the three modalities shows one *code*, a number below `classes`: the form of the image, the
noun of the caption, the pitch of the sound. A modality that does not carry the label always shows
the neutral code instead. `information` chooses how the codes depend on the label:

    redundant   every code is the label
    unique      the code of one modality is the label, the others are neutral
    synergy     the codes of image and sound are each uniform, and the label is their sum modulo
                `classes` (exclusive or, for two classes); the caption's is neutral

Then each code that is not neutral is replaced by a uniformly random one with probability `noise`,
independently of everything else.
"""

from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np

Information = Literal["redundant", "unique", "synergy"]

MODALITIES = ("image", "text", "audio")
SYNERGISTIC = ("image", "audio")  # whose codes add up to the label
NEUTRAL = 4  # the code of a modality that does not carry the label; the others are below it

# The uniform numbers that `label_and_codes` consumes.
DRAWS = (
    *("label", "share"),
    *(f"replace_{modality}" for modality in MODALITIES),
    *(f"other_{modality}" for modality in MODALITIES),
)


def carriers(information: Information, unique_to: str) -> tuple[str, ...]:
    """The modalities whose code depends on the label or on the other codes."""
    by_information = {"redundant": MODALITIES, "unique": (unique_to,), "synergy": SYNERGISTIC}
    return by_information[information]


def label_and_codes(
    information: Information,
    unique_to: str,
    classes: int,
    noise: float,
    uniform: Mapping[str, np.ndarray],
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Turns uniform random numbers into labels and the codes that the modalities show.

    Args:
        information: which modalities carry the label, see the top of this file.
        unique_to: the modality that carries it, for "unique".
        classes: number of labels and of codes.
        noise: probability that a code is replaced by a random one.
        uniform: each name of `DRAWS` -> [B] numbers in [0, 1).

    Returns:
        labels [B] int32, and modality -> codes [B] int32.
    """

    def choice(name: str) -> np.ndarray:
        return (uniform[name] * classes).astype(np.int32)

    label = choice("label")
    codes = {modality: np.full_like(label, NEUTRAL) for modality in MODALITIES}
    if information == "synergy":
        seen, heard = SYNERGISTIC
        codes[seen] = choice("share")
        codes[heard] = (label - codes[seen]) % classes
    else:
        for modality in carriers(information, unique_to):
            codes[modality] = label
    for modality in carriers(information, unique_to):
        replaced = uniform[f"replace_{modality}"] < noise
        codes[modality] = np.where(replaced, choice(f"other_{modality}"), codes[modality])
    return label, codes


def best_accuracy(
    information: Information,
    unique_to: str,
    classes: int,
    noise: float,
    subset: Collection[str],
) -> float:
    """The accuracy of the best possible classifier that sees only the modalities of `subset`.

    Everything else in an example is independent of label and codes, so the best classifier needs
    only the codes. It picks the most likely label y given the codes a that it sees, and is correct
    with probability  sum_a max_y p(y) p(a | y),  where p(y) = 1 / C.

    Let q = 1 - noise + noise / C be the probability that a code is shown unchanged, and
    r = noise / C that of each other value, so that q >= r and q + (C - 1) r = 1. Let k be the
    number of modalities in `subset` whose code is not neutral.

    *No code* (k = 0): 1 / C.

    *Redundant*: given y, the k codes are independent, and if m of them agree with y, their
    probability is q^m r^(k - m). The most likely label is the most frequent code, so the sum groups
    the tuples by the count of their most frequent value:

        k = 1    q
        k = 2    q^2 + (C - 1) q r = q     (two that disagree cannot outvote each other)
        k = 3    q^3 + 3 (C - 1) q^2 r + (C - 1) (C - 2) q r^2

    *Unique*: q if `unique_to` is in the subset, else 1 / C.

    *Synergy*: one code alone is uniform for every label, so k < 2 gives 1 / C. With both, the sum
    of the shown codes is the label unless one was replaced; then it is uniform:

        k = 2    (1 - noise)^2 + (1 - (1 - noise)^2) / C

    Args:
        information: which modalities carry the label, see the top of this file.
        unique_to: the modality that carries it, for "unique".
        classes: number of labels C.
        noise: probability that a code is replaced by a random one.
        subset: names of the modalities that the classifier sees.

    Returns:
        A probability between 1 / C and 1.
    """
    chance = 1 / classes
    q = 1 - noise + noise * chance
    r = noise * chance
    seen = len(set(subset) & set(carriers(information, unique_to)))
    if information == "synergy":
        intact = (1 - noise) ** 2 if seen == 2 else 0.0
        return intact + (1 - intact) * chance
    if seen == 3:
        others = classes - 1
        return q**3 + 3 * others * q**2 * r + others * (classes - 2) * q * r**2
    return q if seen else chance
