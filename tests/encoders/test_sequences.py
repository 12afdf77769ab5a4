"""Encoders of words and of vectors over time: closed forms, padding, and what a step may see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import filled

from mmjax.data import Modality
from mmjax.encoders import BagOfWords, SequenceCNN, SequenceRNN, SequenceTransformer
from mmjax.errors import ConfigError
from mmjax.layers import sinusoids, summarised

B, T, D_IN = 2, 6, 3
X = np.random.default_rng(0).standard_normal((B, T, D_IN)).astype(np.float32)
MODALITIES = {
    "sequence": Modality("sequence", (T, D_IN)),
    "text": Modality("text", (4,), vocabulary=5),
}
CAUSAL = {
    "rnn": SequenceRNN(4, "gru", layers=2),
    "cnn": SequenceCNN(4, blocks=2, kernel=3, dilation=2, causal=True),
    "transformer": SequenceTransformer(4, 2, 2, causal=True),
}
SEEING_ALL = {
    "rnn": SequenceRNN(4, "gru", bidirectional=True),
    "cnn": SequenceCNN(4, blocks=3),
    "transformer": SequenceTransformer(4, 1, 2),
}


@functools.cache
def module(config, kind="sequence"):
    def make():
        return config.build(MODALITIES[kind], dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))

    graphdef, params, stats, _ = filled(make)
    return nnx.merge(graphdef, params, stats)


def features(config, x, mask=None, kind="sequence"):
    encoder, present = module(config, kind), jnp.ones(len(x), bool)
    run = jax.jit(lambda x, mask: encoder(x, mask, present, train=False, rngs=None))
    return jax.device_get(run(x, mask))


def seen(config):
    """[T, T]: whether the token at the first index depends on the input at the second."""

    encoder = module(config)

    def tokens(x):
        return encoder(x, None, jnp.ones(1, bool), train=False, rngs=None).tokens[0]

    jacobian = jax.jit(jax.jacrev(tokens))(X[:1])  # [T, D, 1, T, D_in]
    return np.asarray(jnp.abs(jacobian).max(axis=(1, 2, 4))) > 0


@pytest.mark.parametrize("case", CAUSAL)
def test_a_causal_token_sees_no_later_step(case):
    before = np.tril(np.ones((T, T), bool))
    np.testing.assert_array_equal(seen(CAUSAL[case]), before)
    assert seen(SEEING_ALL[case])[0, 1:].any()


def test_the_convolutions_see_as_far_as_their_dilation_says():
    far = seen(SequenceCNN(4, blocks=2, kernel=2, dilation=3, causal=True))
    assert far[-1].tolist() == [False, True, True, False, True, True]  # 0, 1, 3 and 4 steps back


@pytest.mark.parametrize("output", ["tokens", "mean", "max", "last"])
@pytest.mark.parametrize("case", ["rnn", "cnn", "transformer"])
def test_padding_changes_nothing(case, output):
    kind = {"rnn": SequenceRNN, "cnn": SequenceCNN, "transformer": SequenceTransformer}[case]
    config = kind(4, output=output)
    mask = np.arange(T) < np.array([[4], [4]])
    alone = features(config, X[:, :4], np.ones((B, 4), bool))
    padded = features(config, np.where(mask[:, :, None], X, np.nan), mask)
    count = alone.tokens.shape[1]
    # Sums over another number of steps are rounded otherwise.
    np.testing.assert_allclose(padded.tokens[:, :count], alone.tokens, rtol=1e-5, atol=1e-5)
    assert padded.mask[:, :count].all()


@pytest.mark.parametrize("config", [BagOfWords(4), BagOfWords(4, output="sum")])
def test_a_bag_is_of_the_counts_of_the_words(config):
    ids = np.array([[1, 3, 3, 0], [0, 3, 1, 3], [0, 0, 0, 0]], np.int32)
    bag = features(config, ids, kind="text")
    table = np.asarray(module(config, "text").embed.embedding[...])
    total = table[1] + 2 * table[3]
    expected = total if config.output == "sum" else total / 3
    np.testing.assert_allclose(bag.tokens[:2, 0], [expected, expected], atol=1e-6)
    assert (bag.tokens[2] == 0).all()
    assert bag.mask.tolist() == [[True], [True], [False]]


def test_one_token_of_several_is_their_mean_largest_or_last():
    mask = np.array([[1, 0, 1, 0, 1, 0], [0] * 6], bool)
    valid = X[0][mask[0]]
    spoilt = jnp.where(mask[:, :, None], X, jnp.nan)
    for output, expected in (
        ("mean", valid.mean(0)),
        ("max", valid.max(0)),
        ("last", valid[-1]),
    ):
        one = summarised(spoilt, jnp.asarray(mask), output)
        np.testing.assert_allclose(one.tokens[0, 0], expected, rtol=1e-6)
        assert (one.tokens[1] == 0).all()
        assert one.mask.tolist() == [[True], [False]]


def test_the_last_state_is_that_of_each_direction():
    config = SequenceRNN(4, "lstm", bidirectional=True)
    mask = np.array([[0, 1, 1, 0, 1, 0]] * B, bool)
    states = features(config, X, mask).tokens
    last = features(SequenceRNN(4, "lstm", bidirectional=True, output="last"), X, mask).tokens
    np.testing.assert_array_equal(last[:, 0, :2], states[:, 4, :2])
    np.testing.assert_array_equal(last[:, 0, 2:], states[:, 1, 2:])


def test_waves_turn_as_far_for_every_step():
    waves = sinusoids(50, 8)
    np.testing.assert_allclose(waves[0], [0, 1] * 4)
    np.testing.assert_allclose(waves[7, :2], [np.sin(7), np.cos(7)], atol=1e-6)
    np.testing.assert_allclose(waves[7, 6:], [np.sin(0.007), np.cos(0.007)], atol=1e-6)
    products = waves @ waves.T  # of positions t and s: a function of t - s
    np.testing.assert_allclose(products[10, 3], products[47, 40], atol=1e-5)


def test_dropout_changes_training_only():
    config = SequenceRNN(4, "rnn", dropout=0.5)
    same = features(SequenceRNN(4, "rnn"), X).tokens
    np.testing.assert_array_equal(features(config, X).tokens, same)
    rngs = nnx.Rngs(dropout=1)
    trained = module(config)(jnp.asarray(X), None, jnp.ones(B, bool), train=True, rngs=rngs).tokens
    assert np.abs(trained - same).max() > 0.01


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SequenceRNN(width=0), "SequenceRNN.width is 0"),
        (lambda: SequenceRNN(output="first"), "'first'"),
        (lambda: SequenceCNN(kernel=4), "kernel is 4, which has no middle step"),
        (lambda: SequenceTransformer(positions="rotary"), "'rotary'"),
        (lambda: BagOfWords(output="max"), "'max'"),
        (
            lambda: SequenceRNN(5, bidirectional=True).build(
                MODALITIES["sequence"], dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0)
            ),
            "even width",
        ),
    ],
)
def test_refuses_impossible_values(make, sentence):
    with pytest.raises((ConfigError, TypeError), match=sentence):
        make()
