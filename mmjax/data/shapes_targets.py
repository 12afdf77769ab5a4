"""Targets of `shapes` beside the label: the attributes and the caption.

**Attributes** are multiple labels: one for each value of an attribute, such as "colour red"; for
each attribute, exactly one applies to an example. The modalities that show them:

    form                  image
    noun                  caption
    pitch                 sound
    colour, place         image, caption
    size, texture         all three (length and timbre of the sound)

Form, noun and pitch are those after noise. If they do not carry the label, they are constant and
not among the attributes. If `information` is `redundant`, they agree except for noise.

**The caption** is that of the modality `text`, with the same word ids, and an end token after the
last word. The order of its two phrases is random and no other modality shows it; `equivalent`
accepts both orders.
"""

import functools
import itertools
from collections.abc import Mapping

import numpy as np

from mmjax.data import shapes_information, shapes_render
from mmjax.structs import Target

TASKS = ("label", "attributes", "caption")
CODES = {"image": "form", "text": "noun", "audio": "pitch"}  # modality -> attribute of its code
_NUISANCES = ("colour", "size", "texture", "place")


def label_names(carriers: tuple[str, ...], classes: int) -> tuple[tuple[str, int, str], ...]:
    """The labels of the attributes: attribute, value and name of each, such as "colour red".

    Args:
        carriers: the modalities whose code varies.
        classes: number of values of these codes.
    """
    values = {CODES[modality]: classes for modality in shapes_information.MODALITIES}
    shown = [CODES[m] for m in shapes_information.MODALITIES if m in carriers]
    labels = []
    for attribute in (*shown, *_NUISANCES):
        names = shapes_render.ATTRIBUTES[attribute]
        for value in range(values.get(attribute, len(names))):
            name = f"{names[value]:g} Hz" if attribute == "pitch" else names[value]
            labels.append((attribute, value, f"{attribute} {name}"))
    return tuple(labels)


def attribute_labels(
    attributes: Mapping[str, np.ndarray], carriers: tuple[str, ...], classes: int
) -> np.ndarray:
    """[B, C] float32, 1 if a label of `label_names` applies; `attributes`: name -> [B] int."""
    labels = label_names(carriers, classes)
    columns = [attributes[attribute] == value for attribute, value, _ in labels]
    return np.stack(columns, axis=-1).astype(np.float32)


def caption_target() -> Target:
    """The caption: word ids, then the end token, which has the last id."""
    words = shapes_render.vocabulary()
    return Target(
        "tokens",
        len(words) + 1,
        (shapes_render.WORDS,),
        names=(*words, "<end>"),
        end=len(words),
    )


def caption_tokens(attributes: Mapping[str, np.ndarray]) -> np.ndarray:
    """[B, 12] int32: the words of `shapes_render.captions`, the end token, then zeros."""
    tokens = shapes_render.captions(attributes)  # the longest leaves space for the end token
    tokens[np.arange(len(tokens)), (tokens != 0).sum(axis=1)] = caption_target().end
    return tokens


@functools.cache
def _sentences() -> dict[bytes, tuple[int, ...]]:
    """The tokens of every caption -> its meaning: the values without the order of its phrases."""
    parts = ("order", "noun", "size", "colour", "texture", "place")
    counts = [len(shapes_render.ATTRIBUTES[part]) for part in parts]
    codes = np.array(list(itertools.product(*map(range, counts))))
    tokens = caption_tokens(dict(zip(parts, codes.T, strict=True)))
    meanings = codes[:, 1:].tolist()
    return {row.tobytes(): tuple(code) for row, code in zip(tokens, meanings, strict=True)}


def parse(ids: np.ndarray) -> np.ndarray:
    """The meanings of captions.

    Args:
        ids: [B, 12] tokens, 0 after the end token.

    Returns:
        [B, 5] int, the values of noun, size, colour, texture and place; -1 if it is not a caption.
    """
    sentences, ids = _sentences(), np.ascontiguousarray(ids, np.int32)
    meanings = [sentences.get(row.tobytes(), (-1,) * 5) for row in ids]
    return np.array(meanings, int).reshape(-1, 5)
