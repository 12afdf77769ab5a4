"""Slopes of features over time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from mmjax import audio
from mmjax.errors import ConfigError

F, D = 20, 3
deltas = jax.jit(audio.deltas, static_argnames="width")
FEATURES = np.float32(np.random.default_rng(0).normal(size=(2, F, D)))


@pytest.mark.parametrize("width", [3, 5, 9])
def test_slopes_are_those_of_savitzky_and_golay(width):
    expected = scipy.signal.savgol_filter(
        np.float64(FEATURES), width, polyorder=1, deriv=1, axis=1, mode="interp"
    )
    np.testing.assert_allclose(deltas(FEATURES, width), expected, atol=1e-6)


def test_a_clip_has_the_slopes_that_it_has_without_its_padding():
    mask = np.zeros((2, F), bool)
    mask[0, :14] = mask[1, 4:] = True
    ours = deltas(FEATURES, mask=mask)
    np.testing.assert_allclose(ours[0, :14], deltas(FEATURES[0, :14]), atol=1e-6)
    np.testing.assert_allclose(ours[1, 4:], deltas(FEATURES[1, 4:]), atol=1e-6)
    np.testing.assert_array_equal(ours[~mask], 0)


@pytest.mark.parametrize("valid", [5, 2, 1, 0])
def test_fewer_frames_than_the_window_have_the_slope_of_the_line_through_them(valid):
    mask = np.arange(F) < valid
    ours = np.asarray(deltas(FEATURES[0], mask=mask))
    slope = np.polyfit(np.arange(valid), FEATURES[0, :valid], 1)[0] if valid > 1 else np.zeros(D)
    np.testing.assert_allclose(ours[:valid], np.tile(slope, (valid, 1)), atol=1e-5)
    np.testing.assert_array_equal(ours[valid:], 0)


def test_masked_frames_have_no_gradient_and_gaps_are_left_out():
    mask = np.ones(F, bool)
    mask[[6, 15, 16, 17, 18, 19]] = False
    line = 2 * jnp.arange(F, dtype=jnp.float32)[:, None] + 1
    np.testing.assert_allclose(deltas(jnp.where(mask[:, None], line, 99), mask=mask)[mask], 2, 1e-5)

    def product(features):
        return jnp.sum(deltas(features, mask=mask) * jnp.sin(jnp.arange(F))[:, None])

    gradient = jax.grad(product)(jnp.asarray(FEATURES[0]))
    assert (gradient[~mask] == 0).all()
    assert (gradient[mask] != 0).all()


@pytest.mark.parametrize("width", [1, 4])
def test_other_widths_are_refused(width):
    with pytest.raises(ConfigError, match="odd number of frames"):
        deltas(FEATURES, width)
