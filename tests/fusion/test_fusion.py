"""What every fusion keeps to: a new one is one line of `FUSIONS`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import direction, filled

from mmjax.data import Modality, Target
from mmjax.encoders import MLP, FeatureShape, LeNet
from mmjax.errors import ConfigError
from mmjax.fusion import (
    GMU,
    AttentionFusion,
    Bilinear,
    Bottleneck,
    Concat,
    CrossAttention,
    FiLM,
    GraphFusion,
    LowRankFusion,
    Mean,
    MultimodalTransformer,
    Perceiver,
    ProductOfExperts,
    TensorFusion,
    WeightedSum,
)
from mmjax.models import FusionModel
from mmjax.structs import Batch, Features

FUSIONS = {
    "concat": Concat(),
    "mean": Mean(width=6),
    "attention": AttentionFusion(6, hidden=5),
    "gmu": GMU(6),
    "film": FiLM("text", 6),
    "bilinear": Bilinear(6, inner=3),
    "tensor": TensorFusion(6, inner=3),
    "low_rank": LowRankFusion(6, rank=2),
    "product_of_experts": ProductOfExperts(6),
    "weighted_sum": WeightedSum(width=6, weights={"text": 0.3, "image": 0.7}),
    "weighted_sum_learned": WeightedSum(width=6),
    "graph": GraphFusion(6, rounds=1),
    "graph_of_tokens": GraphFusion(6, rounds=2, tokens=True),
    "bottleneck": Bottleneck(8, layers=2, first=0, tokens=2, heads=2),
    "cross_attention": CrossAttention(4, layers=1, heads=2),
    "perceiver": Perceiver(8, latents=3, layers=1, heads=2),
    "multimodal_transformer": MultimodalTransformer(width=8, layers=1, heads=2),
}
every_fusion = pytest.mark.parametrize("fusion", FUSIONS)

B = 4
SHAPES = {"text": FeatureShape(3, 4), "image": FeatureShape(1, 5)}
MASKS = {  # rows: all there; no image; no text; nothing
    "text": np.array([[1, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]], bool),
    "image": np.array([[1], [0], [1], [0]], bool),
}


def tokens():
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal((B, *shape)).astype(np.float32) for name, shape in SHAPES.items()
    }


def build(fusion, dtype="float32"):
    return FUSIONS[fusion].build(SHAPES, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))


@functools.cache
def compiled(fusion):
    graphdef, params, stats, _ = filled(lambda: build(fusion))

    @jax.jit
    def run(tokens, masks):
        def product(params, tokens):
            features = {name: Features(tokens[name], masks[name]) for name in SHAPES}
            fused = nnx.merge(graphdef, params, stats)(features, train=False, rngs=None).features
            return jnp.sum(fused.pooled * direction(fused.pooled.shape)), fused

        gradients, fused = jax.grad(product, (0, 1), has_aux=True)(params, tokens)
        return fused, fused.pooled, gradients

    return run


def run(fusion, tokens, masks=MASKS):
    """The fused features, their pooled vector, and the gradients to parameters and tokens."""
    return jax.device_get(compiled(fusion)(tokens, masks))


@every_fusion
def test_shapes_agree_with_features(fusion):
    fused, pooled, _ = run(fusion, tokens())
    shape = filled(lambda: build(fusion))[3]
    assert fused.tokens.shape == (B, *shape)
    assert fused.mask.shape == (B, shape.tokens)
    assert pooled.shape == (B, shape.width)
    assert fused.mask.any(axis=1).tolist() == [True, True, True, False]


@every_fusion
def test_what_is_absent_leaks_nothing(fusion):
    _, pooled, (parameters, gradient) = run(fusion, tokens())
    for name, mask in MASKS.items():
        assert (gradient[name][~mask] == 0).all()
        assert (gradient[name][mask] != 0).any(axis=-1).all()
    other = {name: np.where(MASKS[name][..., None], x, -7 * x) for name, x in tokens().items()}
    _, other_pooled, (other_parameters, _) = run(fusion, other)
    np.testing.assert_array_equal(other_pooled, pooled)
    jax.tree.map(np.testing.assert_array_equal, other_parameters, parameters)


@every_fusion
def test_absence_in_other_rows_changes_nothing(fusion):
    everywhere = {name: np.ones_like(mask) for name, mask in MASKS.items()}
    complete, sparse = run(fusion, tokens(), everywhere)[1], run(fusion, tokens())[1]
    np.testing.assert_array_equal(sparse[0], complete[0])
    assert (sparse[1:] != complete[1:]).any(axis=1).all()


@every_fusion
def test_finite_where_nothing_is_there(fusion):
    nothing = {name: np.zeros_like(mask) for name, mask in MASKS.items()}
    fused, pooled, gradients = run(fusion, tokens(), nothing)
    for array in jax.tree.leaves((fused, gradients)):
        assert np.isfinite(array).all()
    np.testing.assert_array_equal(pooled, 0)


@every_fusion
def test_the_order_of_the_mapping_does_not_matter(fusion):
    # A module that was split and merged iterates over its parts by name, a fresh one as it was
    # built: only a fusion that goes by name means the same by both.
    @jax.jit
    def run(features):
        graphdef, params, stats, _ = filled(lambda: build(fusion))
        return [
            nnx.merge(graphdef, params, stats)(
                {name: features[name] for name in names}, train=False, rngs=None
            ).features
            for names in (("text", "image"), ("image", "text"))
        ]

    fused = run({name: Features(x, MASKS[name]) for name, x in tokens().items()})
    # 1e-6: one computation, but XLA may order the sums otherwise.
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, atol=1e-6), *fused)


@every_fusion
def test_bfloat16_is_close_to_float32(fusion):
    @jax.jit
    def both(tokens, masks):
        def pooled(dtype):
            graphdef, params, stats, _ = filled(lambda: build(fusion, dtype))
            assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((params, stats)))
            features = {name: Features(tokens[name].astype(dtype), masks[name]) for name in SHAPES}
            return nnx.merge(graphdef, params, stats)(
                features, train=False, rngs=None
            ).features.pooled

        return pooled("float32"), pooled("bfloat16")

    expected, ours = jax.device_get(both(tokens(), MASKS))
    assert ours.dtype == jnp.bfloat16
    # A number has 8 bits, 2^-8 = 0.4%, and a dozen roundings follow each other: 5% of the largest.
    np.testing.assert_allclose(
        ours.astype(np.float32), expected, rtol=0, atol=0.05 * np.abs(expected).max()
    )


def test_concat_puts_the_modalities_side_by_side_by_name():
    pooled = run("concat", tokens())[1]
    x = tokens()
    text = np.stack([x["text"][0].mean(0), x["text"][1, :2].mean(0), np.zeros(4), np.zeros(4)])
    image = np.stack([x["image"][0, 0], np.zeros(5), x["image"][2, 0], np.zeros(5)])
    # 1e-6: the sum of three float32 numbers of size 1.
    np.testing.assert_allclose(pooled, np.concatenate([image, text], axis=1), atol=1e-6)


def test_mean_is_that_of_the_modalities_present():
    alone = {}
    for name in SHAPES:
        masks = {other: MASKS[other] & (other == name) for other in SHAPES}
        alone[name] = run("mean", tokens(), masks)[1]
    expected = alone["text"] + alone["image"]  # zeros where the one is absent
    expected[0] /= 2
    # 1e-6: the sum of two float32 numbers of size 1.
    np.testing.assert_allclose(run("mean", tokens())[1], expected, atol=1e-6)


MODALITIES = {
    "image": Modality("image", (4, 4, 1)),
    "text": Modality("vector", (5,)),
}


@every_fusion
def test_absent_modalities_leak_nothing_through_a_model_in_training(fusion):
    """NaN in what is absent, batch norm included: values and gradients as if it were zeros."""
    model = FusionModel(
        encoders={
            "text": MLP(hidden=(4,), width=4),
            "image": LeNet(blocks=1, channels=2, width=4, batch_norm=True),
        },
        fusion=FUSIONS[fusion],
    )
    rng = np.random.default_rng(0)
    inputs = {
        "image": rng.random((B, 4, 4, 1)).astype(np.float32),
        "text": rng.standard_normal((B, 5)).astype(np.float32),
    }
    present = {
        "image": np.array([1, 0, 1, 0], bool),
        "text": np.array([1, 1, 0, 0], bool),
    }
    graphdef, params, stats, _ = filled(
        lambda: model.build(
            MODALITIES, {"label": Target("class", 3)}, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0)
        )
    )

    @jax.jit
    def run(inputs):
        def loss(params, inputs):
            batch = Batch.of({}, np.arange(B), present=present).replace(inputs=inputs)
            module = nnx.merge(graphdef, params, stats)
            outputs = module(batch, train=True, rngs=None)
            after = nnx.as_pure(nnx.state(module, nnx.BatchStat))
            return jnp.sum(outputs.predictions["label"].values ** 2), (outputs, after)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, inputs)

    def filled_up(value):
        return {
            name: np.where(present[name].reshape(-1, *[1] * (x.ndim - 1)), x, np.float32(value))
            for name, x in inputs.items()
        }

    clean, spoilt = jax.device_get((run(filled_up(0)), run(filled_up(np.nan))))
    jax.tree.map(np.testing.assert_array_equal, spoilt, clean)
    for array in jax.tree.leaves(spoilt):
        assert np.isfinite(array).all()
    _, (parameters, of_inputs) = spoilt
    for name, gradient in of_inputs.items():
        assert (gradient[~present[name]] == 0).all()
        assert (gradient[present[name]] != 0).any()
    for path, gradient in jax.tree.leaves_with_path(parameters):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        # Each source has one token here, which is attended to whatever the query and the key.
        unused = fusion == "cross_attention" and {"query", "key"} & set(name.split("."))
        # The only row with two nodes may have both scores on one side of 0, where the listener's
        # part is the same for all it hears.
        unused = unused or (fusion.startswith("graph") and ".heard." in name)
        assert np.abs(gradient).max() > 0 or unused, name


@pytest.mark.parametrize(
    "config", [Concat(), Mean(width=8), WeightedSum(8), MultimodalTransformer(width=8, layers=1)]
)
def test_one_modality_alone(config):
    def run():
        shape = {"only": FeatureShape(1, 4)}
        fusion = config.build(shape, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
        features = {"only": Features.of_vector(jnp.ones((2, 4)))}
        fused = fusion(features, train=False, rngs=None).features
        assert fused.tokens.shape == (2, *fusion.features)
        return fused.pooled

    assert jax.eval_shape(run).shape[0] == 2


@pytest.mark.parametrize(("weights", "image"), [({"text": 0.3, "image": 0.7}, 0.7), ({}, 0.75)])
def test_the_weighted_sum_in_closed_form(weights, image):
    module = WeightedSum(width=6, weights=weights).build(
        SHAPES, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0)
    )
    if not weights:
        module.logits[...] = jnp.array([np.log(3.0), 0.0])  # image, text
    masks = {name: jnp.asarray(mask) for name, mask in MASKS.items()}
    features = {name: Features(jnp.asarray(x), masks[name]) for name, x in tokens().items()}
    fused = module(features, train=False, rngs=None).features.pooled
    of = {name: module.project[name](features[name].pooled) for name in SHAPES}
    expected = [image * of["image"][0] + (1 - image) * of["text"][0], of["text"][1], of["image"][2]]
    np.testing.assert_allclose(fused[:3], np.stack(expected), rtol=1e-5)


def test_learned_weights_are_trained_and_fixed_ones_are_not():
    for config, names in ((WeightedSum(6), {"logits"}), (FUSIONS["weighted_sum"], set())):
        module = config.build(SHAPES, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
        paths = {path[0] for path, _ in nnx.to_flat_state(nnx.state(module, nnx.Param))}
        assert paths == {"project"} | names
    _, _, (parameters, _) = run("weighted_sum_learned", tokens())
    logits = parameters["logits"]
    assert (np.abs(logits) > 1e-6).all()
    assert abs(logits.sum()) < 1e-5  # the softmax ignores a common shift


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({"text": 0.0, "image": 1.0}, "The weight of 'text' in WeightedSum is 0.0: choose it abov"),
        ({"text": float("nan"), "image": 1.0}, "is nan: choose it above 0"),
        ({"text": 1.0, "imge": 1.0}, r"weights, 'imge': did you mean 'image'"),
        ({"text": 1.0}, "has no weight for 'image': add it"),
    ],
)
def test_bad_weights_of_a_sum_are_refused(weights, sentence):
    with pytest.raises(ConfigError, match=sentence):
        WeightedSum(weights=weights).build(SHAPES, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
