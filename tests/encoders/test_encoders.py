"""What every encoder keeps to: a new one is one line of `CASES`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import direction, filled

from mmjax.audio import LIBROSA
from mmjax.data import Modality
from mmjax.encoders import (
    AST,
    BERT,
    CRNN,
    LSTM,
    MFCCGRU,
    MLP,
    AudioTransformer,
    BagOfWords,
    CLIPImage,
    CLIPText,
    Frames,
    LeNet,
    LogMelCNN,
    SequenceCNN,
    SequenceRNN,
    SequenceTransformer,
    SileroVAD,
    TextTransformer,
    TubeletViT,
    ViT,
)
from mmjax.errors import ConfigError

B = 3
flat = jax.tree_util.tree_leaves_with_path
VECTOR = Modality("vector", (5,))
IMAGE = Modality("image", (9, 6, 2))
AUDIO = Modality("audio", (1_200,), sample_rate=8_000)
TEXT = Modality("text", (7,), vocabulary=1 + 2 * B * 7)
VIDEO = Modality("video", (4, 4, 6, 2))
SEQUENCE = Modality("sequence", (7, 5))
CASES = {
    "mlp": (MLP(hidden=(8,), width=6, activation="gelu"), VECTOR),
    "mlp_image": (MLP(hidden=(8,), width=6), IMAGE),
    "lenet": (LeNet(blocks=3, channels=4, width=6), IMAGE),
    "lenet_batch_norm": (LeNet(channels=4, width=6, batch_norm=True), IMAGE),
    "log_mel_cnn": (LogMelCNN(blocks=2, channels=4, width=6, bands=8), AUDIO),
    "log_mel_cnn_batch_norm": (LogMelCNN(2, channels=4, bands=8, batch_norm=True), AUDIO),
    "vit": (ViT(width=8, layers=1, heads=2, hidden=8, patch=3, registers=1), IMAGE),
    "vit_mean": (
        ViT(8, 1, 2, 8, 3, pooling="mean", class_token=False, output="pooled"),
        IMAGE,
    ),
    "bert": (BERT(8, 1, 2, 8, positions=9, dropout=0.0, pooling="class"), TEXT),
    "clip_image": (CLIPImage(8, 1, 2, 8, patch=3, projection=4, output="pooled"), IMAGE),
    "clip_text": (CLIPText(8, 1, 2, 8, positions=9, projection=0), TEXT),
    "log_mel_cnn_vggish": (
        LogMelCNN(2, channels=2, width=6, bands=8, convolutions=(1, 2), convention=LIBROSA),
        AUDIO,
    ),
    "crnn": (CRNN(blocks=2, channels=4, width=6, bands=8, halve_time=1), AUDIO),
    "crnn_batch_norm": (CRNN(1, channels=4, width=6, bands=8, batch_norm=True), AUDIO),
    "audio_transformer": (
        AudioTransformer(width=8, layers=1, heads=2, patch=(4, 4), stride=(2, 4), bands=8),
        AUDIO,
    ),
    "silero_vad": (SileroVAD(), Modality("audio", (1_200,), sample_rate=16_000)),
    "ast": (
        AST(8, 1, 2, 8, patch=4, stride=(2, 3), frames=13, bands=8, sample_rate=8_000),
        AUDIO,
    ),
    "mfcc_gru": (MFCCGRU(coefficients=5, width=6, bands=8), AUDIO),
    "lstm": (LSTM(width=6), TEXT),
    "text_transformer": (TextTransformer(width=8, layers=1, heads=2), TEXT),
    "bag_of_words": (BagOfWords(width=6), TEXT),
    "bag_of_words_sum": (BagOfWords(width=6, output="sum"), TEXT),
    "bag_of_words_tokens": (BagOfWords(width=6, output="tokens"), TEXT),
    "bi_gru_of_words": (SequenceRNN(6, "gru", layers=2, bidirectional=True, dropout=0.1), TEXT),
    "bi_lstm_last": (SequenceRNN(6, "lstm", bidirectional=True, output="last"), SEQUENCE),
    "rnn_max": (SequenceRNN(6, "rnn", output="max"), SEQUENCE),
    "cnn_of_words": (SequenceCNN(6, output="max"), TEXT),
    "cnn_causal": (SequenceCNN(6, kernel=2, dilation=2, causal=True, dropout=0.1), SEQUENCE),
    "transformer_waves": (
        SequenceTransformer(8, 1, 2, positions="sinusoidal", output="mean"),
        TEXT,
    ),
    "transformer_causal": (
        SequenceTransformer(8, 1, 2, causal=True, dropout=0.1, output="last"),
        SEQUENCE,
    ),
    "frames": (Frames(ViT(8, 1, 2, 8, patch=2)), VIDEO),
    "frames_batch_norm": (Frames(LeNet(1, channels=4, width=6, batch_norm=True)), VIDEO),
    "frames_gru": (Frames(MLP(hidden=(8,), width=6), SequenceRNN(4, "gru")), VIDEO),
    "tubelet_vit": (TubeletViT(8, 1, 2, patch=2, frames=2), VIDEO),
}
WITH_TIME = ("audio", "text", "sequence", "video")
every_encoder = pytest.mark.parametrize("case", CASES)
every_sequence_encoder = pytest.mark.parametrize(
    "case", [name for name, (_, modality) in CASES.items() if modality.kind in WITH_TIME]
)
every_batch_norm = pytest.mark.parametrize("case", [name for name in CASES if "norm" in name])


@functools.cache
def build(case):
    """The module's structure, parameters and statistics, and how its features look."""
    config, modality = CASES[case]
    return filled(lambda: config.build(modality, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0)))


def inputs(case):
    """Inputs [B, ...], every word id used once; and masks: all valid, with gaps, none valid."""
    modality = CASES[case][1]
    rng = np.random.default_rng(0)
    masks = np.array([[1] * 7, [1, 1, 0, 0, 1, 0, 0], [0] * 7], bool)
    if modality.kind == "text":
        return 1 + np.arange(B * 7, dtype=np.int32).reshape(B, 7), masks
    x = rng.standard_normal((B, *modality.shape)).astype(np.float32)
    if modality.kind == "audio":
        masks = np.arange(1_200) < np.array([1_200, 700, 0])[:, None]
        return 0.1 * x, masks
    return x, masks[:, : modality.shape[0]] if modality.kind in WITH_TIME else None


def encode(graphdef, params, stats, x, mask, *, present=None, train=False):
    """Features and the statistics after them."""
    module = nnx.merge(graphdef, params, stats)
    present = jnp.ones(B, bool) if present is None else present
    rngs = nnx.Rngs(dropout=1) if train else None
    features = module(x, mask, present, train=train, rngs=rngs)
    return features, nnx.as_pure(nnx.state(module, nnx.BatchStat))


def probe(case, train=False):
    """See `compiled`; training is something else only with batch norm or dropout."""
    config = CASES[case][0]
    parts = (config, getattr(config, "image", None))
    differs = any(
        getattr(part, "batch_norm", False) or getattr(part, "dropout", 0) > 0 for part in parts
    )
    return compiled(case, train and differs)


@functools.cache
def compiled(case, train):
    """A jitted function of inputs, mask, cotangent [B, T] of the tokens, and present [B].

    It gives the features, the size of the gradient at every position of the inputs (for word ids:
    at their embeddings), the gradient of the parameters, and the statistics.
    """
    graphdef, params, stats, shape = build(case)
    text = CASES[case][1].kind == "text"

    @jax.jit
    def run(x, mask, cotangent, present):
        def product(params, x):
            features, after = encode(graphdef, params, stats, x, mask, present=present, train=train)
            used = jnp.where(cotangent[:, :, None] != 0, features.tokens, 0)
            turned = used * direction(features.tokens.shape)
            return jnp.sum(turned * cotangent[:, :, None]), (features, after)

        of_x = () if text else (1,)
        gradients, (features, after) = jax.grad(product, (0, *of_x), has_aux=True)(params, x)
        if text:
            position = jnp.abs(gradients[0]["embed"]["embedding"][x]).sum(-1)
        else:
            position = jnp.abs(gradients[1])
        return features, position, gradients[0], after

    def call(x, mask, cotangent=None, present=None):
        everywhere = np.ones((B, shape.tokens), np.float32)
        outcome = run(
            x,
            mask,
            everywhere if cotangent is None else np.float32(cotangent),
            np.ones(B, bool) if present is None else present,
        )
        return jax.device_get(outcome)

    return call


@every_encoder
def test_shapes_agree_with_features(case):
    x, mask = inputs(case)
    features = probe(case)(x, mask)[0]
    assert features.tokens.shape == (B, *build(case)[3])
    assert features.mask.shape == features.tokens.shape[:2]
    assert features.mask.dtype == bool
    assert features.mask[0].all()


@every_sequence_encoder
def test_masked_positions_leak_nothing(case):
    x, mask = inputs(case)
    valid = probe(case)(x, mask)[0].mask
    features, gradient, parameter_gradient, _ = probe(case)(x, mask, valid)
    assert valid[1].any()
    assert not valid[1].all() or build(case)[3].tokens == 1
    assert not valid[2].any()
    assert (gradient[~mask] == 0).all()
    assert (gradient[1][mask[1]] != 0).any()

    other = x + B * 7 if CASES[case][1].kind == "text" else np.full_like(x, np.nan)
    spoilt = np.where(mask.reshape(mask.shape + (1,) * (x.ndim - 2)), x, other)
    again, gradient_again, parameter_gradient_again, _ = probe(case)(spoilt, mask, valid)
    np.testing.assert_array_equal(gradient_again[mask], gradient[mask])
    np.testing.assert_array_equal(again.mask, valid)
    np.testing.assert_array_equal(again.tokens[valid], features.tokens[valid])
    jax.tree.map(np.testing.assert_array_equal, parameter_gradient_again, parameter_gradient)


@every_encoder
def test_rows_are_independent_in_evaluation(case):
    x, mask = inputs(case)
    cotangent = np.zeros(probe(case)(x, mask)[0].mask.shape)
    cotangent[1] = 1
    gradient = probe(case)(x, mask, cotangent)[1]
    assert (gradient[[0, 2]] == 0).all()
    assert (gradient[1] != 0).any()


@every_encoder
def test_gradient_reaches_every_parameter_in_training(case):
    x, mask = inputs(case)
    valid = probe(case)(x, mask)[0].mask
    sizes = jax.tree.map(
        lambda gradient: float(np.abs(gradient).max()), probe(case, train=True)(x, mask, valid)[2]
    )
    # 1e-5: a parameter that changes nothing still gets the rounding errors of the others, 1e-7.
    largest = max(jax.tree.leaves(sizes))
    reached = {jax.tree_util.keystr(path): size > 1e-5 * largest for path, size in flat(sizes)}
    # A key's bias adds the same to all logits of a query: its gradient is 0 in exact numbers.
    key_biases = {path for path in reached if "['key']['bias']" in path}
    assert all(reached[path] == (path not in key_biases) for path in reached), sizes


@every_encoder
@pytest.mark.parametrize("train", [False, True], ids=["evaluation", "training"])
def test_finite_where_nothing_is_there(case, train):
    x, mask = inputs(case)
    mask = mask if mask is None else np.zeros_like(mask)
    outcome = probe(case, train=train)(np.zeros_like(x), mask, None, np.zeros(B, bool))
    jax.tree.map(lambda array: np.testing.assert_array_equal(np.isfinite(array), True), outcome)


@every_encoder
def test_bfloat16_is_close_to_float32(case):
    x, mask = inputs(case)
    expected = probe(case)(x, mask)[0].tokens
    config, modality = CASES[case]
    graphdef, params, stats, _ = filled(
        lambda: config.build(modality, dtype=jnp.dtype("bfloat16"), rngs=nnx.Rngs(0))
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((params, stats))} == {jnp.dtype("float32")}
    ours = jax.jit(lambda x, mask: encode(graphdef, params, stats, x, mask)[0].tokens)(x, mask)
    assert ours.dtype == jnp.bfloat16
    # A number has 8 bits, 2^-8 = 0.4%, and a dozen roundings follow each other: 5% of the largest.
    np.testing.assert_allclose(
        np.asarray(ours).astype(np.float32), expected, rtol=0, atol=0.05 * np.abs(expected).max()
    )


@every_batch_norm
def test_batch_statistics_are_of_the_rows_and_positions_that_are_there(case):
    x, mask = inputs(case)
    mask = mask if mask is None else mask[[0, 1, 0]]
    present = np.array([True, True, False])
    run = probe(case, train=True)
    features, _, _, after = run(x, mask, None, present)
    other, _, _, after_other = run(
        x * np.float32([1, 1, 7])[:, *[None] * (x.ndim - 1)], mask, None, present
    )
    jax.tree.map(np.testing.assert_array_equal, after, after_other)
    np.testing.assert_array_equal(features.tokens[:2], other.tokens[:2])
    # The third row as a copy of the absent one changes them, if it counts.
    _, _, _, counted = run(x, mask)
    assert all(
        np.abs(one - two).max() > 1e-4
        for one, two in zip(jax.tree.leaves(after), jax.tree.leaves(counted), strict=True)
    )


@every_batch_norm
def test_batch_statistics_are_those_of_the_present_rows_alone(case):
    x, mask = inputs(case)
    mask = mask if mask is None else mask[[0, 1, 0]]
    after = probe(case, train=True)(x, mask, None, np.array([True, True, False]))[3]
    state = build(case)[:3]
    alone = jax.jit(
        lambda x, mask: encode(*state, x, mask, present=jnp.ones(2, bool), train=True)[1]
    )(x[:2], mask if mask is None else mask[:2])
    # 1e-5: the same float32 sums in another order.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after, alone)


@every_encoder
def test_refuses_other_kinds_of_modality(case):
    config, modality = CASES[case]
    assert modality.kind in config.kinds
    for kind in {"vector", "image", "audio", "text", "graph"} - set(config.kinds):
        with pytest.raises(ConfigError, match=f"{type(config).__name__} encodes .* not {kind}"):
            config.build(Modality(kind, (4,)), dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
