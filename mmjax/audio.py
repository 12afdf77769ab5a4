"""Log-mel spectrograms and mel-frequency cepstral coefficients, on the device and differentiable.

All computations are in float32, for any floating input dtype. Frames are not centred and not
padded: frame f has the `frame_length` samples from f * hop on, and only complete frames count.

The mel scale is the HTK one, mel(f) = 2595 log10(1 + f / 700) with f in Hz.

Reference:
    Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word
    recognition in continuously spoken sentences", IEEE TASSP 28(4), 1980: mel cepstra.
    Young et al., "The HTK Book", version 3.4, 2006, sections 5.4 and 5.6: this scale and these
    filters.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Shaped

from mmjax.errors import ConfigError


def frames(samples: int, *, frame_length: int = 400, hop: int = 160) -> int:
    """Number of complete frames F = 1 + floor((samples - frame_length) / hop).

    Args:
        samples: length S of the waveform.
        frame_length: samples in a frame.
        hop: samples between the starts of two frames.

    Raises:
        ConfigError: (a ValueError) frame_length or hop is not positive, or the waveform is shorter
            than one frame.
    """
    if frame_length < 1 or hop < 1:
        raise ConfigError(
            f"frame_length is {frame_length} and hop is {hop}; both are numbers of samples: choose "
            "at least 1."
        )
    if samples < frame_length:
        raise ConfigError(
            f"The waveform has {samples} samples, fewer than one frame of {frame_length}; choose a "
            "smaller frame_length or pad the waveform."
        )
    return 1 + (samples - frame_length) // hop


def frame_mask(
    mask: Bool[Array | np.ndarray, "*batch S"], *, frame_length: int = 400, hop: int = 160
) -> Bool[Array, "*batch F"]:
    """The frames in which all samples are valid, without padding.

    Args:
        mask: valid samples [..., S].
        frame_length: samples in a frame.
        hop: samples between the starts of two frames.

    Returns:
        Valid frames [..., F].

    Raises:
        ConfigError: as `frames` does.
    """
    return _framed(jnp.asarray(mask), frame_length, hop).all(axis=-1)


def log_mel(
    waveform: Shaped[Array | np.ndarray, "*batch S"],
    *,
    sample_rate: int,
    frame_length: int = 400,
    hop: int = 160,
    n_fft: int | None = None,
    bands: int = 64,
    low: float = 0.0,
    high: float | None = None,
    floor: float = 1e-10,
) -> Float[Array, "*batch F M"]:
    """Natural logarithm of the power in triangular mel bands.

        X[f, k] = sum_n  w[n] x[f hop + n] exp(-2 pi i k n / n_fft)
        log_mel[f, m] = log max( sum_k  T[k, m] |X[f, k]|^2,  floor )

    w is the periodic Hann window. The corners of the triangles T are equally spaced on the mel
    scale from `low` to `high`; band m rises from corner m to 1 at corner m + 1 and falls to 0 at
    corner m + 2, linearly in mel. Below the floor the value is log(floor) and the gradient 0.

    Args:
        waveform: samples [..., S] of a floating type, usually in [-1, 1].
        sample_rate: samples per second, in Hz.
        frame_length: samples in a frame (25 ms at 16 kHz).
        hop: samples between the starts of two frames (10 ms at 16 kHz).
        n_fft: length of the Fourier transform, at least frame_length; None: the next power of two.
        bands: number of mel bands M.
        low: lower edge of the first band, in Hz.
        high: upper edge of the last band, in Hz; None: half the sample rate.
        floor: minimum power, in the square of the waveform's unit.

    Returns:
        [..., F, M] float32, F = `frames(S, ...)`.

    Raises:
        ConfigError: (a ValueError) the waveform is of integers, or shorter than a frame, an edge is
            outside 0 to half the sample rate, or a band has no frequency of the transform.

    Example:
        >>> log_mel(jnp.zeros(16_000), sample_rate=16_000).shape
        (98, 64)
    """
    _check_floating(waveform.dtype)
    frames(waveform.shape[-1], frame_length=frame_length, hop=hop)
    if n_fft is None:
        n_fft = 1 << (frame_length - 1).bit_length()
    if n_fft < frame_length:
        raise ConfigError(
            f"n_fft is {n_fft}, less than frame_length ({frame_length}): choose at least "
            f"{frame_length}."
        )
    if not floor > 0:
        raise ConfigError(f"floor is {floor}; its logarithm is taken, so choose it above 0.")
    high = sample_rate / 2 if high is None else high
    filters = _mel_filters(sample_rate, n_fft, bands, float(low), float(high))

    framed = _framed(jnp.asarray(waveform).astype(jnp.float32), frame_length, hop)
    window = jnp.broadcast_to(_hann(frame_length), framed.shape)
    spectrum = jnp.fft.rfft(framed * window, n=n_fft)
    power = spectrum.real**2 + spectrum.imag**2
    mel = jnp.einsum("...k,km->...m", power, filters, precision=lax.Precision.HIGHEST)
    return jnp.log(jnp.maximum(mel, floor))


def mfcc(
    waveform: Shaped[Array | np.ndarray, "*batch S"],
    *,
    sample_rate: int,
    coefficients: int = 13,
    frame_length: int = 400,
    hop: int = 160,
    n_fft: int | None = None,
    bands: int = 64,
    low: float = 0.0,
    high: float | None = None,
    floor: float = 1e-10,
) -> Float[Array, "*batch F {coefficients}"]:
    """Mel-frequency cepstral coefficients: the orthonormal DCT-II of `log_mel` over its bands.

        mfcc[f, c] = a_c sum_m  log_mel[f, m] cos(pi c (2 m + 1) / (2 M))
        a_0 = sqrt(1 / M),  a_c = sqrt(2 / M) for c > 0

    No liftering; coefficient 0, the loudness, is kept.

    Args:
        waveform: samples [..., S] of a floating type, usually in [-1, 1].
        sample_rate: samples per second, in Hz.
        coefficients: number of coefficients, from the lowest, at most `bands`.
        frame_length: see `log_mel`.
        hop: see `log_mel`.
        n_fft: see `log_mel`.
        bands: see `log_mel`.
        low: see `log_mel`.
        high: see `log_mel`.
        floor: see `log_mel`.

    Returns:
        [..., F, coefficients] float32.

    Raises:
        ConfigError: (a ValueError) as for `log_mel`, or coefficients is not from 1 to bands.
    """
    if not 1 <= coefficients <= bands:
        raise ConfigError(
            f"coefficients is {coefficients}; choose from 1 to {bands}, the number of bands."
        )
    spectrogram = log_mel(
        waveform,
        sample_rate=sample_rate,
        frame_length=frame_length,
        hop=hop,
        n_fft=n_fft,
        bands=bands,
        low=low,
        high=high,
        floor=floor,
    )
    cosines = _cosines(bands, coefficients)
    return jnp.einsum("...m,mc->...c", spectrogram, cosines, precision=lax.Precision.HIGHEST)


def _check_floating(dtype: np.dtype) -> None:
    """Refuses integers: a file's int16 samples, up to 32,768, would be 20.8 nats too loud."""
    if jnp.issubdtype(dtype, jnp.integer):
        full = 2 ** (8 * dtype.itemsize - 1)
        middle = f"subtract {full:,} and " if dtype.kind == "u" else ""
        raise ConfigError(
            f"The waveform is of the type {dtype.name}, but log-mel needs samples in [-1, 1]: "
            f"convert it to float32, {middle}divide it by {full:,}."
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ConfigError(
            f"The waveform is of the type {dtype.name}: give real samples of a floating type."
        )


def _framed(samples: Array, frame_length: int, hop: int) -> Array:
    """[..., S] -> [..., F, frame_length]; the indices are constants of the compiled program."""
    starts = hop * np.arange(frames(samples.shape[-1], frame_length=frame_length, hop=hop))
    return samples[..., starts[:, None] + np.arange(frame_length)]


def _hann(length: int) -> np.ndarray:
    """The periodic Hann window [length]."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def _mel(frequency: np.ndarray) -> np.ndarray:
    """Hz -> mel, HTK's formula."""
    return 2595 * np.log10(1 + frequency / 700)


@functools.lru_cache(maxsize=32)
def _mel_filters(sample_rate: int, n_fft: int, bands: int, low: float, high: float) -> np.ndarray:
    """The triangles T [n_fft // 2 + 1, bands] float32 of `log_mel`."""
    nyquist = sample_rate / 2
    if not 0 <= low < high <= nyquist:
        raise ConfigError(
            f"The mel bands go from low = {low:g} Hz to high = {high:g} Hz: choose low below high, "
            f"both from 0 to {nyquist:g} Hz, half the sample rate."
        )
    if bands < 1:
        raise ConfigError(f"bands is {bands}; choose at least 1.")
    lowest, highest = _mel(np.array([low, high]))
    spacing = (highest - lowest) / (bands + 1)
    peaks = lowest + spacing * np.arange(1, bands + 1)
    frequencies = _mel(np.arange(n_fft // 2 + 1) * sample_rate / n_fft)[:, None]
    filters = np.maximum(0, 1 - np.abs(frequencies - peaks) / spacing)
    empty = np.flatnonzero(filters.sum(axis=0) == 0)
    if len(empty):
        raise ConfigError(
            f"Mel band {empty[0]} of {bands} has no frequency of the Fourier transform in it: "
            f"choose fewer bands than {bands} or a larger n_fft than {n_fft}."
        )
    return filters.astype(np.float32)


@functools.lru_cache(maxsize=32)
def _cosines(bands: int, coefficients: int) -> np.ndarray:
    """The orthonormal DCT-II [bands, coefficients] float32."""
    angle = np.pi / (2 * bands) * np.outer(2 * np.arange(bands) + 1, np.arange(coefficients))
    scale = np.where(np.arange(coefficients) == 0, np.sqrt(1 / bands), np.sqrt(2 / bands))
    return (scale * np.cos(angle)).astype(np.float32)
