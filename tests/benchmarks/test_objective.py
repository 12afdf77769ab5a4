"""The benchmark of losses: what it times is the loss, and its products are those of the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.benchmarks import LOSSES, bench_objective, matmul_flops
from mmjax.benchmarks.objective import cca_products, quartiles
from mmjax.errors import ConfigError
from mmjax.objectives import squared_cca_loss

CCA = ["dcca", "dcca_newton_schulz", "squared_cca"]


def flops(name, rows, width):
    """Of the loss with its gradient, and of what is timed as its products."""
    loss, view = LOSSES[name], jax.ShapeDtypeStruct((rows, width), jnp.float32)
    whole = matmul_flops(jax.value_and_grad(loss.value, argnums=(0, 1)), view, view)
    return whole, matmul_flops(loss.products, view, view)


@pytest.mark.parametrize("name", CCA)
def test_the_products_of_a_cca_loss_are_all_that_it_takes(name):
    whole, products = flops(name, 48, 8)
    # Sums over rows may be products with a vector: at most six, of 2 B D.
    assert products <= whole <= products + 6 * 2 * 48 * 8


@pytest.mark.parametrize("name", sorted(set(LOSSES) - set(CCA)))
def test_no_loss_does_with_less_than_its_products(name):
    whole, products = flops(name, 48, 8)
    # Automatic differentiation of a covariance within a view takes twice the products it could.
    assert products <= whole <= 2.2 * products


def test_seven_products_go_over_the_batch():
    view = jax.ShapeDtypeStruct((100, 10), jnp.float32)
    counted = matmul_flops(lambda a, b: cca_products(a, b, 5), view, view)
    assert counted == 7 * 2 * 100 * 10 * 10 + 5 * 2 * 10**3


def test_what_it_reports():
    rows = bench_objective(["squared_cca", "dcca"], [4, 3], batch_size=64, rounds=3)
    assert [(row.loss, row.width) for row in rows] == [
        ("squared_cca", 4),
        ("dcca", 4),
        ("squared_cca", 3),
        ("dcca", 3),
    ]
    for row in rows:
        assert 0 < row.ms_quartiles[0] <= row.ms <= row.ms_quartiles[1]
        assert 0 < row.products_ms_quartiles[0] <= row.products_ms <= row.products_ms_quartiles[1]
        assert 0 < row.ratio_quartiles[0] <= row.ratio <= row.ratio_quartiles[1]
    # The views share half of their variance: correlations of about 0.5 in 64 rows.
    assert all(-0.9 * row.width < row.value < -0.1 * row.width for row in rows)
    assert rows[0].value > rows[1].value  # squares are less than what is squared


def test_views_in_bfloat16_give_nearly_the_same_value():
    exact, rounded = (
        bench_objective(["squared_cca"], [3], batch_size=64, precision=precision, rounds=2)[0]
        for precision in ("float32", "bfloat16")
    )
    assert exact.value != rounded.value
    # 2^-8: half a unit in the last of 8 bits, for each of the two views
    np.testing.assert_allclose(rounded.value, exact.value, rtol=2**-6)


def test_the_squared_loss_is_what_is_timed():
    z = np.random.default_rng(0).standard_normal((2, 32, 3)).astype(np.float32)
    both = jax.jit(lambda a, b: (LOSSES["squared_cca"].value(a, b), squared_cca_loss(a, b)))
    np.testing.assert_allclose(*both(z[0], z[1]))


def test_quartiles():
    assert quartiles([4.0, 1.0, 3.0, 2.0, 5.0]) == (2.0, 4.0)


@pytest.mark.parametrize(
    ("losses", "widths", "options", "sentence"),
    [
        (["dcac"], [3], {}, "no loss 'dcac': did you mean 'dcca'"),
        (["dcca"], [0], {}, "--width is 0: it must be 1 or more"),
        (["dcca"], [4, 40], {"batch_size": 32}, "batch of 32 examples .* 40 dimensions"),
        (["vicreg"], [3], {"batch_size": 1}, "--batch-size is 1: it must be 2 or more"),
        (["dcca"], [3], {"rounds": 1}, "--rounds is 1: it must be 2 or more"),
        (["dcca"], [3], {"precision": "float16"}, "no precision 'float16'"),
    ],
)
def test_what_cannot_work_is_refused(losses, widths, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        bench_objective(losses, widths, **options)
