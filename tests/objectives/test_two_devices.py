"""Losses of a batch as a whole: two devices give what one gives, and each holds its own rows."""

import functools
import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from losses import LOSSES

ROWS, D = 251, 5  # of a device; a prime, which no other size is a multiple of
B = 2 * ROWS


OF_PAIRS = (
    *("info_nce", "sigmoid", "joint_embedding", "info_nce, learned", "sigmoid, learned"),
)  # each row meets the rows of all devices
QUICK = ("dcca", "info_nce", "cross_entropy")
CASES = [
    # `test_every_loss` has all of them on explicit axes.
    *((name, AxisType.Auto, True) for name in QUICK),
    *(
        pytest.param(name, AxisType.Auto, True, marks=pytest.mark.slow)
        for name in LOSSES
        if name not in QUICK
    ),
    *((name, AxisType.Explicit, True) for name in ("dcca", "vicreg", "info_nce")),
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
