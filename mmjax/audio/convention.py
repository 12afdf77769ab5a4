"""Which of the conventions a mel spectrogram follows, and the windows and filters of each."""

import dataclasses
import functools
from typing import Literal, get_args

import numpy as np

from mmjax.errors import ConfigError

Scale = Literal["htk", "slaney"]
Axis = Literal["mel", "hertz"]
Window = Literal["hann", "hamming", "rectangular"]
Centre = Literal["no", "reflect", "zeros"]
Unit = Literal["nat", "decibel"]

_COSINE = {"hann": 0.5, "hamming": 0.54, "rectangular": 1.0}  # a of a - (1 - a) cos(2 pi n / N)
_BREAK, _STEP = 1000.0, np.log(6.4) / 27  # where Slaney's scale turns logarithmic; nats per mel


@dataclasses.dataclass(frozen=True)
class Convention:
    """How `log_mel` and `mfcc` compute; features of two conventions are not comparable.

    The default, `HTK`, is HTK's in natural logarithms; `LIBROSA` has the values of librosa's
    `melspectrogram` and `power_to_db`.

    Attributes:
        scale: mel scale, f in Hz. `htk`: mel(f) = 2595 log10(1 + f / 700). `slaney`:
            mel(f) = 3 f / 200 up to 1000 Hz, and 15 + 27 ln(f / 1000) / ln(6.4) from there.
        triangles: the axis on which the sides of a band's triangle are straight; its corners are
            equally spaced in mel in any case. `mel` (HTK) or `hertz` (Slaney, librosa).
        area: whether each triangle is divided by half its width in Hz, so that its area is 1 Hz
            (Slaney's normalisation), instead of a peak of 1.
        window: a - (1 - a) cos(2 pi n / N), periodic, with a = 0.5 for `hann`, 0.54 for `hamming`
            and 1 for `rectangular`.
        centre: `no`: frame f begins at sample f hop, and only complete frames count. `reflect` and
            `zeros`: frame f has its middle at sample f hop, and the waveform is continued at both
            ends by its mirror image (without the end sample twice) or by zeros.
        exponent: of the magnitudes |X|, which the bands add up: 2 for power, 1 for magnitude.
        unit: `nat`: ln m of a band's value m. `decibel`: (20 / exponent) log10 m.
        reference: value m, above 0, whose level is 0; `max`: the greatest of the clip.
        top_db: dynamic range in dB: values further below the greatest of the clip are raised to
            there, and their gradient is that of the greatest; None: no limit.
        preemphasis: p in [0, 1] of y[n] = x[n] - p x[n - 1], with x[-1] = x[0]; 0: none.

    Reference:
        Young et al., "The HTK Book", version 3.4, 2006, sections 5.2, 5.4 and 5.6.
        Slaney, "Auditory Toolbox", version 2, Interval Research technical report 1998-010.
    """

    scale: Scale = "htk"
    triangles: Axis = "mel"
    area: bool = False
    window: Window = "hann"
    centre: Centre = "no"
    exponent: Literal[1, 2] = 2
    unit: Unit = "nat"
    reference: float | Literal["max"] = 1.0
    top_db: float | None = None
    preemphasis: float = 0.0

    def __post_init__(self) -> None:
        choices = {"scale": Scale, "triangles": Axis, "window": Window, "centre": Centre}
        choices |= {"unit": Unit, "exponent": Literal[1, 2]}
        for field, known in choices.items():
            value = getattr(self, field)
            if value not in get_args(known):
                names = ", ".join(map(repr, get_args(known)))
                raise ConfigError(f"Convention.{field} is {value!r}: choose one of {names}.")
        if self.reference != "max" and not (
            isinstance(self.reference, float | int) and self.reference > 0
        ):
            raise ConfigError(
                f"Convention.reference is {self.reference!r}; its logarithm is taken: choose a "
                "number above 0, or 'max'."
            )
        if self.top_db is not None and not self.top_db > 0:
            raise ConfigError(
                f"Convention.top_db is {self.top_db}: choose a range above 0 dB, or None for none."
            )
        if not 0 <= self.preemphasis <= 1:
            raise ConfigError(
                f"Convention.preemphasis is {self.preemphasis}: choose from 0 (none) to 1."
            )

    @property
    def per_decibel(self) -> float:
        """How much one decibel is in `unit`."""
        if self.unit == "decibel":
            return 1.0
        return float(self.exponent * np.log(10) / 20)


HTK = Convention()
LIBROSA = Convention(
    scale="slaney", triangles="hertz", area=True, centre="zeros", unit="decibel", top_db=80.0
)


def window(kind: Window, length: int) -> np.ndarray:
    """The periodic window [length] float32."""
    a = _COSINE[kind]
    return (a - (1 - a) * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def to_mel(hertz: np.ndarray, scale: Scale) -> np.ndarray:
    """Hz -> mel."""
    if scale == "htk":
        return 2595 * np.log10(1 + hertz / 700)
    above = 15 + np.log(np.maximum(hertz, _BREAK) / _BREAK) / _STEP
    return np.where(hertz < _BREAK, 3 * hertz / 200, above)


def to_hertz(mel: np.ndarray, scale: Scale) -> np.ndarray:
    """Mel -> Hz."""
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, 200 * mel / 3, _BREAK * np.exp(_STEP * (np.maximum(mel, 15) - 15)))


@functools.lru_cache(maxsize=32)
def mel_filters(
    convention: Convention, sample_rate: int, n_fft: int, bands: int, low: float, high: float
) -> np.ndarray:
    """The triangles T [n_fft // 2 + 1, bands] float32 of `log_mel`.

    Raises:
        ConfigError: an edge is outside 0 to half the sample rate, or a band is empty.
    """
    nyquist, scale = sample_rate / 2, convention.scale
    if not 0 <= low < high <= nyquist:
        raise ConfigError(
            f"The mel bands go from low = {low:g} Hz to high = {high:g} Hz: choose low below high, "
            f"both from 0 to {nyquist:g} Hz, half the sample rate."
        )
    if bands < 1:
        raise ConfigError(f"bands is {bands}; choose at least 1.")
    lowest, highest = to_mel(np.array([low, high]), scale)
    corners = lowest + (highest - lowest) / (bands + 1) * np.arange(bands + 2)
    hertz = to_hertz(corners, scale)
    places = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    if convention.triangles == "hertz":
        corners = hertz
    else:
        places = to_mel(places, scale)
    left, peak, right = corners[:-2], corners[1:-1], corners[2:]
    rising = (places[:, None] - left) / (peak - left)
    falling = (right - places[:, None]) / (right - peak)
    filters = np.maximum(0, np.minimum(rising, falling))
    empty = np.flatnonzero(filters.sum(axis=0) == 0)
    if len(empty):
        raise ConfigError(
            f"Mel band {empty[0]} of {bands} has no frequency of the Fourier transform in it: "
            f"choose fewer bands than {bands} or a larger n_fft than {n_fft}."
        )
    if convention.area:
        filters *= 2 / (hertz[2:] - hertz[:-2])
    return filters.astype(np.float32)
