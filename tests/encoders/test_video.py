"""Encoders of videos against the same computed by hand, and what a frame may change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import filled

from mmjax.data import Modality
from mmjax.encoders import MLP, Frames, LeNet, SequenceRNN, SequenceTransformer, TubeletViT, ViT
from mmjax.errors import ConfigError

B, T, SIDE, C = 2, 4, 4, 3
VIDEO = Modality("video", (T, SIDE, SIDE, C))
X = np.random.default_rng(0).random((B, T, SIDE, SIDE, C), np.float32)
IMAGE = MLP(hidden=(), width=5)


def module(config):
    def make():
        return config.build(VIDEO, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))

    graphdef, params, stats, _ = filled(make)
    return nnx.merge(graphdef, params, stats)


def run(encoder, x, mask):
    present = jnp.ones(B, bool)
    call = jax.jit(lambda x, mask: encoder(x, mask, present, train=False, rngs=None))
    return jax.device_get(call(x, mask))


def test_every_frame_is_encoded_as_an_image():
    encoder = module(Frames(IMAGE))
    features = run(encoder, X, None)
    for frame in range(T):
        alone = run(encoder.image, X[:, frame], None)
        np.testing.assert_allclose(features.tokens[:, frame], alone.pooled, atol=1e-6)
    mask = np.array([[1, 0, 0, 1], [1, 1, 1, 1]], bool)
    pooled = run(encoder, X, mask).pooled
    np.testing.assert_allclose(pooled[0], features.tokens[0, [0, 3]].mean(0), atol=1e-6)


@pytest.mark.parametrize("over_time", [SequenceRNN(4, "gru"), SequenceTransformer(4, 1, 2)])
def test_the_frames_are_a_sequence_without_those_that_are_masked(over_time):
    encoder = module(Frames(IMAGE, over_time))
    mask = np.arange(T) < np.array([[3], [3]])
    padded = run(encoder, np.where(mask[:, :, None, None, None], X, np.nan), mask)
    cut = run(encoder, X[:, :3], np.ones((B, 3), bool))
    np.testing.assert_allclose(padded.tokens[:, :3], cut.tokens, atol=1e-6)
    assert padded.mask.sum() == 3 * B


def test_a_tubelet_is_a_block_in_space_and_time():
    encoder = module(TubeletViT(4, 1, 2, patch=2, frames=2))

    kernel, bias = (np.asarray(p[...]) for p in (encoder.tubelet.kernel, encoder.tubelet.bias))
    encoder.transformer.blocks, encoder.transformer.norm = nnx.List(), lambda tokens: tokens
    tokens = run(encoder, X, None).tokens
    positions = np.asarray(encoder.positions.embedding[...])
    number = 0
    for time in (0, 2):
        for row in (0, 2):
            for column in (0, 2):
                block = X[:, time : time + 2, row : row + 2, column : column + 2].reshape(B, -1)
                expected = block @ kernel + bias + positions[number]
                np.testing.assert_allclose(tokens[:, number], expected, atol=1e-5)
                number += 1
    assert number == tokens.shape[1] == encoder.features.tokens


def test_a_tubelet_without_a_valid_frame_is_masked():
    encoder = module(TubeletViT(4, 1, 2, patch=2, frames=2))
    mask = np.array([[1, 0, 0, 0], [1, 1, 0, 1]], bool)
    features = run(encoder, X, mask)
    assert features.mask.tolist() == [[True] * 4 + [False] * 4, [True] * 8]
    zeroed = run(encoder, X * mask[:, :, None, None, None], mask)
    np.testing.assert_array_equal(zeroed.tokens[features.mask], features.tokens[features.mask])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Frames(SequenceRNN()), r"Frames.image is SequenceRNN, which encodes text or seq"),
        (lambda: Frames(LeNet(), ViT()), "Frames.over_time is ViT, which encodes image: choose"),
        (lambda: module(TubeletViT(patch=3)), "4 frames of 4 x 4 pixels cannot be cut into tubel"),
        (lambda: module(TubeletViT(patch=2, frames=3)), "a multiple of 3"),
        (lambda: TubeletViT(frames=0), "TubeletViT.frames is 0"),
    ],
)
def test_refuses_what_does_not_fit(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()
