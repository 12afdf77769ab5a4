"""`spoken_digits`: pairs of a written digit (MNIST) and the same digit spoken (FSDD).

The splits share no image, clip or pair. The speakers are the same in all splits, as in the official
split of the recordings.

Reference:
    Vielzeuf, Lechervy, Pateux and Jurie, "CentralNet: a multilayer approach for multimodal fusion",
    ECCV workshops 2018: AV-MNIST, on which this data set is modelled. Both degrade images and
    sounds, so that neither alone is sufficient; how they are degraded differs.
"""

import dataclasses
from pathlib import Path
from typing import ClassVar

import numpy as np

from mmjax.data import fsdd, mnist
from mmjax.data.dataset import About, Dataset, Modality, Target
from mmjax.errors import ConfigError
from mmjax.structs import Batch

SAMPLES = fsdd.SAMPLE_RATE  # one second
_TAKES = {"train": range(10, 50), "valid": range(5, 10), "test": range(5)}  # clip indices; FSDD's
_HELD_OUT_PAIRS_PER_CLIP = 10
_VALID_IMAGES = 300  # per digit: 6 speakers, 5 takes, 10 pairs
_MOST_PAIRS_PER_CLIP = 21  # there are 5,421 training images of the digit 5, 300 are in `valid`
_SPLIT_SEED = 0  # chooses the images of `valid`, independently of `pair_seed`


@dataclasses.dataclass(frozen=True)
class SpokenDigits(Dataset):
    """Pairs of an MNIST image and a one-second clip of the same digit, balanced over the digits.

    `train` has 2,400 clips (index 10-49), each with `pairs_per_clip` images; `valid` 300 clips
    (index 5-9) and `test` the 300 of the official test part (index 0-4), with 10 images each, so
    3,000 pairs. The images of `test` are from t10k, all others from the 60,000 training images, of
    which 300 per digit are for `valid`, the same for every `pair_seed`. Each image is in one pair
    only. Clips are zero-padded to one second, or cut (20 of 3,000 are longer); the mask marks the
    valid samples.

    Noise is part of the data: that of example i is a function of (`pair_seed`, split, i), the same
    in every epoch and run.

    Attributes:
        pair_seed: chooses the pairs and the noise; 0 or more.
        pairs_per_clip: number of images for each clip of `train`, 1 to 21.
        image_noise: standard deviation of the Gaussian noise added to every pixel, which is then
            clipped to [0, 1].
        audio_noise: root mean square of the white Gaussian noise added to the valid samples,
            relative to that of the signal; exact for every clip, so the signal-to-noise ratio is
            -20 log10(audio_noise) dB: 1 is 0 dB, 10 is -20 dB. If the sum exceeds [-1, 1], the
            clip is scaled down, which keeps the ratio.
    """

    pair_seed: int = 0
    pairs_per_clip: int = 10
    image_noise: float = 0.0
    audio_noise: float = 0.0

    name: ClassVar[str] = "spoken_digits"
    about: ClassVar[About] = About(
        title="Written digits of MNIST paired with spoken digits of FSDD",
        citation=f"{mnist.CITATION}; {fsdd.CITATION}",
        licence="MNIST: freely used for research; FSDD: CC BY-SA 4.0",
        homepage=f"{mnist.HOMEPAGE} and {fsdd.HOMEPAGE}",
        files=mnist.SHA256 | fsdd.SHA256,
    )

    def __post_init__(self) -> None:
        if not 0 <= self.pair_seed < 2**63:
            raise ConfigError(f"spoken_digits: pair_seed is {self.pair_seed}; choose 0 or more.")
        if not 1 <= self.pairs_per_clip <= _MOST_PAIRS_PER_CLIP:
            raise ConfigError(
                f"spoken_digits: pairs_per_clip is {self.pairs_per_clip}, but there are images for "
                f"1 to {_MOST_PAIRS_PER_CLIP}: choose it in that range."
            )
        for field in ("image_noise", "audio_noise"):
            value = getattr(self, field)
            if not 0 <= value < np.inf:
                raise ConfigError(f"spoken_digits: {field} is {value}; choose 0 or more.")

    @property
    def modalities(self) -> dict[str, Modality]:
        """Modality name -> kind, shape and dtype of one example."""
        return {
            "image": Modality("image", (mnist.SIDE, mnist.SIDE, 1)),
            "audio": Modality("audio", (SAMPLES,), sample_rate=fsdd.SAMPLE_RATE),
        }

    @property
    def targets(self) -> dict[str, Target]:
        """Target name -> kind and shape of the target of one example."""
        return {"label": Target("class", 10)}

    def load(self, split: str, folder: Path | None) -> "Pairs":
        """Opens a split; see `Dataset.load`."""
        self.check_split(split)
        images, labels = mnist.load_mnist(
            "t10k" if split == "test" else "train", folder, self.about
        )
        clips = fsdd.load_clips(_TAKES[split], SAMPLES, folder, self.about)
        stream = self.splits.index(split)
        rng = np.random.default_rng((self.pair_seed, stream))
        per_clip = self.pairs_per_clip if split == "train" else _HELD_OUT_PAIRS_PER_CLIP
        image_rows, clip_rows = [], []
        for digit in range(10):
            pool = _pool(split, np.flatnonzero(labels == digit), digit)
            repeated = np.repeat(np.flatnonzero(clips.digits == digit), per_clip)
            image_rows.append(rng.permutation(pool)[: len(repeated)])
            clip_rows.append(repeated)
        order = rng.permutation(sum(map(len, clip_rows)))
        return Pairs(
            images=images,
            clips=clips,
            image_rows=np.concatenate(image_rows)[order],
            clip_rows=np.concatenate(clip_rows)[order],
            image_noise=self.image_noise,
            audio_noise=self.audio_noise,
            key=(self.pair_seed, stream),
        )


def _pool(split: str, rows: np.ndarray, digit: int) -> np.ndarray:
    """The rows of a digit's images that a split may use, among all of its part of MNIST."""
    if split == "test":
        return rows
    shuffled = np.random.default_rng((_SPLIT_SEED, digit)).permutation(rows)
    return shuffled[:_VALID_IMAGES] if split == "valid" else shuffled[_VALID_IMAGES:]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """The source of one split: example i is image `image_rows[i]` and clip `clip_rows[i]`.

    Attributes:
        images: [M, 28, 28] uint8, a part of MNIST.
        clips: the recordings of the split.
        image_rows: [N] rows of `images`.
        clip_rows: [N] rows of `clips`.
        image_noise: see `SpokenDigits`.
        audio_noise: see `SpokenDigits`.
        key: seed and number of the split, which determine the noise of example i.
    """

    images: np.ndarray
    clips: fsdd.Clips
    image_rows: np.ndarray
    clip_rows: np.ndarray
    image_noise: float
    audio_noise: float
    key: tuple[int, int]

    def __len__(self) -> int:
        return len(self.image_rows)

    @property
    def targets(self) -> dict[str, np.ndarray]:
        """The labels of all examples, [N]."""
        return {"label": self.clips.digits[self.clip_rows]}

    def take(self, indices: np.ndarray) -> Batch:
        """The examples `indices` [B]; see `Source.take`."""
        clip_rows = self.clip_rows[indices]
        image = self.images[self.image_rows[indices], :, :, None].astype(np.float32) / 255
        audio = self.clips.waveforms[clip_rows]
        lengths = self.clips.lengths[clip_rows]
        if self.image_noise or self.audio_noise:
            for row, index in enumerate(indices):
                noise = self._noise(int(index), image[row].size + int(lengths[row]))
                image[row] += self.image_noise * noise[: image[row].size].reshape(image[row].shape)
                _add_noise(audio[row, : lengths[row]], noise[image[row].size :], self.audio_noise)
            np.clip(image, 0, 1, out=image)
        return Batch.of(
            {"image": image, "audio": audio},
            indices,
            masks={"audio": np.arange(audio.shape[1]) < lengths[:, None]},
            targets={"label": self.clips.digits[clip_rows]},
        )

    def _noise(self, index: int, size: int) -> np.ndarray:
        """[size] float32 standard normal: the numbers of the pixels, then those of the samples."""
        seed, stream = self.key
        key = np.array([seed, stream << 32 | index], np.uint64)
        return np.random.Generator(np.random.Philox(key=key)).standard_normal(size, np.float32)


def _add_noise(signal: np.ndarray, noise: np.ndarray, ratio: float) -> None:
    """Adds noise [S] with `ratio` times the root mean square of a signal [S], in place."""
    if not ratio:
        return
    power, noise_power = float(signal @ signal), float(noise @ noise)
    signal += np.float32(ratio * (power / noise_power) ** 0.5) * noise
    peak = max(float(signal.max()), -float(signal.min()))
    if peak > 1:
        signal /= np.float32(peak)
