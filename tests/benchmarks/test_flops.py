"""FLOP counts against counts by hand: 2 m n k for a product of [m, k] and [k, n]."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mmjax.benchmarks.flops import matmul_flops, step_flops
from mmjax.data import Modality, Target
from mmjax.encoders import LSTM, MLP
from mmjax.fusion import Concat
from mmjax.layers import Attention
from mmjax.models import FusionModel
from mmjax.objectives import DCCA, CrossEntropy, dcca_loss
from mmjax.structs import Batch
from mmjax.training.step import state_maker

FLOAT32 = jnp.dtype("float32")


def shape(*sizes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(sizes, dtype)


def product(x, w):
    return x @ w


X, W = shape(3, 4), shape(4, 5)
PRODUCT = 2 * 3 * 4 * 5


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (product, PRODUCT),
        (lambda x, w: jnp.tanh(x) + x, 0),
        (jax.jit(product), PRODUCT),
        (jax.checkpoint(product), PRODUCT),
        (jax.vmap(lambda row, w: row @ w, in_axes=(0, None)), PRODUCT),
        (lambda x, w: jnp.einsum("bd,de,be->b", x, w, x @ w), None),
        (lambda x, w: jax.lax.map(lambda row: row @ w, x), PRODUCT),
        (lambda x, w: jax.lax.fori_loop(0, 7, lambda i, y: y + x @ w, x @ w), 8 * PRODUCT),
        # Forward, and one product for the gradient to each argument.
        (jax.grad(lambda x, w: jnp.sum((x @ w) ** 2), argnums=(0, 1)), 3 * PRODUCT),
    ],
    ids=["matmul", "none", "jit", "remat", "vmap", "einsum", "map", "fori", "grad"],
)
def test_products(function, expected):
    if expected is None:  # einsum may choose its order: the x @ w, and one more product at least
        assert matmul_flops(function, X, W) >= 2 * PRODUCT
    else:
        assert matmul_flops(function, X, W) == expected


def test_a_branch_counts_as_the_dearest():
    def function(x, w):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ w @ w.T @ w, lambda: x @ w)

    assert matmul_flops(function, X, W) == 3 * PRODUCT


def test_a_scan_counts_as_often_as_it_runs():
    def function(x, w):
        return jax.lax.scan(lambda y, _: (y @ w @ w.T, None), x, length=11)

    assert matmul_flops(function, X, W) == 11 * 2 * PRODUCT


def test_a_while_loop_of_unknown_length():
    def function(x, w, inside):
        def body(y):
            return y + (x @ w if inside else 1)

        return jax.lax.while_loop(lambda y: y.sum() < 9, body, x @ w)

    assert matmul_flops(lambda x, w: function(x, w, False), X, W) == PRODUCT
    with pytest.raises(ValueError, match="A while loop has a matrix product"):
        matmul_flops(lambda x, w: function(x, w, True), X, W)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # outputs 2 x 8 x 6 x 10, each of a 3 x 3 window over 4 channels
        ({"padding": "SAME"}, 2 * (2 * 8 * 6 * 10) * (3 * 3 * 4)),
        ({"padding": "VALID"}, 2 * (2 * 6 * 4 * 10) * (3 * 3 * 4)),
        ({"padding": "SAME", "strides": 2}, 2 * (2 * 4 * 3 * 10) * (3 * 3 * 4)),
        ({"padding": "SAME", "feature_group_count": 2}, 2 * (2 * 8 * 6 * 10) * (3 * 3 * 2)),
    ],
    ids=["same", "valid", "strides", "groups"],
)
def test_convolution(options, expected):
    def function(x):
        return nnx.Conv(4, 10, (3, 3), rngs=nnx.Rngs(0), **options)(x)

    assert matmul_flops(function, shape(2, 8, 6, 4)) == expected


def test_mlp():
    def function(x):
        config = MLP(hidden=(8, 6), width=4)
        module = config.build(Modality("vector", (5,)), dtype=FLOAT32, rngs=nnx.Rngs(0))
        return module(x, None, jnp.ones(3, bool), train=False, rngs=None).tokens

    assert matmul_flops(function, shape(3, 5)) == 2 * 3 * (5 * 8 + 8 * 6 + 6 * 4)


def test_attention():
    B, Tq, Tk, D = 2, 3, 5, 8

    def function(queries, keys, mask):
        return Attention(D, 4, dtype=FLOAT32, rngs=nnx.Rngs(0))(queries, keys, mask)

    expected = 2 * B * (2 * Tq * D * D + 2 * Tk * D * D + 2 * Tq * Tk * D)
    arguments = shape(B, Tq, D), shape(B, Tk, D), shape(B, Tk, dtype=bool)
    assert matmul_flops(function, *arguments) == expected


def test_lstm():
    B, T, D = 3, 7, 6

    def function(x):
        modality = Modality("text", (T,), vocabulary=9)
        module = LSTM(width=D).build(modality, dtype=FLOAT32, rngs=nnx.Rngs(0))
        return module(x, None, jnp.ones(B, bool), train=False, rngs=None).tokens

    # The input and the state of every word to four gates. The orthogonal initialiser costs too.
    def init():
        return jax.nn.initializers.orthogonal()(jax.random.key(0), (D, 4 * D))

    ours = matmul_flops(function, shape(B, T, dtype=jnp.int32)) - matmul_flops(init)
    assert ours == 2 * 2 * B * T * D * 4 * D


def dcca_flops(rows, d1, d2):
    """The means of the views, twice each, and the covariances within and between them."""
    return 2 * rows * (2 * (d1 + d2) + d1 * d1 + d2 * d2 + d1 * d2)


def test_dcca_counts_its_covariances():
    N, D1, D2 = 32, 6, 4
    views = shape(N, D1), shape(N, D2)
    assert matmul_flops(dcca_loss, *views) == dcca_flops(N, D1, D2)
    # Backward, K = min(D1, D2): three gradients of covariances, four products with the views.
    backward = 2 * D2 * (D1 * D2 + D1 * D1 + D2 * D2) + 2 * N * (D1 * D1 + D2 * D2 + 2 * D1 * D2)
    gradient = jax.grad(dcca_loss, argnums=(0, 1))
    assert matmul_flops(gradient, *views) == dcca_flops(N, D1, D2) + backward


def test_a_step_is_three_times_the_forward():
    B = 16
    modalities = {"a": Modality("vector", (6,)), "b": Modality("vector", (5,))}
    make = state_maker(
        FusionModel({"a": MLP((8,), 4, dropout=0.1), "b": MLP((), 3)}, Concat()),
        modalities,
        {"label": Target("class", 10)},
        (CrossEntropy(), DCCA(views=("a", "b"))),
        optax.identity(),
        seed=0,
        dtype=FLOAT32,
    )
    state = jax.eval_shape(make)
    inputs = {name: np.zeros((B, *m.shape), np.float32) for name, m in modalities.items()}
    batch = Batch.of(inputs, np.arange(B), targets={"label": np.zeros(B, np.int32)})
    forward = 2 * B * (6 * 8 + 8 * 4 + 5 * 3 + (4 + 3) * 10) + dcca_flops(B, 4, 3)
    assert step_flops(state, batch) == 3 * forward
