"""Heads: against NumPy, which kinds of target each is for, and the defaults."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import filled

from mmjax.data import Target
from mmjax.encoders import FeatureShape
from mmjax.errors import ConfigError
from mmjax.heads import DEFAULTS, Classifier, MultiLabel, Regressor, default_head
from mmjax.structs import Features

B, T, D = 4, 3, 5
CASES = {
    "class": (Classifier(), Target("class", 3), (3,)),
    "class, deep": (Classifier(hidden=(7,)), Target("class", 3), (3,)),
    "labels": (MultiLabel(hidden=(7,)), Target("labels", 4), (4,)),
    "one number": (Regressor(), Target("number"), ()),
    "numbers": (Regressor(hidden=(7,)), Target("number", shape=(2, 3)), (2, 3)),
}
TARGETS = {
    "class": Target("class", 3),
    "labels": Target("labels", 4),
    "number": Target("number"),
    "tokens": Target("tokens", 9, shape=(2,)),
    "angle": Target("angle"),
}


def build(head, target):
    shape = FeatureShape(T, D)
    return head.build(shape, target, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("case", CASES)
def test_it_is_a_perceptron_on_the_mean_of_the_valid_tokens(case):
    head, target, shape = CASES[case]
    graphdef, params, stats, _ = filled(lambda: build(head, target))
    module = nnx.merge(graphdef, params, stats)
    tokens = np.random.default_rng(0).standard_normal((B, T, D)).astype(np.float32)
    mask = np.array([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    x = np.where(mask[:, :, None], tokens, 0).sum(1) / np.maximum(mask.sum(1), 1)[:, None]
    *hidden, last = [params["perceptron"]["layers"][i] for i in range(1 + len(head.hidden))]
    for layer in hidden:
        x = np.maximum(x @ layer["kernel"] + layer["bias"], 0)
    expected = (x @ last["kernel"] + last["bias"]).reshape(B, *shape)

    tokens[~mask] = np.nan
    fused = Features(jnp.asarray(tokens), jnp.asarray(mask))
    for given in (None, jnp.full((B, *target.example_shape), jnp.nan)):  # the target is not read
        prediction = module(fused, given, train=False, rngs=None)
        assert prediction.values.shape == (B, *shape)
        assert prediction.mask is None
        np.testing.assert_allclose(prediction.values, expected, rtol=1e-5, atol=1e-5)  # float32


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("head", [Classifier, MultiLabel, Regressor])
def test_targets_of_other_kinds_are_refused(head, kind):
    if kind in head.kinds:
        return
    with pytest.raises(
        ConfigError, match=f"{head.__name__} predicts .* not {kind}: choose a head for {kind}"
    ):
        build(head(), TARGETS[kind])


@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_has_the_default_head_of_its_kind(kind):
    if kind in DEFAULTS:
        assert default_head("name", TARGETS[kind]) == DEFAULTS[kind]()
        assert DEFAULTS[kind].kinds == (kind,)
    else:
        with pytest.raises(ConfigError, match=f"'caption' is of the kind '{kind}', .* in `heads`"):
            default_head("caption", TARGETS[kind])


@pytest.mark.parametrize("head", [Classifier, MultiLabel, Regressor])
def test_what_cannot_be_is_refused(head):
    with pytest.raises(ConfigError, match=f"{head.__name__}.hidden is \\(4, 0\\)"):
        head(hidden=(4, 0))
    with pytest.raises(ConfigError, match="dropout"):
        build(head(dropout=1.0), TARGETS[head.kinds[0]])
