"""Losses of a batch as a whole: two devices give what one gives, and each holds its own rows."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from mmjax.objectives import (
    InfoNCE,
    RunningCovariance,
    SigmoidContrastive,
    barlow_twins,
    cross_entropy,
    dcca_loss,
    dcca_loss_and_telemetry,
    dgcca_loss,
    dimensionwise_correlation,
    dmcca_loss,
    dtcca_loss,
    eckart_young_loss,
    focal,
    info_nce,
    joint_embedding,
    noi_loss,
    relative_distance,
    sigmoid_contrastive,
    soft_cca_loss,
    squared_cca_loss,
    unit_distance,
    vicreg,
)
from mmjax.structs import Batch, Outputs

ROWS, D = 1013, 5  # of a device; a prime, which no other size is a multiple of
B = 2 * ROWS
CLASS_WEIGHTS = (1.0, 1.0, 5.0, 9.0, 2.0)


def memory():
    return tuple(RunningCovariance(jnp.eye(D) + d / 9, jnp.float32(2.0)) for d in range(2))


def mean(total_and_count):
    return total_and_count[0] / total_and_count[1]


def learned(objective, x, y, w):
    """The loss of an objective with parameters; beside it their gradients and the telemetry."""
    module = objective(views=("a", "b"), learned=True).build(Outputs({}, {}), rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(module)
    outputs = Outputs({"a": x, "b": y}, dict.fromkeys("ab", jnp.ones(B, bool)))
    rows = Batch.of({}, np.arange(B)).replace(weight=jnp.ones(B) if w is None else w)

    def loss(params):
        term = nnx.merge(graphdef, params)(outputs, rows, train=True, rngs=None)
        return term.mean, term.telemetry

    (value, telemetry), gradients = jax.value_and_grad(loss, has_aux=True)(nnx.as_pure(params))
    return value, (gradients, telemetry)


LOSSES = {  # of views x and y [B, D], labels z [B] and weights w [B]; some have results beside it
    "dcca": lambda x, y, z, w: dcca_loss(x, y, weight=w),
    "dcca, k": lambda x, y, z, w: dcca_loss(x, y, k=2, weight=w),
    "dcca, newton_schulz": lambda x, y, z, w: dcca_loss_and_telemetry(
        x, y, weight=w, solver="newton_schulz"
    ),
    "squared_cca": lambda x, y, z, w: squared_cca_loss(x, y, weight=w),
    "dgcca": lambda x, y, z, w: dgcca_loss((x, y, x + y), k=2, weight=w, ridge=0.1),
    "dmcca": lambda x, y, z, w: dmcca_loss((x, y, x + y), k=2, weight=w, ridge=0.1),
    "dtcca": lambda x, y, z, w: dtcca_loss((x, y, x + y), k=1, weight=w),
    "eckart_young": lambda x, y, z, w: eckart_young_loss((x, y, x + y), weight=w),
    "barlow_twins": lambda x, y, z, w: barlow_twins(x, y, weight=w),
    "vicreg": lambda x, y, z, w: vicreg(x, y, weight=w),
    "noi": lambda x, y, z, w: noi_loss(x, y, memory(), weight=w),
    "soft_cca": lambda x, y, z, w: soft_cca_loss(x, y, memory(), weight=w),
    "dimensionwise_correlation": lambda x, y, z, w: dimensionwise_correlation(x, y, weight=w),
    "relative_distance": lambda x, y, z, w: relative_distance(x, y, weight=w),
    "unit_distance": lambda x, y, z, w: unit_distance(x, y, weight=w),
    "cross_entropy": lambda x, y, z, w: mean(
        cross_entropy(x + y, z, weight=w, class_weights=CLASS_WEIGHTS)
    ),
    "focal": lambda x, y, z, w: mean(
        focal(x + y, z, gamma=2.0, weight=w, class_weights=CLASS_WEIGHTS)
    ),
    "info_nce": lambda x, y, z, w: info_nce(x, y, temperature=0.1, weight=w),
    "sigmoid": lambda x, y, z, w: sigmoid_contrastive(x, y, temperature=10.0, bias=-10.0, weight=w),
    "joint_embedding": lambda x, y, z, w: joint_embedding(
        x, y, jnp.eye(B), regularization=0.1, margin=3.0, weight=w
    ),
    "info_nce, learned": lambda x, y, z, w: learned(InfoNCE, x, y, w),
    "sigmoid, learned": lambda x, y, z, w: learned(SigmoidContrastive, x, y, w),
}
OF_PAIRS = (
    *("info_nce", "sigmoid", "joint_embedding", "info_nce, learned", "sigmoid, learned"),
)  # each row meets the rows of all devices
EXPLICIT = (
    *("dcca", "dcca, k", "dcca, newton_schulz", "squared_cca", "dgcca", "dtcca", "vicreg"),
    *("noi", "soft_cca", "cross_entropy", "focal"),
)
CASES = [
    *((name, AxisType.Auto, True) for name in LOSSES),
    *((name, AxisType.Explicit, True) for name in EXPLICIT),
    # Each way to make weights of none.
    *((name, AxisType.Auto, False) for name in ("dcca", "dgcca", "unit_distance")),
    ("dcca", AxisType.Explicit, False),
]


def batch():
    """Views, labels that are others in each half, and weights, some of them 0."""
    rng = np.random.default_rng(0)
    x = rng.exponential(size=(B, D)).astype(np.float32)
    y = x + rng.standard_normal((B, D)).astype(np.float32)
    weight = np.ones(B, np.float32)
    weight[-30:] = 0
    return x, y, (np.arange(B) * D // B).astype(np.int32), weight


def value_and_gradients(name):
    def loss(x, y, labels, weight):
        found = LOSSES[name](x, y, labels, weight)
        return found if isinstance(found, tuple) else (found, ())

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


@functools.cache
def on_one_device(name):
    """The compiled program, as weights may vary; those of all 1 are what none is."""
    return value_and_gradients(name)


@pytest.mark.parametrize(
    ("name", "kind", "weighted"),
    CASES,
    ids=lambda value: str(getattr(value, "name", value)),
)
def test_two_devices_give_what_one_gives(name, kind, weighted):
    x, y, labels, weight = batch()
    if not weighted:
        weight = np.ones(B, np.float32)
    expected = on_one_device(name)(x, y, labels, weight)
    mesh = jax.make_mesh((2, 1, 1), ("data", "fsdp", "tensor"), axis_types=(kind,) * 3)
    with jax.set_mesh(mesh):
        rows = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
        given = [jax.device_put(each, rows) for each in (x, y, labels, weight)]
        if not weighted:
            given[-1] = None
        compiled = value_and_gradients(name).lower(*given).compile()
        found = jax.block_until_ready(compiled(*given))
    # 2e-5: the same float32 sums, taken in halves.
    close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5)
    jax.tree.map(close, found[0], expected[0])
    for gradient, other in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-4 * np.abs(other).max())
        assert len({str(shard.index) for shard in gradient.addressable_shards}) == 2
    program = compiled.as_text()
    assert f"[{ROWS},{D}]" in program  # a part of the rows, or this looks at nothing
    whole = re.findall(rf"\w+\[(?:\d+,)*{B}(?:,\d+)*\]", program)
    assert bool(whole) == (name in OF_PAIRS)


@pytest.mark.parametrize("name", ["dcca", "cross_entropy"])
def test_the_rows_of_each_device_alone_would_give_something_else(name):
    """What the test above would miss if a loss saw only the rows of its own device."""
    *given, weight = batch()
    few = np.zeros(B)
    few[:: B // 32] = 1
    whole, first, second = (
        float(on_one_device(name)(*given, np.float32(weight * few * half))[0][0])
        for half in (np.ones(B), np.arange(B) < ROWS, np.arange(B) >= ROWS)
    )
    assert abs(whole - (first + second) / 2) > 100 * 2e-5 * abs(whole)
