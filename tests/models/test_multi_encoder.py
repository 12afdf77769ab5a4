"""MultiEncoder: three views reach an objective, two are those of DualEncoder, one is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import filled

from mmjax.data import Modality
from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.models import DualEncoder, MultiEncoder
from mmjax.objectives import DGCCA
from mmjax.structs import Batch

B, NAMES = 12, ("left", "middle", "right")


def build(model):
    modalities = {name: Modality("vector", (4,)) for name in NAMES}
    return model.build(modalities, {}, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))


def batch():
    rng = np.random.default_rng(0)
    inputs = {name: rng.standard_normal((B, 4)).astype(np.float32) for name in NAMES}
    present = {name: np.ones(B, bool) for name in NAMES}
    present["right"][2] = False
    inputs["right"][2] = np.nan
    return Batch.of(inputs, np.arange(B), present=present)


def encoders(*names):
    return {name: MLP((), 5) for name in names}


@pytest.mark.parametrize("frozen", [(), ("middle",)])
def test_an_objective_of_three_views_reaches_every_encoder_that_learns(frozen):
    model = MultiEncoder(encoders(*NAMES), width=3, frozen=frozen)
    assert model.frozen_paths == tuple(("encoders", name) for name in frozen)
    graphdef, params, _, _ = filled(lambda: build(model))

    def run(params):
        outputs = nnx.merge(graphdef, params)(batch(), train=True, rngs=nnx.Rngs(dropout=0))
        return DGCCA(views=NAMES, k=2)(outputs, batch()).mean, outputs

    (_, outputs), gradients = jax.jit(jax.value_and_grad(run, has_aux=True))(params)
    assert set(outputs.embeddings) == set(NAMES)
    assert all(embedding.shape == (B, 3) for embedding in outputs.embeddings.values())
    assert not outputs.present["right"][2]
    for name in NAMES:
        kernels = jax.tree.leaves(gradients["project"][name]["kernel"])
        assert all(np.isfinite(kernel).all() and np.abs(kernel).max() > 1e-4 for kernel in kernels)


def test_two_encoders_are_a_dual_encoder():
    two = encoders("right", "left")
    models = MultiEncoder(two, width=3), DualEncoder(two, width=3)
    ours, theirs = jax.jit(lambda: tuple(build(model)(batch()) for model in models))()
    for name in two:
        np.testing.assert_array_equal(ours.embeddings[name], theirs.embeddings[name])
        np.testing.assert_array_equal(ours.present[name], theirs.present[name])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: MultiEncoder(encoders("left")),
            r"needs two or more encoders, but has 1 \(left\)",
        ),
        (lambda: MultiEncoder(encoders("left", "centre")), "There is no modality 'centre'"),
        (lambda: MultiEncoder(encoders("left", "right"), width=-1), "MultiEncoder.width is -1"),
        (lambda: MultiEncoder(encoders("left", "right"), frozen=("up",)), "'up'"),
    ],
)
def test_what_does_not_fit_is_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        build(make())
