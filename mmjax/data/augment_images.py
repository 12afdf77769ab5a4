"""Random changes of images and videos; all frames of a video are changed in the same way."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from mmjax.data.transforms import RecordTransform, check_range
from mmjax.errors import ConfigError
from mmjax.structs import Modality

_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


class _OfImages(RecordTransform):
    """Base: changes arrays [..., height, width, channels], uint8 or floats in [0, 1]."""

    kinds: ClassVar[tuple[str, ...]] = ("image", "video")

    def change(
        self, values: np.ndarray, valid: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """See `RecordTransform.change`."""
        return self.picture(values, rng), valid

    @abc.abstractmethod
    def picture(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The changed image [..., height, width, channels]."""


@dataclasses.dataclass(frozen=True)
class RandomCrop(_OfImages):
    """Adds a black border of `padding` pixels, and cuts out the old size at a random place.

    Attributes:
        modality: name of a modality of images or videos.
        padding: width of the border in pixels; less than the sides of the images.

    Reference:
        He et al. 2016, Deep Residual Learning for Image Recognition, section 4.2.
    """

    modality: str
    padding: int = 4

    def __post_init__(self) -> None:
        check_range(self, "padding", most=10_000)

    def check(self, modalities: Mapping[str, Modality]) -> None:
        """See `Transform.check`."""
        super().check(modalities)
        height, width = modalities[self.modality].shape[-3:-1]
        if self.padding >= min(height, width):
            raise ConfigError(
                f"RandomCrop: padding is {self.padding}, but the images of {self.modality!r} are "
                f"{height} x {width}, so that nothing may be left of them: choose less than "
                f"{min(height, width)}."
            )

    def picture(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        height, width = x.shape[-3:-1]
        down, right = rng.integers(-self.padding, self.padding + 1, 2)
        moved = np.zeros_like(x)
        moved[..., max(down, 0) : height + down, max(right, 0) : width + right, :] = x[
            ..., max(-down, 0) : height - down, max(-right, 0) : width - right, :
        ]
        return moved


@dataclasses.dataclass(frozen=True)
class RandomFlip(_OfImages):
    """Swaps left and right. Not for images in which that changes the meaning, such as digits.

    Attributes:
        modality: name of a modality of images or videos.
        rate: probability, from 0 to 1.
    """

    modality: str
    rate: float = 0.5

    def __post_init__(self) -> None:
        check_range(self, "rate")

    def picture(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        return x[..., ::-1, :] if rng.random() < self.rate else x


@dataclasses.dataclass(frozen=True)
class ColourJitter(_OfImages):
    """Changes brightness, then contrast, then saturation, each by a random factor.

    A factor is uniform from 1 - a to 1 + a. Contrast scales the distance from the mean grey of the
    image, saturation that from the grey of each pixel. The result is cut to [0, 1].

    Attributes:
        modality: name of a modality of images or videos.
        brightness: a of the brightness, from 0 to 1.
        contrast: a of the contrast, from 0 to 1.
        saturation: a of the saturation, from 0 to 1; 0 for images without three channels.

    Reference:
        Howard 2013, Some Improvements on Deep Convolutional Neural Network Based Image
        Classification, section 2.
    """

    modality: str
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4

    def __post_init__(self) -> None:
        check_range(self, "brightness", "contrast", "saturation")

    def check(self, modalities: Mapping[str, Modality]) -> None:
        """See `Transform.check`."""
        super().check(modalities)
        channels = modalities[self.modality].shape[-1]
        if self.saturation and channels != 3:
            raise ConfigError(
                f"ColourJitter: saturation is {self.saturation}, but {self.modality!r} has "
                f"{channels} channels, not red, green and blue: set it to 0."
            )

    def picture(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        most = np.array([self.brightness, self.contrast, self.saturation])
        bright, contrast, colour = rng.uniform(1 - most, 1 + most).astype(np.float32)
        scale = np.float32(255 if x.dtype == np.uint8 else 1)
        y = x.astype(np.float32) * (bright / scale)
        grey = (y @ _GREY)[..., None] if x.shape[-1] == 3 else y
        if self.contrast:
            mean = grey.mean()
            y, grey = (mean + contrast * (part - mean) for part in (y, grey))
        if self.saturation:
            y = grey + colour * (y - grey)
        y = np.clip(y, 0, 1) * scale
        return (np.rint(y) if x.dtype == np.uint8 else y).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class RandomErasing(_OfImages):
    """Replaces a random rectangle by noise that is uniform in the range of the images.

    The rectangle is S = u height width large, u uniform in `area`, and sqrt(S r) x sqrt(S / r)
    pixels, log r uniform in [log `aspect`, -log `aspect`]; a side that is too long is cut.

    Attributes:
        modality: name of a modality of images or videos.
        rate: probability, from 0 to 1.
        area: smallest and largest part of the image, from 0 to 1.
        aspect: smallest ratio of height to width, above 0 and at most 1.

    Reference:
        Zhong et al. 2020, Random Erasing Data Augmentation, algorithm 1.
    """

    modality: str
    rate: float = 0.5
    area: tuple[float, float] = (0.02, 0.33)
    aspect: float = 0.3

    def __post_init__(self) -> None:
        check_range(self, "rate")
        check_range(self, "aspect", least=0.01)
        if not 0 <= self.area[0] <= self.area[1] <= 1:
            raise ConfigError(
                f"RandomErasing: area is {self.area}; choose two numbers from 0 to 1, the smaller "
                "first."
            )

    def picture(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """See the class."""
        if rng.random() >= self.rate:
            return x
        sides = np.array(x.shape[-3:-1])
        ratio = np.exp(rng.uniform(np.log(self.aspect), -np.log(self.aspect)))
        area = rng.uniform(*self.area) * sides.prod()
        size = np.minimum(np.rint(np.sqrt([area * ratio, area / ratio])).astype(int), sides)
        (top, left), (height, width) = rng.integers(0, sides - size + 1), size
        erased = x.copy()
        hole = erased[..., top : top + height, left : left + width, :]
        if x.dtype == np.uint8:
            hole[...] = rng.integers(0, 256, hole.shape, np.uint8)
        else:
            hole[...] = rng.random(hole.shape, np.float32)
        return erased
