"""Rates and starts by layer: closed forms on a small BERT's parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from small_bert import SIZES

from mmjax.encoders import AST, BERT, CRNN, ResNet, ViT
from mmjax.errors import ConfigError
from mmjax.structs import Modality
from mmjax.training import SGD, AdamW, Cosine, LayerWise, PerPart
from mmjax.training.optimizer import part_name

TEXT = Modality("text", (12,), vocabulary=7)
IMAGE = Modality("image", (32, 32, 3))
SOUND = Modality("audio", (8_000,), sample_rate=16_000)
TINY = {"width": 8, "layers": 2, "heads": 2, "hidden": 16}


def params_of(encoder, modality=TEXT):
    """Parameters of a model with this encoder and a head, all of them 1."""

    def make():
        module = encoder.build(modality, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
        return {"encoders": {"x": nnx.as_pure(nnx.state(module, nnx.Param))}}

    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), jax.eval_shape(make))
    return {"model": params | {"heads": {"kernel": jnp.ones((2, 2))}}}


def updates_of(optimizer, params, steps=1, total=100):
    """What happens to each parameter in some steps with gradients of 1, by its name."""
    transformation = optimizer.build(total)
    state, sums = transformation.init(params), jax.tree.map(jnp.zeros_like, params)
    step = jax.jit(lambda state: transformation.update(ones, state, params))
    ones = jax.tree.map(jnp.ones_like, params)
    for _ in range(steps):
        updates, state = step(state)
        sums = optax.tree.add(sums, updates)
    return {
        part_name(path): float(leaf.ravel()[0]) for path, leaf in jax.tree.leaves_with_path(sums)
    }


def plain(rate=1.0, **options):
    return SGD(rate, momentum=0.0, **options)


@pytest.mark.parametrize(
    ("encoder", "modality", "first", "blocks", "after"),
    [
        (
            BERT(**SIZES),
            TEXT,
            ("embed.embedding", "positions.embedding", "segments.embedding", "norm_before.scale"),
            ("blocks.0.attention.query.kernel", "blocks.1.down.bias"),
            "pooler.kernel",
        ),
        (
            ViT(patch=16, **TINY),
            IMAGE,
            ("patch.kernel", "positions", "class_token"),
            ("blocks.0.norm1.scale", "blocks.1.up.kernel"),
            "norm.scale",
        ),
        (
            AST(frames=16, bands=16, **TINY),
            SOUND,
            ("patch.kernel", "distillation_token"),
            ("blocks.0.up.kernel", "blocks.1.up.kernel"),
            "norm.scale",
        ),
        (
            ResNet(18),
            IMAGE,
            ("stem.conv.kernel",),
            tuple(
                f"groups.{group}.{block}.layers.0.conv.kernel"
                for group in range(4)
                for block in range(2)
            ),
            None,
        ),
    ],
)
def test_each_layer_has_its_rate(encoder, modality, first, blocks, after):
    optimizer = LayerWise(("encoders.x",), plain(), decay=0.5)
    updates = updates_of(optimizer, params_of(encoder, modality))
    for name in first:
        assert updates[f"encoders.x.{name}"] == -(0.5 ** (len(blocks) + 1))
    for index, name in enumerate(blocks):
        assert updates[f"encoders.x.{name}"] == -(0.5 ** (len(blocks) - index))
    assert updates["heads.kernel"] == -1
    assert after is None or updates[f"encoders.x.{after}"] == -1


def test_blocks_that_are_named_themselves():
    optimizer = LayerWise(("encoders.x.blocks",), plain(), decay=0.5)
    updates = updates_of(optimizer, params_of(CRNN(blocks=2), SOUND))
    assert updates["encoders.x.blocks.0.conv.kernel"] == -0.25
    assert updates["encoders.x.blocks.1.conv.kernel"] == -0.5
    recurrent = [value for name, value in updates.items() if ".recurrent." in name]
    assert recurrent
    assert set(recurrent) == {-1.0}


def test_decay_of_1_is_the_optimizer_itself():
    params = params_of(BERT(**SIZES))
    inner = AdamW(0.1, Cosine(warmup_steps=2), weight_decay=0.3, clip_norm=0.5)
    layer_wise = updates_of(LayerWise(("encoders.x",), inner), params, steps=3)
    assert layer_wise == pytest.approx(updates_of(inner, params, steps=3), rel=1e-6)


def test_weight_decay_falls_with_the_rate():
    inner = AdamW(0.1, weight_decay=1.0)
    updates = updates_of(LayerWise(("encoders.x",), inner, decay=0.5), params_of(BERT(**SIZES)))
    assert updates["encoders.x.blocks.1.up.kernel"] == pytest.approx(0.5 * -(0.1 + 0.1), rel=1e-5)
    assert updates["encoders.x.blocks.1.up.bias"] == pytest.approx(0.5 * -0.1, rel=1e-5)


def test_layers_start_one_after_the_other_from_the_last():
    params = params_of(BERT(**SIZES))
    optimizer = LayerWise(("encoders.x",), plain(), unfreeze_every=2)
    starts = {
        "heads.kernel": 0,
        "encoders.x.pooler.kernel": 0,
        "encoders.x.blocks.1.up.kernel": 2,
        "encoders.x.blocks.0.up.kernel": 4,
        "encoders.x.embed.embedding": 6,
    }
    for steps in (1, 3, 5, 8):
        updates = updates_of(optimizer, params, steps)
        assert {name: updates[name] for name in starts} == {
            name: -max(steps - start, 0) for name, start in starts.items()
        }


def test_a_late_layer_starts_with_fresh_moments_at_the_schedules_rate():
    params = params_of(BERT(**SIZES))
    inner = AdamW(0.1, Cosine(), weight_decay=0.0)
    optimizer = LayerWise(("encoders.x",), inner, unfreeze_every=5)
    updates = updates_of(optimizer, params, steps=6, total=20)
    # Adam's first step is the rate itself, at step 5 of 20.
    assert updates["encoders.x.blocks.1.up.kernel"] == pytest.approx(
        -0.05 * (1 + np.cos(np.pi / 4)), rel=1e-5
    )


def test_several_encoders_and_a_part_of_another_optimizer():
    text = params_of(BERT(**SIZES))["model"]["encoders"]["x"]
    params = {"encoders": {"x": text, "y": text}, "heads": {"kernel": jnp.ones(2)}}
    both = LayerWise(("encoders.x", "encoders.y"), plain(), decay=0.5)
    updates = updates_of(both, params)
    assert updates["encoders.x.embed.embedding"] == updates["encoders.y.embed.embedding"] == -0.125
    one = PerPart({"encoders.x": LayerWise(("encoders.x",), plain(), 0.5)}, others=plain(3.0))
    updates = updates_of(one, params)
    assert (updates["encoders.x.embed.embedding"], updates["heads.kernel"]) == (-0.125, -3)
    assert updates["encoders.y.embed.embedding"] == -3


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LayerWise(("encoders.x",), decay=0.0), "decay is 0.0: choose it above 0"),
        (lambda: LayerWise(("encoders.x",), decay=1.5), "at most 1"),
        (lambda: LayerWise(()), "list encoders, as in"),
        (lambda: LayerWise(("encoders.x",), unfreeze_every=-1), "unfreeze_every"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("encoder", "modality", "options", "sentence"),
    [
        (BERT(**SIZES), TEXT, {"parts": ("encoders.y",)}, "did you mean 'encoders.x'"),
        (BERT(**SIZES), TEXT, {"parts": ("heads",)}, "'heads' has 0"),
        (CRNN(blocks=2), SOUND, {}, r"has 2 \(encoders.x.blocks, encoders.x.recurrent.layers\)"),
        (BERT(**SIZES), TEXT, {"unfreeze_every": 40}, "from step 120 on, but the run has 100"),
    ],
)
def test_parts_that_do_not_fit_are_refused(encoder, modality, options, sentence):
    optimizer = dataclasses.replace(LayerWise(("encoders.x",), plain()), **options)
    with pytest.raises(ConfigError, match=sentence):
        optimizer.build(100).init(params_of(encoder, modality))


def test_configs_are_not_changed():
    inner = AdamW(0.1)
    LayerWise(("encoders.x",), inner, decay=0.5).build(10)
    np.testing.assert_equal(inner, AdamW(0.1))
