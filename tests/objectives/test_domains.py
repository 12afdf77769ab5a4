"""Alignment of sources: CORAL in closed form, and the adversary's reversed gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.errors import ConfigError
from mmjax.objectives import CORAL, SourceAdversary
from mmjax.objectives.domains import reverse
from mmjax.structs import Batch, Features, Outputs

RNG = np.random.default_rng(0)
X = RNG.standard_normal((9, 3)).astype(np.float32)
SOURCE = np.array([0, 0, 0, 1, 1, 1, 1, 2, 0])
PRESENT = np.array([1] * 8 + [0], bool)
X[8] = np.nan


def given(x=X, source=SOURCE):
    outputs = Outputs(
        embeddings={"a": jnp.asarray(x)},
        present={"a": PRESENT},
        fused=Features(jnp.asarray(x)[:, None], jnp.asarray(PRESENT)[:, None]),
    )
    return outputs, Batch.of({}, np.arange(9), targets={"source": source})


@pytest.mark.parametrize("view", ["a", ""])
def test_coral_in_closed_form(view):
    # The third source has one example, and so no covariance.
    one, other = (np.cov(X[(each == SOURCE) & PRESENT].T) for each in (0, 1))
    expected = ((one - other) ** 2).sum() / (4 * 3**2)
    assert CORAL(view=view, sources=3)(*given()).mean == pytest.approx(expected, rel=1e-5)
    assert CORAL(view=view, sources=3)(*given(source=np.zeros(9, int))).mean == 0
    gradient = jax.grad(lambda x: CORAL(view=view, sources=3)(*given(x)).mean)(jnp.asarray(X))
    assert np.isfinite(gradient).all()
    assert not gradient[7:].any()
    assert gradient[:7].any(axis=1).all()


def test_the_adversary_learns_and_the_encoder_unlearns():
    module = SourceAdversary(view="a", sources=3, hidden=4).build(given()[0], rngs=nnx.Rngs(0))
    graph, params = nnx.split(module)

    def loss(params, x, sign):
        outputs, batch = given(x)
        term = nnx.merge(graph, params)(outputs, batch, train=True, rngs=None)
        return sign * term.mean

    gradients = jax.grad(loss, (0, 1))(params, jnp.asarray(X), 1.0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    step = 1e-2
    better = jax.tree.map(lambda p, g: p - step * g, params, gradients[0])
    assert loss(better, X, 1.0) < loss(params, X, 1.0)
    moved = jnp.asarray(X) - step * gradients[1]  # what descent does to the embeddings
    assert loss(params, moved, 1.0) > loss(params, X, 1.0)


def test_a_reversed_gradient():
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(reverse(x, 0.5) ** 2))(jnp.array([3.0]))
    assert value == 9
    np.testing.assert_allclose(gradient, [-3.0])


def test_what_does_not_fit_is_refused():
    outputs, batch = given()
    with pytest.raises(ConfigError, match="embedding"):
        CORAL(view="b")(outputs, batch)
    with pytest.raises(ConfigError, match="The model has no fused features: name an embedding"):
        CORAL()(Outputs({}, {}), batch)
    with pytest.raises(ConfigError):
        CORAL(sources=1)
    with pytest.raises(ConfigError):
        SourceAdversary(strength=-1.0)
