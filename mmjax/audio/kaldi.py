"""Log-mel filter banks as the Kaldi toolkit computes them, on the device and differentiable."""

import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Shaped

from mmjax.audio.convention import to_mel
from mmjax.audio.spectrogram import check_floating, frames
from mmjax.errors import ConfigError

KaldiWindow = Literal["hanning", "povey"]
FLOOR = float(np.finfo(np.float32).eps)  # Kaldi's


def kaldi_fbank(
    waveform: Shaped[Array | np.ndarray, "*batch S"],
    *,
    sample_rate: int,
    frame_length: int = 400,
    hop: int = 160,
    bands: int = 128,
    low: float = 20.0,
    high: float | None = None,
    window: KaldiWindow = "hanning",
    preemphasis: float = 0.97,
    mask: Bool[Array | np.ndarray, "*batch S"] | None = None,
) -> Float[Array, "*batch F {bands}"]:
    """Logarithm of the power in triangular mel bands, of frames each prepared by itself.

        y[n] = x[n] - mean(x),  z[n] = y[n] - p y[n - 1],  z[0] = (1 - p) y[0]
        fbank[f, m] = ln max( sum_k  T[k, m] |sum_n w[n] z[n] exp(-2 pi i k n / n_fft)|^2,  floor )

    Unlike `log_mel`, each frame loses its mean and is pre-emphasised within itself, the window is
    symmetric, and a band may be so narrow that no frequency is in it: its value is the floor's. The
    floor is 2^-23, for samples in [-1, 1] (Kaldi's own have 16 bits). n_fft is the next power of
    two; frames are not centred.

    Args:
        waveform: samples [..., S] of a floating type.
        sample_rate: samples per second, in Hz.
        frame_length: samples in a frame (25 ms at 16 kHz).
        hop: samples between the starts of two frames (10 ms at 16 kHz).
        bands: number of mel bands M.
        low: lower edge of the first band, in Hz.
        high: upper edge of the last band, in Hz; None: half the sample rate.
        window: w, `hanning`: 0.5 - 0.5 cos(2 pi n / (N - 1)); `povey`: that to the power of 0.85.
        preemphasis: p, in [0, 1].
        mask: valid samples [..., S]; the others count as 0; None: all are valid.

    Returns:
        [..., F, M] float32, F = `frames(S, ...)`, in nats; float64 of a float64 waveform where JAX
        computes in 64 bits. In float32, values near the floor beside loud sound are off by up to
        4e-3.

    Raises:
        ConfigError: (a ValueError) the waveform is of integers or shorter than a frame, an edge is
            outside 0 to half the sample rate, or there is no such window.

    Reference:
        Povey et al., "The Kaldi speech recognition toolkit", ASRU 2011; feat/feature-window.cc and
        feat/mel-computations.cc of https://github.com/kaldi-asr/kaldi.
    """
    check_floating(waveform.dtype)
    count = frames(waveform.shape[-1], frame_length=frame_length, hop=hop)
    if window not in get_args(KaldiWindow):
        names = ", ".join(map(repr, get_args(KaldiWindow)))
        raise ConfigError(f"window is {window!r}: choose one of {names}.")
    high = sample_rate / 2 if high is None else high
    n_fft = 1 << (frame_length - 1).bit_length()
    filters = _filters(sample_rate, n_fft, bands, float(low), float(high))
    double = jax.dtypes.canonicalize_dtype(waveform.dtype) == np.float64
    x = jnp.asarray(waveform).astype(jnp.float64 if double else jnp.float32)
    x = x if mask is None else jnp.where(mask, x, 0)
    x = x[..., hop * np.arange(count)[:, None] + np.arange(frame_length)]
    # y[n] - p y[n - 1] as x[n] - x[n - 1] + (1 - p) y[n - 1], whose rounding errors are as small as
    # the result, not as large as the low frequencies that it takes away.
    before = jnp.concatenate([x[..., :1], x[..., :-1]], axis=-1)
    x = (x - before) + (1 - preemphasis) * (before - x.mean(axis=-1, keepdims=True))
    spectrum = jnp.fft.rfft(x * _window(window, frame_length).astype(x.dtype), n=n_fft)
    energy = spectrum.real**2 + spectrum.imag**2
    mel = jnp.einsum(
        "...k,km->...m", energy, filters.astype(x.dtype), precision=lax.Precision.HIGHEST
    )
    return jnp.log(jnp.maximum(mel, FLOOR))


def _window(kind: KaldiWindow, length: int) -> np.ndarray:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    return hann**0.85 if kind == "povey" else hann


@functools.lru_cache(maxsize=32)
def _filters(sample_rate: int, n_fft: int, bands: int, low: float, high: float) -> np.ndarray:
    """The triangles [n_fft // 2 + 1, bands], straight in mel, of a height of 1."""
    if bands < 1 or not 0 <= low < high <= sample_rate / 2:
        raise ConfigError(
            f"{bands} mel bands go from low = {low:g} Hz to high = {high:g} Hz: choose at least "
            f"one band, and low below high, both from 0 to {sample_rate / 2:g} Hz."
        )
    lowest, highest = to_mel(np.array([low, high]), "htk")  # Kaldi's mel is this to a factor
    corners = np.linspace(lowest, highest, bands + 2)
    places = to_mel(np.arange(n_fft // 2 + 1) * sample_rate / n_fft, "htk")[:, None]
    left, peak, right = corners[:-2], corners[1:-1], corners[2:]
    sides = np.minimum((places - left) / (peak - left), (right - places) / (right - peak))
    return np.maximum(0, sides)
