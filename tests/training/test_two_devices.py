"""N devices give what one gives: loss and gradients of whole models, in both sharding modes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from parameters import drawn

from mmjax.data import DigitsHalves, Shapes
from mmjax.encoders import MLP, LeNet, LogMelCNN, TextTransformer
from mmjax.fusion import Concat, Mean, MultimodalTransformer
from mmjax.models import Autoencoder, Decoder, DualEncoder, FusionModel, VariationalCCA
from mmjax.objectives import (
    DCCA,
    NOI,
    BernoulliReconstruction,
    CrossEntropy,
    KLDivergence,
    SoftCCA,
    SquaredReconstruction,
    dcca_loss,
)
from mmjax.training.sharding import BATCH, state_shardings
from mmjax.training.step import create_state, loss_of, state_maker

ROWS = 32
VIEWS = ("left", "right")
digits, shapes = DigitsHalves(), Shapes(train_size=ROWS, valid_size=1, test_size=1)
halves = {view: MLP(hidden=(4,), width=3) for view in VIEWS}
decoders = {view: Decoder(hidden=(4,)) for view in VIEWS}
everything = {
    "image": LeNet(blocks=1, channels=2, width=4, batch_norm=True),
    "text": TextTransformer(width=4, layers=1, heads=2),
    "audio": LogMelCNN(blocks=1, channels=2, width=4, bands=20),
}
transformer = MultimodalTransformer(width=4, layers=1, heads=2)
DCCA_ALONE = {"dcca": (digits, DualEncoder(halves), (DCCA(views=VIEWS),))}
OF_VECTORS = DCCA_ALONE | {
    "autoencoder, noi and soft cca": (
        digits,
        Autoencoder(halves, decoders),
        (SquaredReconstruction(views=VIEWS), NOI(views=VIEWS), SoftCCA(views=VIEWS)),
    ),
    "variational cca": (
        digits,
        VariationalCCA("left", MLP(width=4), decoders, private={"right": MLP((4,), width=4)}),
        (KLDivergence(), BernoulliReconstruction(views=VIEWS)),
    ),
    "cross entropy, concat": (digits, FusionModel(halves, Concat()), (CrossEntropy(),)),
    "cross entropy, mean": (digits, FusionModel(halves, Mean(width=4)), (CrossEntropy(),)),
}
OBJECTIVES = (CrossEntropy(), DCCA(views=("image", "audio")))
OF_SIGNALS = {
    "image and audio": (
        shapes,
        FusionModel({name: everything[name] for name in ("image", "audio")}, transformer),
        OBJECTIVES,
    )
}
OF_ALL = {"all modalities": (shapes, FusionModel(everything, transformer), OBJECTIVES)}


def maker(case):
    data, model, objectives = case
    dtype = jnp.dtype("float32")
    return state_maker(
        *(model, data.modalities, data.targets, objectives, optax.identity()), seed=0, dtype=dtype
    )


def state_of(case):
    """A state whose parameters NumPy drew."""
    state = jax.eval_shape(maker(case))
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), state.variables)
    key, step = jax.random.key(0), jnp.zeros((), jnp.int32)
    return state.replace(params=drawn(state.params), variables=variables, key=key, step=step)


def batch_of(data):
    batch = data.load("train", None).take(np.arange(ROWS))
    present = dict(batch.present)
    first = next(iter(present))
    present[first] = np.arange(ROWS) != 3  # a missing modality on one of the devices only
    return batch.replace(present=present)


def mesh_of(shape, axis_type=AxisType.Auto):
    devices = jax.devices()[: np.prod(shape)]
    return jax.make_mesh(
        shape, ("data", "fsdp", "tensor"), axis_types=(axis_type,) * 3, devices=devices
    )


def losses_and_gradients(cases, shape, axis_type=AxisType.Auto):
    """Case -> its loss and gradients on a mesh of this shape, of all cases in one program."""
    mesh = mesh_of(shape, axis_type)
    states, batches = {}, {}
    for name, case in cases.items():
        state = state_of(case)
        states[name] = jax.device_put(state, state_shardings(state, mesh))
        batches[name] = jax.device_put(batch_of(case[0]), NamedSharding(mesh, BATCH))

    @jax.jit
    def compute(states, batches):
        found = {}
        for name, state in states.items():
            loss = functools.partial(loss_of, state, batch=batches[name], key=state.key)
            (total, _), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
            found[name] = total, gradients
        return found

    with jax.set_mesh(mesh):
        return jax.device_get(jax.block_until_ready(compute(states, batches)))


def on_one_device(cases):
    return losses_and_gradients(cases, (1, 1, 1))


@pytest.fixture(scope="module")
def vectors_on_one_device():
    return on_one_device(OF_VECTORS)


def assert_close(one, two):
    assert list(one) == list(two)
    for name in one:
        assert abs(one[name][0]) > 0.1
        # float32 sums in another order: a few units in the last place of values of order 1, and of
        # sums of 32 rows in the gradients. Where a DCCA stands behind convolutions, whitening
        # multiplies these roundings by the condition number of the views, here about 10.
        larger = 10 if name in OF_SIGNALS | OF_ALL else 1
        assert_close_at = functools.partial(
            np.testing.assert_allclose, rtol=2e-5 * larger, atol=2e-6 * larger
        )
        jax.tree.map(assert_close_at, two[name], one[name])


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_vectors_on_two_devices(vectors_on_one_device, axis_type):
    assert_close(vectors_on_one_device, losses_and_gradients(OF_VECTORS, (2, 1, 1), axis_type))


# JAX's explicit mode cannot tell how a lookup of word embeddings is to be sharded: no text there.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("cases", "axis_type"), [(OF_ALL, AxisType.Auto), (OF_SIGNALS, AxisType.Explicit)]
)
def test_signals_on_two_devices(cases, axis_type):
    assert_close(on_one_device(cases), losses_and_gradients(cases, (2, 1, 1), axis_type))


@pytest.mark.parametrize("shape", [(1, 2, 1), (1, 1, 2)])
def test_split_parameters_give_what_whole_ones_give(vectors_on_one_device, shape):
    whole = {name: vectors_on_one_device[name] for name in DCCA_ALONE}
    assert_close(whole, losses_and_gradients(DCCA_ALONE, shape))


def test_a_state_is_made_where_its_parts_lie():
    make, mesh = maker(DCCA_ALONE["dcca"]), mesh_of((1, 2, 1))
    state, whole = create_state(make, mesh), create_state(make, mesh_of((1, 1, 1)))
    expected = state_shardings(state, mesh)
    assert jax.tree.map(lambda leaf: leaf.sharding, state) == expected
    split = [leaf for leaf in jax.tree.leaves(state.params) if not leaf.is_fully_replicated]
    assert split
    # 1e-6: random bits are those of one device, and their scaling is rounded.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), state.params, whole.params
    )


def test_a_local_objective_would_be_noticed():
    """The rows of the two devices differ, so a DCCA of either half alone is another loss."""
    views = batch_of(digits).inputs
    h1, h2 = (jnp.asarray(views[name][:, 12:16]) for name in VIEWS)
    loss = jax.jit(functools.partial(dcca_loss, ridge=DCCA(views=VIEWS).ridge))
    whole = loss(h1, h2, weight=np.ones(ROWS))
    half = loss(h1, h2, weight=np.arange(ROWS) < ROWS // 2)
    assert abs(whole - half) > 0.1


def test_batch_rows_lie_on_both_devices():
    rows = jax.device_put(np.zeros((4, 3)), NamedSharding(mesh_of((2, 1, 1)), BATCH))
    assert rows.sharding.spec == PartitionSpec(("data", "fsdp"))
    assert {shard.data.shape for shard in rows.addressable_shards} == {(2, 3)}
