"""`shapes`: an image, a caption and a sound; the user chooses which of them carry the label.

Built in: all examples are computed, nothing is downloaded. It is known exactly which modalities
carry the information about the label, so the best possible accuracy with every subset of them is
known too: a fusion method can be compared with the optimum, not only with other methods.

Example i is a function of (seed, split, i); it does not depend on the batch or the split's size.

Reference:
    Williams and Beer, "Nonnegative decomposition of multivariate information", 2010: defines
    redundant, unique and synergistic information.
"""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import ClassVar, get_args

import numpy as np

from mmjax.data import shapes_information, shapes_random, shapes_render, shapes_targets
from mmjax.data.dataset import About, Dataset, Modality, Source, Target
from mmjax.errors import ConfigError, unknown_name
from mmjax.structs import Batch

_NUISANCES = ("colour", "size", "texture", "place", "order")
_DRAWS = (*shapes_information.DRAWS, *_NUISANCES, *shapes_render.JITTERS)


@dataclasses.dataclass(frozen=True)
class Shapes(Dataset):
    """Image, caption and sound of one object, with a label that chosen modalities carry.

    The image shows a form, the caption names it, the sound has a pitch: these three can carry the
    label. Colour, place (in image and caption), size and texture (in all three: they are the length
    and the timbre of the tone) are random and independent of the label, but agree between the
    modalities of an example, so that alignment and retrieval are possible. A modality that does not
    carry the label shows a diamond, has the noun "shape", or plays a fifth pitch.

    Attributes:
        information: `redundant`: every modality carries the label; `unique`: only `unique_to` does;
            `synergy`: the label is the sum, modulo `classes`, of the numbers of form and pitch (the
            exclusive or, for two classes), so every single modality is at chance, and the caption
            does not carry the label.
        unique_to: the modality that carries the label if `information` is `unique`; else without
            effect.
        classes: number of labels, 2 to 4, all equally frequent.
        noise: probability, for each modality that carries the label, that its form, noun or pitch
            is replaced by a uniformly random one. With 0 the label is certain, with 1 it is at
            chance. See `best_accuracy`.
        pixel_noise: standard deviation of uniform noise added to the pixels, which are then clipped
            to [0, 1]; a few hundredths do not hide the image.
        waveform_noise: the same for the valid samples of the sound, clipped to [-1, 1].
        seed: chooses the examples, not the shuffling; 0 or more.
        tasks: the targets: `label`, the class; `attributes`, the attributes as multiple labels;
            `caption`, the caption as tokens. See `shapes_targets`.
        train_size: number of examples of the split `train`.
        valid_size: number of examples of the split `valid`.
        test_size: number of examples of the split `test`.
    """

    information: shapes_information.Information = "redundant"
    unique_to: str = "image"
    classes: int = 4
    noise: float = 0.0
    pixel_noise: float = 0.02
    waveform_noise: float = 0.01
    seed: int = 0
    train_size: int = 20_000
    valid_size: int = 1_000
    test_size: int = 4_000
    tasks: tuple[str, ...] = ("label",)

    name: ClassVar[str] = "shapes"
    about: ClassVar[About] = About(
        title="Shapes: an image, a caption and a sound; chosen modalities carry the label",
        citation="mmjax",
        licence="Apache-2.0",
    )

    def __post_init__(self) -> None:
        kinds = get_args(shapes_information.Information)
        if self.information not in kinds:
            raise unknown_name("kind of information in shapes", self.information, kinds)
        _check_modalities([self.unique_to])
        for task in self.tasks:
            if task not in shapes_targets.TASKS:
                raise unknown_name("task of shapes", task, shapes_targets.TASKS)
        if not 2 <= self.classes <= shapes_information.NEUTRAL:
            raise ConfigError(f"shapes: classes is {self.classes}; choose 2, 3 or 4.")
        if not 0 <= self.noise <= 1:
            raise ConfigError(
                f"shapes: noise is {self.noise}; it is a probability, so choose it from 0 to 1."
            )
        for field in ("pixel_noise", "waveform_noise"):
            if not 0 <= getattr(self, field) <= 1:
                raise ConfigError(
                    f"shapes: {field} is {getattr(self, field)}; choose it from 0 to 1."
                )
        if self.seed < 0:
            raise ConfigError(f"shapes: seed is {self.seed}; choose 0 or more.")
        for split in self.splits:
            size = self._size(split)
            if size < 1:
                raise ConfigError(f"shapes: {split}_size is {size}; choose at least 1.")

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        words = shapes_render.vocabulary()
        return {
            "image": Modality("image", (shapes_render.PIXELS, shapes_render.PIXELS, 3)),
            "text": Modality("text", (shapes_render.WORDS,), vocabulary=len(words), words=words),
            "audio": Modality(
                "audio", (shapes_render.SAMPLES,), sample_rate=shapes_render.SAMPLE_RATE
            ),
        }

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        labels = [name for *_, name in shapes_targets.label_names(self._carriers, self.classes)]
        targets = {
            "label": Target("class", self.classes),
            "attributes": Target("labels", len(labels), names=tuple(labels)),
            "caption": shapes_targets.caption_target(),
        }
        return {task: targets[task] for task in self.tasks}

    def load(self, split: str, folder: Path | None = None) -> Source:
        """Opens a split; `folder` is not used. See `Dataset.load`."""
        self.check_split(split)
        return _ShapesSource(self, split)

    def attributes(self, split: str, indices: np.ndarray) -> dict[str, np.ndarray]:
        """The attributes of examples, as numbers.

        Args:
            split: one of `splits`.
            indices: [B] record numbers, below the size of the split.

        Returns:
            `label`, and each name of `shapes_render.ATTRIBUTES` -> [B] int32, an index into the
            values listed there; `form`, `noun` and `pitch` after `noise`.

        Raises:
            ConfigError: the split does not exist.
            IndexError: a record number is outside the split.
        """
        return self._example(split, indices)[0]

    def best_accuracy(self, subset: Collection[str]) -> float:
        """The accuracy of the best possible classifier that sees only the modalities of `subset`.

        With q = 1 - noise + noise / C and r = noise / C: 1 / C for a subset that does not carry the
        label. *Redundant*: q for one or two modalities, for three
        q^3 + 3 (C - 1) q^2 r + (C - 1) (C - 2) q r^2. *Unique*: q with `unique_to`. *Synergy*:
        (1 - noise)^2 + (1 - (1 - noise)^2) / C with image and sound. Derived in
        `shapes_information.best_accuracy`.

        Raises:
            ConfigError: shapes does not have a modality.
        """
        _check_modalities(subset)
        return shapes_information.best_accuracy(
            self.information, self.unique_to, self.classes, self.noise, subset
        )

    def caption(self, ids: np.ndarray) -> str:
        """The words of the ids [L] of one caption, without the padding and the end token."""
        words = shapes_render.vocabulary()
        return " ".join(words[number] for number in ids if 0 < number < len(words))

    def equivalent(self, target: str, ids: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Whether two captions are grammatical and have the same meaning, in either order.

        Args:
            target: `caption`.
            ids: [B, 12] tokens.
            other: [B, 12] tokens.

        Returns:
            [B] bool.

        Raises:
            ConfigError: the target is not `caption`.
        """
        if target != "caption":
            raise unknown_name("caption among the targets of shapes, called", target, ["caption"])
        one, two = shapes_targets.parse(ids), shapes_targets.parse(other)
        return (one >= 0).all(axis=1) & (one == two).all(axis=1)

    @property
    def _carriers(self) -> tuple[str, ...]:
        return shapes_information.carriers(self.information, self.unique_to)

    def _targets(self, attributes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Task -> [B, ...], for the chosen tasks."""
        make = {
            "label": lambda: attributes["label"],
            "attributes": lambda: shapes_targets.attribute_labels(
                attributes, self._carriers, self.classes
            ),
            "caption": lambda: shapes_targets.caption_tokens(attributes),
        }
        return {task: make[task]() for task in self.tasks}

    def _size(self, split: str) -> int:
        return {"train": self.train_size, "valid": self.valid_size, "test": self.test_size}[split]

    def _key(self, split: str, stream: int) -> np.uint64:
        """The key of one of the two random streams of a split: 0 for its draws, 1 for its noise."""
        entropy = np.random.SeedSequence((self.seed, self.splits.index(split)))
        return entropy.generate_state(2, np.uint64)[stream]

    def _example(
        self, split: str, indices: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Attributes -> [B] int32, and jitters -> [B] float32 in [0, 1)."""
        self.check_split(split)
        indices = np.asarray(indices)
        if indices.size and not 0 <= indices.min() <= indices.max() < self._size(split):
            raise IndexError(f"record numbers of {split} are 0 to {self._size(split) - 1}")
        numbers = shapes_random.uniform(self._key(split, 0), indices, len(_DRAWS))
        uniform = dict(zip(_DRAWS, numbers.T, strict=True))
        label, codes = shapes_information.label_and_codes(
            self.information, self.unique_to, self.classes, self.noise, uniform
        )
        attributes = {
            "label": label,
            "form": codes["image"],
            "noun": codes["text"],
            "pitch": codes["audio"],
        }
        for name in _NUISANCES:
            values = len(shapes_render.ATTRIBUTES[name])
            attributes[name] = (uniform[name] * values).astype(np.int32)
        return attributes, {name: uniform[name] for name in shapes_render.JITTERS}


@dataclasses.dataclass(frozen=True)
class _ShapesSource:
    """One split of `Shapes`; renders examples on demand."""

    dataset: Shapes
    split: str

    def __len__(self) -> int:
        return self.dataset._size(self.split)

    @property
    def targets(self) -> dict[str, np.ndarray]:
        """Target -> its values for all examples, [N, ...]."""
        attributes, _ = self.dataset._example(self.split, np.arange(len(self)))
        return self.dataset._targets(attributes)

    def take(self, indices: np.ndarray) -> Batch:
        """Renders examples; see `Source.take`."""
        dataset = self.dataset
        attributes, jitters = dataset._example(self.split, indices)
        image = shapes_render.pictures(attributes, jitters)
        audio, sounding = shapes_render.tones(attributes, jitters)
        text = shapes_render.captions(attributes)
        if dataset.pixel_noise or dataset.waveform_noise:
            values = shapes_render.PIXELS**2 * 3
            hiss = shapes_random.hiss(
                dataset._key(self.split, 1), indices, values + shapes_render.SAMPLES
            )
            pixel, sample = np.split(hiss, [values], axis=1)
            image += np.float32(dataset.pixel_noise) * pixel.reshape(image.shape)
            audio += np.float32(dataset.waveform_noise) * sample * sounding
            np.clip(image, 0, 1, out=image)
            np.clip(audio, -1, 1, out=audio)
        return Batch.of(
            {"image": image, "text": text, "audio": audio},
            indices,
            masks={"text": text != 0, "audio": sounding},
            targets=dataset._targets(attributes),
        )


def _check_modalities(names: Collection[str]) -> None:
    for name in names:
        if name not in shapes_information.MODALITIES:
            raise unknown_name("modality of shapes", name, shapes_information.MODALITIES)
