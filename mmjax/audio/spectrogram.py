"""Log-mel spectrograms, on the device and differentiable.

All computations are in float32, for any floating input dtype, so that bands more than about 120 dB
below the loudest are rounding errors; a `floor` or `top_db` above those silences them. A
`Convention` says which frames, window, mel scale and unit are used; by default frames are not
centred and not padded.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Bool, Float, Shaped

from mmjax.audio.convention import HTK, Centre, Convention, mel_filters, window
from mmjax.errors import ConfigError


def frames(samples: int, *, frame_length: int = 400, hop: int = 160, centre: Centre = "no") -> int:
    """Number of frames F.

        F = 1 + floor((samples - frame_length) / hop)   complete frames
        F = 1 + floor(samples / hop)                    with `centre`

    Args:
        samples: length S of the waveform.
        frame_length: samples in a frame.
        hop: samples between the starts of two frames.
        centre: see `Convention`.

    Raises:
        ConfigError: (a ValueError) frame_length or hop is not positive, or the waveform is too
            short: shorter than one frame; with `reflect`, not longer than half a frame.
    """
    if frame_length < 1 or hop < 1:
        raise ConfigError(
            f"frame_length is {frame_length} and hop is {hop}; both are numbers of samples: choose "
            "at least 1."
        )
    if centre == "no":
        if samples < frame_length:
            raise ConfigError(
                f"The waveform has {samples} samples, fewer than one frame of {frame_length}; "
                "choose a smaller frame_length or pad the waveform."
            )
        return 1 + (samples - frame_length) // hop
    least = 1 if centre == "zeros" else 1 + _before(frame_length)
    if samples < least:
        raise ConfigError(
            f"The waveform has {samples} samples, but centred frames of {frame_length} need at "
            f"least {least}; choose a smaller frame_length or pad the waveform."
        )
    return 1 + samples // hop


def frame_mask(
    mask: Bool[Array | np.ndarray, "*batch S"],
    *,
    frame_length: int = 400,
    hop: int = 160,
    centre: Centre = "no",
) -> Bool[Array, "*batch F"]:
    """The frames in which all samples are valid, so that they see nothing of any padding.

    With `centre`, mirrored samples are as valid as those that they repeat, and zeros beyond the
    ends of the array are valid. A clip that ends before its array loses the frames over its end.

    Args:
        mask: valid samples [..., S].
        frame_length: samples in a frame.
        hop: samples between the starts of two frames.
        centre: see `Convention`.

    Returns:
        Valid frames [..., F].

    Raises:
        ConfigError: as `frames` does.
    """
    return _framed(jnp.asarray(mask), frame_length, hop, centre, beyond=True).all(axis=-1)


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
    convention: Convention = HTK,
    mask: Bool[Array | np.ndarray, "*batch S"] | None = None,
) -> Float[Array, "*batch F M"]:
    """Logarithm of the power, or magnitude, in triangular mel bands.

        X[f, k] = sum_n  w[n] x[f hop + n] exp(-2 pi i k n / n_fft)
        log_mel[f, m] = log max( sum_k  T[k, m] |X[f, k]|^e,  floor )

    The corners of the triangles T are equally spaced on the mel scale from `low` to `high`; band m
    rises from 0 at corner m to 1 at corner m + 1 and falls to 0 at corner m + 2. Below the floor
    the value is log(floor) and the gradient 0. Window w, scale, triangles, exponent e and the unit
    of the logarithm are the convention's: by default Hann, HTK, straight in mel, 2 and nats.

    Args:
        waveform: samples [..., S] of a floating type, usually in [-1, 1].
        sample_rate: samples per second, in Hz.
        frame_length: samples in a frame (25 ms at 16 kHz).
        hop: samples between the starts of two frames (10 ms at 16 kHz).
        n_fft: length of the Fourier transform, at least frame_length; None: the next power of two.
        bands: number of mel bands M.
        low: lower edge of the first band, in Hz.
        high: upper edge of the last band, in Hz; None: half the sample rate.
        floor: minimum of a band's value, above 0, in the waveform's unit to the power of e.
        convention: see `Convention`.
        mask: valid samples [..., S]; the others count as 0, and frames with one of them are left
            out of the greatest value of the clip. None: all are valid.

    Returns:
        [..., F, M] float32, F = `frames(S, ...)`, in nats or decibels.

    Raises:
        ConfigError: (a ValueError) the waveform is of integers or too short for a frame, an edge is
            outside 0 to half the sample rate, or a band has no frequency of the transform.

    Example:
        >>> log_mel(jnp.zeros(16_000), sample_rate=16_000).shape
        (98, 64)
    """
    check_floating(waveform.dtype)
    centre = convention.centre
    frames(waveform.shape[-1], frame_length=frame_length, hop=hop, centre=centre)
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
    filters = mel_filters(convention, sample_rate, n_fft, bands, float(low), float(high))

    x = jnp.asarray(waveform).astype(jnp.float32)
    if mask is not None:
        x = jnp.where(mask, x, 0)
    if convention.preemphasis:
        x = x - convention.preemphasis * jnp.concatenate([x[..., :1], x[..., :-1]], axis=-1)
    framed = _framed(x, frame_length, hop, centre, beyond=0.0)
    spectrum = jnp.fft.rfft(
        framed * jnp.broadcast_to(window(convention.window, frame_length), framed.shape), n=n_fft
    )
    energy = spectrum.real**2 + spectrum.imag**2
    if convention.exponent == 1:
        heard = energy > 0  # the slope of a square root at 0 is infinite
        energy = jnp.where(heard, jnp.sqrt(jnp.where(heard, energy, 1)), 0)
    mel = jnp.einsum("...k,km->...m", energy, filters, precision=lax.Precision.HIGHEST)
    level = jnp.log(jnp.maximum(mel, floor))
    if convention.unit == "decibel":
        level = level * (20 / (convention.exponent * np.log(10)))
    if convention.reference == "max" or convention.top_db is not None:
        valid = None
        if mask is not None:
            valid = frame_mask(mask, frame_length=frame_length, hop=hop, centre=centre)
        level = _relative(level, valid, convention)
    if convention.reference != "max" and convention.reference != 1:
        level = level - _level(convention.reference, convention)
    return level


def check_floating(dtype: np.dtype) -> None:
    """Refuses integers: a file's int16 samples, up to 32,768, would be 20.8 nats too loud."""
    if jnp.issubdtype(dtype, jnp.integer):
        full = 2 ** (8 * dtype.itemsize - 1)
        middle = f"subtract {full:,} and " if dtype.kind == "u" else ""
        raise ConfigError(
            f"The waveform is of the type {dtype.name}, but samples in [-1, 1] are needed: "
            f"convert it to float32, {middle}divide it by {full:,}."
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ConfigError(
            f"The waveform is of the type {dtype.name}: give real samples of a floating type."
        )


def _level(value: float, convention: Convention) -> float:
    """The logarithm of a band's value, in the convention's unit."""
    factor = 20 / (convention.exponent * np.log(10)) if convention.unit == "decibel" else 1.0
    return float(factor * np.log(value))


def _relative(level: Array, valid: Array | None, convention: Convention) -> Array:
    """[..., F, M] clipped to the range below the clip's greatest, or with that subtracted."""
    counted = level if valid is None else jnp.where(valid[..., None], level, -jnp.inf)
    counted = counted.reshape(*level.shape[:-2], -1)
    # By its place, so that the gradient goes to one value: that of jnp.max looks for equal ones.
    place = jnp.argmax(counted, axis=-1, keepdims=True)
    flat = level.reshape(counted.shape)
    greatest = jnp.take_along_axis(flat, place, axis=-1)[..., None]
    if convention.top_db is not None:
        level = jnp.maximum(level, greatest - convention.top_db * convention.per_decibel)
    return level - greatest if convention.reference == "max" else level


def _before(frame_length: int) -> int:
    """Samples of the first centred frame before the waveform; frame_length // 2 are after 0."""
    return frame_length - frame_length // 2


def _framed(
    samples: Array, frame_length: int, hop: int, centre: Centre, *, beyond: float | bool
) -> Array:
    """[..., S] -> [..., F, frame_length]; the indices are constants of the compiled program."""
    count = frames(samples.shape[-1], frame_length=frame_length, hop=hop, centre=centre)
    if centre != "no":
        edges = [(0, 0)] * (samples.ndim - 1) + [(_before(frame_length), frame_length // 2)]
        if centre == "reflect":
            samples = jnp.pad(samples, edges, mode="reflect")
        else:
            samples = jnp.pad(samples, edges, constant_values=beyond)
    starts = hop * np.arange(count)
    return samples[..., starts[:, None] + np.arange(frame_length)]
