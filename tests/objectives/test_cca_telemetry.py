"""What DCCA tells beside its loss: closed forms, and a collapse that is seen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax.data import Modality
from mmjax.encoders import Flatten
from mmjax.models import DualEncoder
from mmjax.objectives import (
    DCCA,
    SquaredDCCA,
    canonical_correlations,
    dcca_loss,
    dcca_loss_and_telemetry,
    squared_cca_loss,
)
from mmjax.structs import Batch
from mmjax.training.step import loss_of, state_maker

SOLVERS = ["exact", "newton_schulz"]
tell = jax.jit(dcca_loss_and_telemetry, static_argnames=("ridge", "k", "solver"))


def white(rows, width, seed=0):
    """Columns whose sample covariance is exactly I."""
    raw = np.random.default_rng(seed).standard_normal((rows, width))
    return np.linalg.qr(raw - raw.mean(0))[0] * np.sqrt(rows - 1)


def pair():
    rng = np.random.default_rng(0)
    h1 = rng.standard_normal((40, 5)) @ rng.standard_normal((5, 5)) * 3 + 2
    return np.float32(h1), np.float32(h1[:, :3] + rng.standard_normal((40, 3)))


@pytest.mark.parametrize("solver", SOLVERS)
def test_closed_forms(solver):
    deviations = np.array([3.0, 2.0, 1.0, 0.5, 0.5])
    h1 = np.float32(white(40, 5) * deviations)
    h2 = h1[:, 2::-1] * np.float32(100)
    loss, found = tell(h1, h2, ridge=0.0, solver=solver)
    # 1e-4: float32 rounding; the ridge of rounding's size is 4 eps.
    for view, unit, variances in (("1", 1, deviations**2), ("2", 100, deviations[:3] ** 2)):
        np.testing.assert_allclose(
            found[f"effective_rank_{view}"],
            variances.sum() ** 2 / np.square(variances).sum(),
            rtol=1e-4,
        )
        # A diagonal covariance: there the estimate is the condition number.
        condition = variances.max() / variances.min()
        np.testing.assert_allclose(found[f"condition_{view}"], condition, rtol=1e-4)
        np.testing.assert_allclose(
            found[f"deviation_{view}"], unit * np.sqrt(variances.mean()), rtol=1e-4
        )
    np.testing.assert_allclose(found["correlation_mean"], 1, rtol=1e-4)
    np.testing.assert_allclose(loss, -3, rtol=1e-4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_it_changes_neither_the_loss_nor_its_gradient(solver):
    h1, h2 = pair()
    loss = functools.partial(dcca_loss, solver=solver)
    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(h1, h2)
    telling = functools.partial(dcca_loss_and_telemetry, solver=solver)

    @jax.jit
    def told(h1, h2):
        def misuse(h1):  # a gradient that someone asks of the telemetry is none
            return sum(telling(h1, h2)[1].values())

        right = jax.value_and_grad(telling, argnums=(0, 1), has_aux=True)
        return *right(h1, h2), jax.grad(misuse)(h1)

    (other, found), others, misused = told(h1, h2)
    assert value == other
    for gradient, expected in zip(others, gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-6)  # fused in another order
    assert all(scalar.shape == () and scalar.dtype == jnp.float32 for scalar in found.values())
    assert (misused == 0).all()


def test_correlations_are_those_of_all_directions():
    h1, h2 = pair()
    rho = jax.jit(canonical_correlations)(h1, h2)
    _, found = tell(h1, h2, k=1)
    np.testing.assert_allclose(found["correlation_largest"], rho[0], rtol=1e-6)
    np.testing.assert_allclose(found["correlation_smallest"], rho[-1], rtol=1e-6)
    np.testing.assert_allclose(found["correlation_mean"], rho.mean(), rtol=1e-6)
    _, products = tell(h1, h2, solver="newton_schulz")
    np.testing.assert_allclose(products["correlation_mean"], rho.mean(), rtol=1e-5)
    assert set(found) - set(products) == {"correlation_largest", "correlation_smallest"}


@pytest.mark.parametrize("seed", range(3))
def test_the_condition_is_never_overestimated(seed):
    rng = np.random.default_rng(seed)
    h = rng.standard_normal((60, 6)) @ rng.standard_normal((6, 6))
    with jax.enable_x64(True):
        found = float(tell(h, h)[1]["condition_1"])
    exact = np.linalg.cond(np.cov(h.T) + 1e-4 * np.eye(6))
    # 1e3: what "often some times below" may mean in six dimensions.
    assert exact / 1e3 < found <= exact * (1 + 1e-9)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_collapse_is_seen(solver):
    rng = np.random.default_rng(0)
    healthy = np.float32(white(40, 5))
    partner = healthy[:, :3]
    direction = np.float32(rng.standard_normal((40, 1)) * rng.standard_normal((1, 5)))
    _, before = tell(healthy, partner, solver=solver)
    _, after = tell(direction, partner, solver=solver)
    np.testing.assert_allclose(before["effective_rank_1"], 5, rtol=1e-4)
    np.testing.assert_allclose(after["effective_rank_1"], 1, rtol=1e-4)
    np.testing.assert_allclose(after["effective_rank_2"], 3, rtol=1e-4)
    assert after["condition_1"] > 100 * before["condition_1"]  # the ridge bounds it
    assert after["correlation_mean"] < 0.2 < 0.9 < before["correlation_mean"]
    _, point = tell(np.zeros((40, 5), np.float32) + 5, partner, solver=solver)
    assert point["deviation_1"] < 1e-5
    assert all(np.isfinite(scalar) for scalar in point.values())


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_it_is_finite_at_any_scale(scale):
    h1, h2 = pair()
    _, found = tell(h1 * np.float32(scale), h2, ridge=0.0)
    assert all(np.isfinite(scalar) for scalar in found.values())
    if scale > 1:  # below, squares of the smallest variances are lost
        expected = tell(h1, h2, ridge=0.0)[1]["effective_rank_1"]
        np.testing.assert_allclose(found["effective_rank_1"], expected, rtol=1e-4)


def test_it_reaches_the_metrics_of_a_step_only_if_asked():
    views = ("image", "audio")
    h1, h2 = pair()
    modalities = {"image": Modality("vector", (5,)), "audio": Modality("vector", (3,))}
    present = {"image": np.arange(40) > 0}
    batch = Batch.of(dict(zip(views, (h1, h2), strict=True)), np.arange(40), present=present)
    quiet = DCCA(views=views)
    fast = DCCA(views=views, solver="newton_schulz", telemetry=True)
    squared = SquaredDCCA(views=views, weight=2.0)
    objectives = (quiet, fast, squared)
    make = state_maker(  # of a model whose embeddings are its inputs
        *(DualEncoder(dict.fromkeys(views, Flatten())), modalities, {}, objectives, optax.sgd(1.0)),
        seed=0,
        dtype=jnp.dtype("float32"),
    )
    state = jax.jit(make)()

    @jax.jit
    def run(batch):
        return loss_of(state, state.params, batch), squared_cca_loss(h1[1:], h2[1:])

    (total, (values, _)), square = run(batch)
    telling = {name for name in values if "/" in name}
    pairs = {f"{name}/pairs" for name in ("dcca", "dcca_2", "squared_dcca")}  # always told
    assert {float(values[name]) for name in pairs} == {39}
    telling -= pairs
    assert telling == {
        "dcca_2/correlation_mean",
        *(
            f"dcca_2/{key}_{v}"
            for key in ("deviation", "effective_rank", "condition")
            for v in "12"
        ),
    }
    assert set(values) - telling - pairs == {"dcca", "dcca_2", "squared_dcca"}
    np.testing.assert_allclose(values["dcca_2"], values["dcca"], rtol=1e-5)
    np.testing.assert_allclose(values["dcca"], tell(h1[1:], h2[1:])[0], rtol=1e-5)
    np.testing.assert_allclose(values["squared_dcca"], square, rtol=1e-5)
    np.testing.assert_allclose(
        total, values["dcca"] + values["dcca_2"] + 2 * values["squared_dcca"], rtol=1e-6
    )
