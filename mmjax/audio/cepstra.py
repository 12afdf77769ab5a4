"""Mel-frequency cepstral coefficients and their slopes over time."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Shaped

from mmjax.audio.convention import HTK, Convention
from mmjax.audio.spectrogram import log_mel
from mmjax.errors import ConfigError


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
    lifter: float = 0.0,
    convention: Convention = HTK,
    mask: Bool[Array | np.ndarray, "*batch S"] | None = None,
) -> Float[Array, "*batch F {coefficients}"]:
    """Mel-frequency cepstral coefficients: `cepstra` of `log_mel`.

    Coefficient 0, the loudness, is kept.

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
        lifter: see `cepstra`.
        convention: see `log_mel`.
        mask: see `log_mel`.

    Returns:
        [..., F, coefficients] float32, in the unit of the convention.

    Raises:
        ConfigError: (a ValueError) as for `log_mel` and `cepstra`.

    Reference:
        Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word
        recognition in continuously spoken sentences", IEEE TASSP 28(4), 1980.
    """
    _check(coefficients, bands, lifter)
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
        convention=convention,
        mask=mask,
    )
    return cepstra(spectrogram, coefficients, lifter=lifter)


def cepstra(
    spectrogram: Float[Array | np.ndarray, "*batch F M"],
    coefficients: int = 13,
    *,
    lifter: float = 0.0,
) -> Float[Array, "*batch F {coefficients}"]:
    """The orthonormal DCT-II of a log-mel spectrogram over its bands.

        c[f, n] = l_n a_n sum_m  log_mel[f, m] cos(pi n (2 m + 1) / (2 M))
        a_0 = sqrt(1 / M),  a_n = sqrt(2 / M) for n > 0
        l_n = 1 + (L / 2) sin(pi n / L)

    l, the lifter of HTK, leaves coefficient 0 as it is. librosa's has n + 1 in the place of n.

    Args:
        spectrogram: [..., F, M], as `log_mel` gives it.
        coefficients: number of coefficients, from the lowest, at most M.
        lifter: L, usually 22, at least `coefficients`; 0: no liftering.

    Raises:
        ConfigError: (a ValueError) coefficients is not from 1 to M, or the lifter is too short.

    Reference:
        Young et al., "The HTK Book", version 3.4, 2006, section 5.6: transform and lifter.
    """
    bands = spectrogram.shape[-1]
    _check(coefficients, bands, lifter)
    cosines = _cosines(bands, coefficients, float(lifter))
    return jnp.einsum("...m,mc->...c", spectrogram, cosines, precision=lax.Precision.HIGHEST)


def deltas(
    features: Float[Array | np.ndarray, "*batch F D"],
    width: int = 9,
    *,
    mask: Bool[Array | np.ndarray, "*batch F"] | None = None,
) -> Float[Array, "*batch F D"]:
    """The slope of each feature over time: of the least-squares line through a window of frames.

        d[f] = sum_n  n (x[f + n] - x[f - n]) / (2 sum_n n^2),  n = 1 ... (width - 1) / 2

    Frames whose window goes beyond the first or the last valid frame have the slope of the nearest
    complete window; if there are fewer valid frames than `width`, all have the slope of the line
    through them. Frames that are not valid in between are left out of the line. One valid frame
    has the slope 0. `deltas(deltas(x))` are the accelerations.

    So it is for complete frames the regression of HTK and the Savitzky-Golay filter of order 1, and
    at the edges the latter with `mode="interp"`, as librosa's `feature.delta` computes both.

    Args:
        features: [..., F, D], frames in the second-last axis.
        width: of the window, in frames, odd and at least 3.
        mask: valid frames [..., F]; None: all are.

    Returns:
        [..., F, D] float32, per frame; 0 in frames that are not valid.

    Raises:
        ConfigError: (a ValueError) width is even or below 3.

    Reference:
        Young et al., "The HTK Book", version 3.4, 2006, equation 5.16.
        Savitzky and Golay, "Smoothing and differentiation of data by simplified least squares
        procedures", Analytical Chemistry 36(8), 1964.
    """
    if width < 3 or width % 2 == 0:
        raise ConfigError(f"width is {width}: choose an odd number of frames, 3 or more.")
    count, half = features.shape[-2], width // 2
    # Without a mask, one row for all: XLA takes seconds to fold larger constants.
    valid = jnp.ones(count, bool) if mask is None else jnp.asarray(mask)
    known = jnp.where(valid[..., None], features, 0).astype(jnp.float32)
    weight = valid[..., None].astype(jnp.float32)

    frame = jnp.arange(count)
    first = jnp.argmax(valid, axis=-1, keepdims=True)
    last = count - 1 - jnp.argmax(valid[..., ::-1], axis=-1, keepdims=True)
    least, most = first + half, last - half
    middle = (first + last) // 2
    nearest = jnp.where(least <= most, jnp.clip(frame, least, most), middle)

    def moment(values: Array, power: int) -> Array:
        """sum_n n^power values[f + n] at every frame, with zeros outside."""
        edges = [(0, 0)] * (values.ndim - 2) + [(half, half), (0, 0)]
        padded = jnp.pad(values, edges)
        return sum(
            (
                n**power * lax.slice_in_dim(padded, half + n, half + n + count, axis=-2)
                for n in range(-half, half + 1)
            ),
            start=jnp.zeros_like(values),
        )

    n0, n1, n2 = (moment(weight, power) for power in range(3))
    spread = n0 * n2 - n1**2  # whole numbers, and 0 with fewer than two frames
    slope = (n0 * moment(known, 1) - n1 * moment(known, 0)) / jnp.maximum(spread, 1)
    slope = jnp.where(spread > 0, slope, 0)
    nearest = jnp.broadcast_to(nearest, features.shape[:-1])
    slope = jnp.take_along_axis(slope, nearest[..., None], axis=-2)
    return jnp.where(valid[..., None], slope, 0)


def _check(coefficients: int, bands: int, lifter: float) -> None:
    if not 1 <= coefficients <= bands:
        raise ConfigError(
            f"coefficients is {coefficients}; choose from 1 to {bands}, the number of bands."
        )
    if lifter and lifter < coefficients:
        raise ConfigError(
            f"lifter is {lifter:g}, less than the {coefficients} coefficients: choose at least "
            f"{coefficients}, or 0 for no liftering."
        )


@functools.lru_cache(maxsize=32)
def _cosines(bands: int, coefficients: int, lifter: float) -> np.ndarray:
    """The orthonormal DCT-II with the lifter, [bands, coefficients] float32."""
    order = np.arange(coefficients)
    angle = np.pi / (2 * bands) * np.outer(2 * np.arange(bands) + 1, order)
    scale = np.where(order == 0, np.sqrt(1 / bands), np.sqrt(2 / bands))
    if lifter:
        scale = scale * (1 + lifter / 2 * np.sin(np.pi * order / lifter))
    return (scale * np.cos(angle)).astype(np.float32)
