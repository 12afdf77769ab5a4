"""Conventions of spectrograms: centred frames, dynamic range, masks, pre-emphasis, lifter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.audio import Convention, cepstra, frame_mask, frames, log_mel
from mmjax.errors import ConfigError

SMALL = {"sample_rate": 8000, "frame_length": 200, "hop": 80, "bands": 24}
FRAMING = {"frame_length": 200, "hop": 80}
NOISE = np.float32(np.random.default_rng(0).normal(size=(3, 1000)) * 0.3)
CENTRES = ["no", "reflect", "zeros"]


@pytest.mark.parametrize("frame_length", [200, 201])
@pytest.mark.parametrize(("centre", "mode"), [("reflect", "reflect"), ("zeros", "constant")])
def test_centred_frames_are_those_of_the_padded_waveform(centre, mode, frame_length):
    sizes = SMALL | {"frame_length": frame_length}
    ours = log_mel(NOISE, **sizes, convention=Convention(centre=centre))
    before = frame_length - frame_length // 2
    padded = np.pad(NOISE, [(0, 0), (before, frame_length // 2)], mode=mode)
    assert ours.shape[1] == frames(1000, frame_length=frame_length, hop=80, centre=centre) == 13
    np.testing.assert_array_equal(ours, log_mel(padded, **sizes))


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("reference", [1.0, "max"])
def test_valid_frames_see_nothing_of_the_padding(centre, reference):
    mask = np.arange(1000) < np.array([[1000], [450], [0]])
    convention = Convention(centre=centre, unit="decibel", reference=reference, top_db=20.0)
    valid = np.asarray(frame_mask(mask, **FRAMING, centre=centre))
    assert valid.shape == (3, frames(1000, **FRAMING, centre=centre))
    assert valid[0].all()
    # Centred frames begin at -100, -20, 60 ...: those up to 220 end before sample 450.
    assert list(valid.sum(axis=1)[1:]) == ([4, 0] if centre == "no" else [5, 0])

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def heard(wave):
        mel = log_mel(wave, **SMALL, convention=convention, mask=mask)
        return jnp.sum(jnp.where(valid[..., None], mel, 0) ** 2), mel

    gradient, mel = heard(jnp.asarray(NOISE))
    assert (gradient[~mask] == 0).all()
    assert (gradient[1, 200:400] != 0).any()
    spoilt, again = heard(jnp.where(mask, NOISE, jnp.nan))
    np.testing.assert_array_equal(spoilt, gradient)
    np.testing.assert_array_equal(again[valid], mel[valid])


def test_decibels_are_of_power_for_both_exponents_and_relative_to_the_reference():
    tone = np.sin(2 * np.pi * 1000 / 8000 * np.arange(800))
    for exponent in (1, 2):
        decibel = Convention(exponent=exponent, unit="decibel")
        one, ten = (log_mel(a * tone, **SMALL, convention=decibel).max() for a in (1, 10))
        np.testing.assert_allclose(ten - one, 20, atol=1e-4)
        halved = Convention(exponent=exponent, unit="decibel", reference=2.0)
        shift = one - log_mel(tone, **SMALL, convention=halved).max()
        np.testing.assert_allclose(shift, 20 / exponent * np.log10(2), atol=1e-4)
    nats = log_mel(NOISE, **SMALL)
    decibels = log_mel(NOISE, **SMALL, convention=Convention(unit="decibel"))
    np.testing.assert_allclose(decibels, 10 / np.log(10) * nats, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("unit", "limit"), [("decibel", 20.0), ("nat", 2 * np.log(10))])
def test_the_dynamic_range_is_of_each_clip(unit, limit):
    loud = NOISE * np.float32([[1], [0.01], [0]])
    plain = np.asarray(log_mel(loud, **SMALL, convention=Convention(unit=unit)))
    ours = log_mel(loud, **SMALL, convention=Convention(unit=unit, top_db=20.0))
    least = plain.max(axis=(1, 2), keepdims=True) - limit
    assert (plain[:2] < least[:2]).any(axis=(1, 2)).all()
    np.testing.assert_allclose(ours, np.maximum(plain, least), rtol=1e-5, atol=1e-5)
    relative = log_mel(loud, **SMALL, convention=Convention(unit=unit, reference="max"))
    np.testing.assert_array_equal(relative.max(axis=(1, 2)), 0)


def test_magnitudes_of_silence_have_a_finite_gradient():
    convention = Convention(exponent=1, unit="decibel", top_db=80.0)
    loss = jax.jit(lambda w: log_mel(w, **SMALL, convention=convention).sum())
    gradient = jax.grad(loss)(jnp.zeros(800))
    np.testing.assert_array_equal(gradient, 0)


def test_preemphasis_is_a_difference_of_neighbours():
    ours = log_mel(NOISE, **SMALL, convention=Convention(preemphasis=0.97))
    before = np.concatenate([NOISE[:, :1], NOISE[:, :-1]], axis=1)
    np.testing.assert_allclose(ours, log_mel(NOISE - 0.97 * before, **SMALL), atol=1e-4)


def test_the_lifter_is_htks():
    mel = log_mel(NOISE, **SMALL)
    lift = 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    # 1e-4: coefficients up to 60, raised up to twelve times.
    np.testing.assert_allclose(cepstra(mel, 13, lifter=22.0), lift * cepstra(mel, 13), atol=1e-4)
    with pytest.raises(ConfigError, match="lifter is 5"):
        cepstra(mel, 13, lifter=5.0)


@pytest.mark.parametrize(("centre", "shortest"), [("no", 200), ("reflect", 101), ("zeros", 1)])
def test_a_clip_that_is_too_short_is_refused(centre, shortest):
    assert frames(shortest, **FRAMING, centre=centre) >= 1
    convention = Convention(centre=centre)
    assert np.isfinite(log_mel(np.ones(shortest), **SMALL, convention=convention)).all()
    with pytest.raises(ConfigError, match=r"choose a smaller frame_length or pad the waveform"):
        log_mel(np.ones(shortest - 1), **SMALL, convention=convention)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"reference": 0.0}, "number above 0"),
        ({"top_db": 0.0}, "range above 0 dB"),
        ({"preemphasis": 2.0}, "from 0"),
    ],
)
def test_wrong_conventions_are_refused(options, word):
    with pytest.raises(ConfigError, match=word):
        Convention(**options)
