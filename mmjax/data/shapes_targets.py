"""What `shapes` gives to predict beside the label: the attributes shown, and the caption.

**Attributes** are labels, several of which apply: one for each value that an attribute can take,
such as "colour red", of which an example shows exactly one an attribute. Which modality knows them:

    form                  picture
    noun                  caption
    pitch                 sound
    colour, place         picture, caption
    size, texture         all three (length and timbre of the sound)

Form, noun and pitch are those shown, after noise. Where they carry nothing of the label they are
always the same and no attribute; where `information` is `redundant` and nothing is replaced by
noise, each tells the other two.

**The caption** is that of the modality `text`, with the same word ids, and an end token after the
last word. Of two orders of its phrases one is drawn at random, which no other modality knows;
`equivalent` takes both for the same.
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
    """[B, C] float32, 1 where a label of `label_names` applies; attribute -> [B] int."""
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
    tokens = shapes_render.captions(attributes)  # whose longest leaves room for the end
    tokens[np.arange(len(tokens)), (tokens != 0).sum(axis=1)] = caption_target().end
    return tokens


@functools.cache
def _sentences() -> dict[bytes, tuple[int, ...]]:
    """The tokens of every caption there is -> what it says, without the order of its phrases."""
    parts = ("order", "noun", "size", "colour", "texture", "place")
    counts = [len(shapes_render.ATTRIBUTES[part]) for part in parts]
    codes = np.array(list(itertools.product(*map(range, counts))))
    tokens = caption_tokens(dict(zip(parts, codes.T, strict=True)))
    says = codes[:, 1:].tolist()
    return {row.tobytes(): tuple(code) for row, code in zip(tokens, says, strict=True)}


def parse(ids: np.ndarray) -> np.ndarray:
    """What captions say.

    Args:
        ids: [B, 12] tokens, 0 after the end token.

    Returns:
        [B, 5] int, the values of noun, size, colour, texture and place; -1 for what is no caption.
    """
    sentences, ids = _sentences(), np.ascontiguousarray(ids, np.int32)
    said = [sentences.get(row.tobytes(), (-1,) * 5) for row in ids]
    return np.array(said, int).reshape(-1, 5)
