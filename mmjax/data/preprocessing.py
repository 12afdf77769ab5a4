"""From raw pictures and texts to the inputs that published weights expect."""

import dataclasses
import functools
import hashlib
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps
from tokenizers import Tokenizer

from mmjax.errors import ConfigError, DataError, check_sizes, unknown_name

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
Picture = str | Path | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The preprocessing of pictures: resize, crop the middle, subtract the mean, divide.

    Attributes:
        size: height and width of the result, in pixels.
        resize: what the picture is resized to before the crop: its shorter side, in pixels, or
            height and width.
        mean: subtracted from each channel of a picture in [0, 1].
        std: the result is divided by it; above 0.
        interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`, as Pillow has them.
        half: where the crop begins if the margins cannot be equal: `even` rounds half a pixel to
            the even one (torchvision, timm), `down` to the lower one (transformers).
    """

    size: tuple[int, int]
    resize: int | tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    half: Literal["even", "down"] = "even"

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise unknown_name("interpolation", self.interpolation, INTERPOLATIONS)
        if self.half not in ("even", "down"):
            raise unknown_name("rounding of a crop", self.half, ("even", "down"))
        sides = (*self.size, *(self.resize if isinstance(self.resize, tuple) else (self.resize,)))
        if min(sides) < 1 or not all(value > 0 for value in self.std):
            raise ConfigError(
                f"The preprocessing {self} has a side or a deviation that is not above 0: "
                "correct it."
            )

    def __call__(self, raw: Picture | Sequence[Picture]) -> np.ndarray:
        """Pictures to [B, height, width, 3] float32; one alone is a batch of 1.

        Args:
            raw: see `fitted`.
        """
        mean, std = (np.asarray(each, np.float32) for each in (self.mean, self.std))
        return (self.fitted(raw).astype(np.float32) / 255 - mean) / std

    def fitted(self, raw: Picture | Sequence[Picture]) -> np.ndarray:
        """Pictures to [B, height, width, 3] uint8, resized and cropped; one alone is a batch of 1.

        An experiment's encoder takes these: it subtracts the mean and divides on the device.

        Args:
            raw: files, Pillow images, or uint8 arrays [height, width] or [height, width, 3]. A
                picture is turned as its EXIF entry says; palettes and grey become RGB; what is
                transparent becomes white.

        Raises:
            DataError: a file that is missing, damaged or too large, or an array of another kind.
        """
        alone = isinstance(raw, str | Path | Image.Image) or (
            isinstance(raw, np.ndarray) and raw.ndim < 4
        )
        pictures: Iterable[Any] = [raw] if alone else raw  # type: ignore[assignment]
        whole = [self._fitted(rgb(picture)) for picture in pictures]
        if not whole:
            raise DataError("There is no picture to preprocess: give at least one.")
        return np.stack(whole)

    def _fitted(self, picture: Image.Image) -> np.ndarray:
        """The picture, resized and cropped, [height, width, 3] uint8."""
        if isinstance(self.resize, tuple):
            height, width = self.resize
        else:
            shorter = min(picture.size)
            width, height = (max(1, int(self.resize * side / shorter)) for side in picture.size)
        picture = picture.resize((width, height), INTERPOLATIONS[self.interpolation])
        margins = (height - self.size[0], width - self.size[1])
        top, left = (m // 2 if self.half == "down" else round(m / 2) for m in margins)
        # Beyond its edges, where the crop is larger than the picture, a picture is black.
        return np.asarray(picture.crop((left, top, left + self.size[1], top + self.size[0])))


def rgb(picture: Picture) -> Image.Image:
    """A file, an image or an array as an RGB image that stands upright.

    Raises:
        DataError: see `Pictures.__call__`.
    """
    if isinstance(picture, np.ndarray):
        if (
            picture.dtype != np.uint8
            or picture.ndim not in (2, 3)
            or picture.shape[2:] not in ((), (3,))
        ):
            raise DataError(
                f"A picture is an array {picture.shape} of {picture.dtype}: give uint8 values "
                "[height, width, 3] or [height, width]."
            )
        if not picture.size:
            raise DataError(f"A picture is an array {picture.shape}: it has no pixels.")
        return Image.fromarray(picture).convert("RGB")
    name = picture if isinstance(picture, str | Path) else "a picture"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if isinstance(picture, Image.Image):
                image = ImageOps.exif_transpose(picture)
            else:
                with Image.open(picture) as opened:
                    image = ImageOps.exif_transpose(opened)
    except FileNotFoundError:
        raise DataError(f"There is no picture {name}: check the path.") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(
            f"The picture {name} has more pixels than Pillow takes for safe "
            f"({Image.MAX_IMAGE_PIXELS:,}): make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS "
            "if you trust it."
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(
            f"The picture {name} cannot be read ({error}): replace or remove it."
        ) from None
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(_eight_bits(np.asarray(image), name)).convert("RGB")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: np.ndarray, name: Any) -> np.ndarray:
    """Grey values of 16 bits as uint8."""
    if not np.issubdtype(values.dtype, np.integer) or values.min() < 0 or values.max() > 65535:
        raise DataError(
            f"The picture {name} has values from {values.min():g} to {values.max():g}, which are "
            "neither of 8 nor of 16 bits: convert it to 8 bits."
        )
    return (values // 257).astype(np.uint8)


def pictures_of(description: Mapping[str, Any], processor: Mapping[str, Any]) -> Pictures | None:
    """The preprocessing that comes with image weights, or None if none does.

    Args:
        description: `config.json`, with timm's `pretrained_cfg`.
        processor: `preprocessor_config.json` of transformers.

    Raises:
        DataError: it is there, but needs what mmjax does not do.
    """
    try:
        if processor:
            return _of_transformers(processor, str(description.get("model_type")))
        if isinstance(cfg := description.get("pretrained_cfg"), dict):
            return _of_timm(cfg)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"The preprocessing that stands beside the weights is incomplete ({error!r}): copy the "
            "file again from where they were published, or pass preprocessing=Pictures(...)."
        ) from None
    return None


def _of_timm(cfg: Mapping[str, Any]) -> Pictures:
    if cfg.get("crop_mode", "center") != "center":
        raise DataError(
            f"The weights come with crop_mode {cfg['crop_mode']!r}, which mmjax does not do: pass "
            "preprocessing=Pictures(...)."
        )
    _, height, width = cfg["input_size"]
    if height != width:
        raise ValueError(f"input_size {cfg['input_size']} is not square")
    return Pictures(
        size=(height, width),
        resize=math.floor(height / cfg["crop_pct"]),
        mean=tuple(map(float, cfg["mean"])),
        std=tuple(map(float, cfg["std"])),
        interpolation=cfg["interpolation"],
    )


def _of_transformers(processor: Mapping[str, Any], model: str) -> Pictures:
    clip = model.startswith("clip")  # it crops by default, and one number is the shorter side
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not processor.get(step, True):
            raise ValueError(f"{step} is off")
    if abs(processor.get("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise ValueError("rescale_factor is not 1/255")
    size = processor["size"]
    if isinstance(size, int):
        size = {"shortest_edge": size} if clip else {"height": size, "width": size}
    shorter = size.get("shortest_edge")
    resize = int(shorter) if shorter else (int(size["height"]), int(size["width"]))
    cropped = processor.get("do_center_crop", clip)
    crop = processor.get("crop_size", size) if cropped else size
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    names = {int(value): name for name, value in INTERPOLATIONS.items()}
    return Pictures(
        size=(int(crop["height"]), int(crop["width"])),
        resize=resize,
        mean=tuple(map(float, processor["image_mean"])),
        std=tuple(map(float, processor["image_std"])),
        interpolation=names[int(processor["resample"])],
        half="down",
    )


@dataclasses.dataclass(frozen=True)
class Texts:
    """The preprocessing of texts: a published tokenizer, to ids with 0 for padding.

    Attributes:
        file: `tokenizer.json`; it is read when the first text is.
        longest: the largest number of word pieces, the special ones included.
        sha256: of the file; empty: not checked.
        words: size of the vocabulary of the weights; 0: that of the file.
    """

    file: str
    longest: int
    sha256: str = ""
    words: int = 0

    def __post_init__(self) -> None:
        check_sizes(self, "longest")
        check_sizes(self, "words", least=0)

    @property
    def vocabulary(self) -> int:
        """All ids are below it."""
        return self.words or self.tokenizer.get_vocab_size()

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, which neither pads nor cuts.

        Raises:
            DataError: the file is missing, is no tokenizer, or has changed.
        """
        try:
            content = Path(self.file).read_bytes()
            tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises plain exceptions
            raise DataError(
                f"The tokenizer {self.file} cannot be read ({error}): copy tokenizer.json again "
                "from where the weights were published."
            ) from None
        if self.sha256 and hashlib.sha256(content).hexdigest() != self.sha256:
            raise DataError(
                f"The tokenizer {self.file} is not the one that the config names by its SHA-256: "
                "put that file back, or load the weights again."
            )
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def __call__(
        self, raw: str | Sequence[str], *, truncate: bool = False, length: int = 0
    ) -> np.ndarray:
        """Texts to ids [B, L] int32; one alone is a batch of 1.

        Args:
            raw: the texts.
            truncate: whether to cut a text that is too long, instead of an error.
            length: L, from 1 to `longest`; 0: that of the longest text. A model that is trained on
                ids reads texts up to their length, so give what later texts may need.

        Raises:
            DataError: a text is none, or has more word pieces than there are positions.
        """
        texts = [raw] if isinstance(raw, str) else list(raw)
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise DataError(f"Text {index} is a {type(text).__name__}: give strings.")
        if not texts:
            raise DataError("There is no text to preprocess: give at least one.")
        if not 0 <= length <= self.longest:
            raise ConfigError(
                f"The length of the ids is {length}, but these weights read texts of 1 to "
                f"{self.longest} word pieces: choose it in that range, or 0 for the longest text."
            )
        most = length or self.longest
        if truncate:
            self.tokenizer.enable_truncation(most)
        try:
            ids = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        finally:
            self.tokenizer.no_truncation()
        for index, each in enumerate(ids):
            if len(each) > most:
                raise DataError(
                    f"Text {index} has {len(each)} word pieces, more than the {most} that "
                    f"{'were asked for' if length else 'the weights read'}: shorten it, or pass "
                    "truncate=True to cut it."
                )
        rows = np.zeros((len(ids), length or max(map(len, ids))), np.int32)
        for row, each in zip(rows, ids, strict=True):
            row[: len(each)] = each
        return rows
