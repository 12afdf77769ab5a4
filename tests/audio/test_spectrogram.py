import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from mmjax.audio import frame_mask, frames, log_mel, mfcc

RATE = 8000
SMALL = {"sample_rate": RATE, "frame_length": 200, "hop": 80, "bands": 24}
NOISE = np.random.default_rng(0).normal(size=(2, 1000)) * 0.3


def reference_log_mel(wave, sample_rate, frame_length, hop, n_fft, bands, low, high, floor):
    """Float64, sample by sample and triangle by triangle, straight from the definition."""

    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    corners = [mel(low) + (mel(high) - mel(low)) * m / (bands + 1) for m in range(bands + 2)]
    rows = []
    for start in range(0, len(wave) - frame_length + 1, hop):
        n = np.arange(frame_length)
        windowed = wave[start : start + frame_length] * np.sin(np.pi * n / frame_length) ** 2
        row = np.zeros(bands)
        for k in range(n_fft // 2 + 1):
            power = abs(np.sum(windowed * np.exp(-2j * np.pi * k * n / n_fft))) ** 2
            place = mel(k * sample_rate / n_fft)
            for m in range(bands):
                left, peak, right = corners[m : m + 3]
                if left < place < right:
                    rising = (place - left) / (peak - left)
                    falling = (right - place) / (right - peak)
                    row[m] += power * min(rising, falling)
        rows.append(np.log(np.maximum(row, floor)))
    return np.array(rows)


@pytest.mark.parametrize("n_fft", [None, 200, 300])
def test_log_mel_is_its_definition(n_fft):
    edges = {"low": 100.0, "high": 3000.0, "floor": 1e-6, "bands": 12}
    ours = log_mel(NOISE, **{**SMALL, **edges}, n_fft=n_fft)
    for row in range(2):
        reference = reference_log_mel(
            NOISE[row], RATE, frame_length=200, hop=80, n_fft=n_fft or 256, **edges
        )
        # float32 of a Fourier transform: about 1e-6 relative in the power.
        np.testing.assert_allclose(ours[row], reference, atol=2e-5)


@pytest.mark.parametrize("frequency", [250.0, 700.0, 1500.0, 3100.0])
def test_a_pure_tone_is_loudest_in_its_band(frequency):
    wave = np.sin(2 * np.pi * frequency * np.arange(2000) / RATE)
    spectrogram = np.asarray(log_mel(wave, **SMALL))
    top = 2595 * np.log10(1 + 4000 / 700)
    place = 2595 * np.log10(1 + frequency / 700) / top * 25 - 1  # peaks of bands at 0, 1, ...
    assert np.all(np.abs(spectrogram.argmax(axis=1) - place) <= 0.75)


def test_log_mel_scales_with_the_logarithm_of_power():
    louder = log_mel(10 * NOISE, **SMALL) - log_mel(NOISE, **SMALL)
    np.testing.assert_allclose(louder, np.log(100), atol=1e-4)


@pytest.mark.parametrize("coefficients", [1, 13, 24])
def test_mfcc_is_the_orthonormal_cosine_transform(coefficients):
    ours = mfcc(NOISE, **SMALL, coefficients=coefficients)
    spectrogram = np.asarray(log_mel(NOISE, **SMALL), np.float64)
    expected = scipy.fft.dct(spectrogram, norm="ortho", axis=-1)[..., :coefficients]
    np.testing.assert_allclose(ours, expected, atol=2e-5)


@pytest.mark.parametrize("features", [log_mel, mfcc])
def test_silence_is_finite_with_a_finite_gradient(features):
    silence = jnp.zeros(800)
    assert np.all(np.isfinite(features(silence, **SMALL)))
    gradient = jax.grad(lambda w: features(w, **SMALL).sum())(silence)
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("features", [log_mel, mfcc])
def test_the_gradient_is_that_of_finite_differences(features):
    wave = jnp.asarray(NOISE[0], jnp.float32)
    direction = jnp.asarray(NOISE[1], jnp.float32)

    @jax.jit
    def loss(step):
        return jnp.mean(features(wave + step * direction, **SMALL) ** 2)

    # Central differences in float32: an error of about 1e-7 * loss / step, and of step squared.
    step = 1e-3
    expected = (loss(step) - loss(-step)) / (2 * step)
    assert abs(expected) > 0.1
    np.testing.assert_allclose(jax.grad(loss)(0.0), expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_inside_is_float32_whatever_comes_in(dtype):
    wave = NOISE.astype(dtype)
    ours = log_mel(wave, **SMALL)
    assert ours.dtype == jnp.float32
    np.testing.assert_array_equal(ours, log_mel(wave.astype(np.float32), **SMALL))


def test_leading_axes_are_kept_and_jit_changes_nothing():
    wave = jnp.asarray(NOISE, jnp.float32).reshape(2, 1, 1000)
    plain = log_mel(wave, **SMALL)
    assert plain.shape == (2, 1, frames(1000, frame_length=200, hop=80), 24)
    np.testing.assert_array_equal(plain[1, 0], log_mel(wave[1, 0], **SMALL))
    compiled = jax.jit(lambda w: mfcc(w, **SMALL))(wave)
    np.testing.assert_allclose(compiled, mfcc(wave, **SMALL), atol=1e-5)


@pytest.mark.parametrize(("samples", "expected"), [(200, 1), (279, 1), (280, 2), (1000, 11)])
def test_only_complete_frames_count(samples, expected):
    assert frames(samples, frame_length=200, hop=80) == expected
    assert log_mel(np.ones(samples), **SMALL).shape == (expected, 24)


def test_frames_that_are_valid_see_nothing_of_the_padding():
    valid = np.arange(1000) < np.array([[1000], [450], [199]])
    ours = frame_mask(valid, frame_length=200, hop=80)
    # 450 samples hold the frames that start at 0, 80, 160 and 240.
    np.testing.assert_array_equal(ours.sum(axis=1), [11, 4, 0])

    def heard(wave):
        return jnp.sum(jnp.where(ours[..., None], log_mel(wave, **SMALL), 0))

    gradient = jax.grad(heard)(jnp.asarray(NOISE[[0, 1, 0]], jnp.float32))
    assert np.all(gradient[~valid] == 0)
    assert np.any(gradient[1, 400:440] != 0)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"hop": 0}, "hop"),
        ({"frame_length": 0}, "frame_length"),
        ({"frame_length": 1001}, "shorter|fewer"),
        ({"high": 4001.0}, "half the sample rate"),
        ({"low": 3000.0, "high": 2000.0}, "choose low below high"),
        ({"low": -1.0}, "low"),
        ({"bands": 0}, "bands"),
        ({"bands": 400}, "fewer bands"),
        ({"n_fft": 100}, "n_fft"),
        ({"floor": 0.0}, "floor"),
    ],
)
def test_wrong_arguments_are_refused_in_one_sentence(options, word):
    with pytest.raises(ValueError, match=word) as caught:
        log_mel(NOISE, **{**SMALL, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dtype", "fix"),
    [
        (np.int16, "convert it to float32, divide it by 32,768"),
        (np.uint8, "convert it to float32, subtract 128 and divide it by 128"),
        (np.int32, "divide it by 2,147,483,648"),
        (bool, "of the type bool"),
        (np.complex64, "real samples"),
    ],
)
def test_samples_that_are_not_floating_are_refused_with_the_fix(dtype, fix):
    for transform in (log_mel, mfcc):
        with pytest.raises(ValueError, match=fix):
            transform(np.zeros(1000, dtype), **SMALL)


@pytest.mark.parametrize("coefficients", [0, 25])
def test_more_coefficients_than_bands_are_refused(coefficients):
    with pytest.raises(ValueError, match="from 1 to 24"):
        mfcc(NOISE, **SMALL, coefficients=coefficients)
