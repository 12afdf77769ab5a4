"""Low-rank adapters: the equation, what is trained, and the merge."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from small_bert import SIZES

import mmjax
from mmjax.data import Arrays
from mmjax.encoders import BERT, MLP, LoRA, TextTransformer
from mmjax.errors import ConfigError
from mmjax.layers import LowRankLinear, merge_adapters
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.structs import Modality
from mmjax.training import AdamW, Experiment, Training

TEXT = Modality("text", (12,), vocabulary=7)
IDS = np.random.default_rng(0).integers(1, 7, (4, 12))


def built(encoder, seed=0):
    return encoder.build(TEXT, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(seed))


@jax.jit
def tokens(module):
    return module(jnp.asarray(IDS), None, jnp.ones(4, bool), train=False, rngs=None).tokens


@pytest.mark.parametrize("use_bias", [True, False])
def test_the_layer_follows_its_equation(use_bias):
    layer = nnx.Linear(5, 3, use_bias=use_bias, rngs=nnx.Rngs(0))
    adapted = LowRankLinear(layer, 2, 0.7, rngs=nnx.Rngs(1))
    x = jax.random.normal(jax.random.key(0), (2, 4, 5))
    np.testing.assert_array_equal(adapted(x), layer(x))  # B is 0
    adapted.adapter_out[...] = jnp.asarray(np.random.default_rng(1).standard_normal((2, 3)))
    a, b, w = adapted.adapter_in[...], adapted.adapter_out[...], layer.kernel[...]
    expected = x @ w + 0.7 * (x @ a) @ b
    np.testing.assert_allclose(adapted(x), expected, rtol=1e-5, atol=1e-6)
    merged = adapted.merged()
    assert type(merged) is nnx.Linear
    np.testing.assert_allclose(merged(x), expected, rtol=1e-5, atol=1e-6)


def test_in_bfloat16_the_layer_computes_in_it():
    layer = nnx.Linear(5, 3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert LowRankLinear(layer, 2, 1.0, rngs=nnx.Rngs(1))(jnp.ones((2, 5))).dtype == jnp.bfloat16


def test_an_adapted_encoder_begins_as_it_was():
    plain, adapted = built(BERT(**SIZES)), built(LoRA(BERT(**SIZES), rank=2))
    np.testing.assert_array_equal(tokens(adapted), tokens(plain))
    changed = [path for path, node in nnx.iter_graph(adapted) if isinstance(node, LowRankLinear)]
    assert sorted(changed) == [
        ("blocks", block, "attention", name) for block in range(2) for name in ("query", "value")
    ]


def test_layers_that_are_named_are_adapted():
    adapted = built(LoRA(TextTransformer(width=8, heads=2), layers=("out",)))
    names = {path[-1] for path, node in nnx.iter_graph(adapted) if isinstance(node, LowRankLinear)}
    assert names == {"out"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layers": ("quary",)}, r"layer, for LoRA\.layers, 'quary': did you mean 'query'"),
        ({"layers": ()}, r"LoRA\.layers is \(\): list names"),
        ({"rank": 0}, r"rank is 0"),
        ({"alpha": 0.0}, r"alpha is 0\.0: choose it above 0"),
    ],
)
def test_bad_options_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        built(LoRA(BERT(**SIZES), **options))


@pytest.mark.slow
def test_only_the_adapters_and_the_rest_of_the_model_are_trained(tmp_path):
    encoder = LoRA(BERT(**SIZES), rank=2, layers=("query", "up"))
    data = Arrays(
        inputs={"text": np.tile(IDS, (8, 1)), "numbers": np.ones((32, 3), np.float32)},
        targets={"kind": np.arange(32) % 4},
        name="mine",
    )
    experiment = Experiment(
        name="lora",
        data=data,
        model=FusionModel(encoders={"text": encoder, "numbers": MLP((4,))}),
        objectives=(CrossEntropy(target="kind"),),
        optimizer=AdamW(0.05, weight_decay=0.5),
        training=Training(steps=3, batch_size=8),
    )
    run = mmjax.train(experiment, run_dir=tmp_path / "run")
    state = run._state
    trained = state.params["model"]["encoders"]["text"]
    assert {leaf.key for path, _ in jax.tree.leaves_with_path(trained) for leaf in path[-1:]} == {
        "adapter_in",
        "adapter_out",
    }
    moments = jax.tree.leaves_with_path(state.opt_state)
    assert not any("'text'" in str(path) and "'kernel'" in str(path) for path, _ in moments)
    module = run.model.encoders["text"]
    before = mmjax.train(
        dataclasses.replace(experiment, training=Training(steps=0, batch_size=8)),
        run_dir=tmp_path / "none",
    ).model.encoders["text"]
    for path, leaf in nnx.to_flat_state(nnx.state(before, nnx.Param)):
        now = dict(nnx.to_flat_state(nnx.state(module, nnx.Param)))[path]
        assert np.array_equal(leaf[...], now[...]) != (path[-1] in ("adapter_in", "adapter_out"))
    merged = merge_adapters(module)
    assert not any(isinstance(node, LowRankLinear) for _, node in nnx.iter_graph(merged))
    np.testing.assert_allclose(tokens(merged), tokens(module), rtol=1e-4, atol=1e-5)
    assert np.abs(tokens(module) - tokens(before)).max() > 1e-3
    opened = mmjax.load(tmp_path / "run")
    np.testing.assert_array_equal(tokens(opened.model.encoders["text"]), tokens(module))
