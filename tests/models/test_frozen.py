"""Frozen encoders: outside the gradient, the optimizer, dropout and the running statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from mmjax.benchmarks.flops import matmul_flops, step_flops
from mmjax.data import Modality, Target
from mmjax.encoders import MLP, LeNet
from mmjax.errors import ConfigError
from mmjax.fusion import Concat
from mmjax.models import DualEncoder, FusionModel
from mmjax.objectives import DCCA, CrossEntropy
from mmjax.structs import Batch
from mmjax.training import AdamW, train_step
from mmjax.training.checkpoints import named_leaves
from mmjax.training.step import abstract_state, apply, create_state, state_maker

B = 16
MODALITIES = {"image": Modality("image", (4, 4, 1)), "table": Modality("vector", (6,))}
IMAGE = LeNet(blocks=1, channels=4, width=3, batch_norm=True)
TABLE = MLP(hidden=(8,), width=5, dropout=0.5)
ENCODERS = {"table": TABLE, "image": IMAGE}
OPTIMIZER = AdamW(learning_rate=1e-2, weight_decay=0.5)


def fusion(*frozen):
    return FusionModel(ENCODERS, Concat(), frozen=frozen)


def maker(model, optimizer=None):
    objective = CrossEntropy() if isinstance(model, FusionModel) else DCCA(views=("image", "table"))
    return state_maker(
        *(
            model,
            MODALITIES,
            {"label": Target("class", 3)},
            (objective,),
            optimizer or OPTIMIZER.build(100),
        ),
        seed=0,
        dtype=jnp.dtype("float32"),
    )


def mesh(shape=(1, 1, 1)):
    axes, kinds = ("data", "fsdp", "tensor"), (AxisType.Auto,) * 3
    return jax.make_mesh(shape, axes, axis_types=kinds, devices=jax.devices()[: np.prod(shape)])


def batch():
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.standard_normal((B, *modality.shape)).astype(np.float32)
        for name, modality in MODALITIES.items()
    }
    return Batch.of(inputs, np.arange(B), targets={"label": np.arange(B, dtype=np.int32) % 3})


@functools.cache
def trained(*frozen):
    """The arrays of a state by name, before and after three steps."""
    state = create_state(maker(fusion(*frozen)), mesh())
    before = jax.device_get(named_leaves(state))
    step = jax.jit(train_step)
    for _ in range(3):
        state, _ = step(state, batch())
    return before, jax.device_get(named_leaves(state)), state


def changed(before, after):
    """The names of the model's arrays that are no longer the same."""
    names = [name for name in before if name.split("/")[0] in ("params", "frozen", "variables")]
    return {name for name in names if not np.array_equal(before[name], after[name])}


def test_a_frozen_encoder_keeps_its_bits_and_all_others_learn():
    before, after, state = trained("image")
    held = {name for name in before if name.startswith("frozen/")}
    assert {name.split("/")[3] for name in held} == {"image"}
    assert len(held) == 5  # a kernel, scale and bias of the norm, kernel and bias of the projection
    stats = {name for name in before if name.startswith("variables/")}
    assert len(stats) == 2
    params = {name for name in before if name.startswith("params/")}
    assert changed(before, after) == params
    assert set(state.params["model"]["encoders"]) == {"table"}
    # Without freezing, weight decay, gradient and batch statistics reach them all.
    before, after, _ = trained()
    assert not [name for name in before if name.startswith("frozen/")]
    assert {name.replace("frozen/", "params/") for name in held} | stats <= changed(before, after)


def test_the_optimizer_holds_no_moments_of_what_is_frozen():
    def sizes(tree):
        return sum(leaf.size for leaf in jax.tree.leaves(tree) if leaf.ndim)

    for frozen in ((), ("image",), ("table", "image")):
        state = abstract_state(maker(fusion(*frozen)), mesh())
        assert sizes(state.opt_state) == 2 * sizes(state.params)
        assert set(state.params["model"].get("encoders", {})) == set(ENCODERS) - set(frozen)
        moments = [name for name in named_leaves(state) if name.startswith("opt_state/")]
        assert not [name for name in moments for each in frozen if f"/{each}/" in name]


def test_freezing_draws_the_same_parameters():
    free, held = trained()[0], trained("image")[0]
    for name, values in held.items():
        if name.split("/")[0] in ("params", "frozen", "variables"):
            there = free[name.replace("frozen/", "params/")]
            np.testing.assert_array_equal(there, values)


def test_in_training_a_frozen_encoder_computes_as_in_evaluation():
    @jax.jit
    def run(state):
        """In evaluation and in training."""
        return [
            apply(state, state.params, batch(), train=train, key=state.key).embeddings
            for train in (False, True)
        ]

    both = ("table", "image")
    held, free = run(trained(*both)[2]), run(trained()[2])
    for name in both:
        np.testing.assert_array_equal(held[0][name], held[1][name])
        # Dropout, and the batch's statistics.
        assert np.abs(free[0][name] - free[1][name]).max() > 0.01


def test_the_backward_of_a_frozen_encoder_is_not_computed():
    encoders = {"left": MLP((8,), 4), "right": MLP((7,), 3)}
    modalities = {"left": Modality("vector", (6,)), "right": Modality("vector", (5,))}
    forward = {"left": 2 * B * (6 * 8 + 8 * 4), "right": 2 * B * (5 * 7 + 7 * 3)}
    # Of a layer's weights and of its input; nobody asks for the gradient of the data.
    backward = {"left": 2 * B * (6 * 8 + 2 * 8 * 4), "right": 2 * B * (5 * 7 + 2 * 7 * 3)}
    head = 2 * B * (4 + 3) * 10
    inputs = {name: np.zeros((B, *m.shape), np.float32) for name, m in modalities.items()}
    given = Batch.of(inputs, np.arange(B), targets={"label": np.zeros(B, np.int32)})
    for frozen in ((), ("left",), ("left", "right")):
        make = state_maker(
            *(
                FusionModel(encoders, frozen=frozen),
                modalities,
                {"label": Target("class", 10)},
                (CrossEntropy(),),
            ),
            optax.identity(),
            seed=0,
            dtype=jnp.dtype("float32"),
        )
        state = abstract_state(make, mesh())
        trained = [name for name in encoders if name not in frozen]
        # The gradient of the fused vector is computed only if an encoder waits for it.
        heads = head * (3 if trained else 2)
        done = sum(forward.values()) + sum(backward[name] for name in trained) + heads
        assert matmul_flops(train_step, state, given) == done
        counted = sum(forward[name] * (3 if name in trained else 1) for name in encoders)
        assert step_flops(state, given) == counted + 3 * head


@functools.cache
def losses(shape):
    """Those of two steps on a mesh; the frozen parameters keep their bits."""
    encoders = {"table": MLP((8,), 4), "image": IMAGE}
    make = maker(FusionModel(encoders, frozen=("image",)), OPTIMIZER.build(100))
    on, found = mesh(shape), []
    state, step = create_state(make, on), jax.jit(train_step)
    held = jax.device_get(state.frozen)
    with jax.set_mesh(on):
        for _ in range(2):
            state, metrics = jax.block_until_ready(step(state, batch()))
            found.append(float(metrics["loss"]))
    jax.tree.map(np.testing.assert_array_equal, held, jax.device_get(state.frozen))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(2, 1, 1), (1, 2, 1)])
def test_two_devices_take_the_steps_of_one(shape):
    """Without dropout, whose random numbers are of a batch and not of a device."""

    # 1e-5: float32 sums in another order, and two steps of Adam on them.
    np.testing.assert_allclose(losses(shape), losses((1, 1, 1)), rtol=1e-5)


def test_what_projects_frozen_encoders_still_learns():
    model = DualEncoder(ENCODERS, width=2, frozen=("table", "image"))
    state = abstract_state(maker(model), mesh())
    assert set(state.params["model"]) == {"project"}
    assert set(state.frozen["model"]["encoders"]) == set(ENCODERS)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (fusion("imgae"), r"no encoder, for `frozen`, 'imgae': did you mean 'image'\?"),
        (DualEncoder(ENCODERS, frozen=("sound",)), r"'sound'\. Available: table, image"),
        (
            FusionModel(ENCODERS, modalities=("table",), frozen=("image",)),
            r"for `frozen`, 'image'\. Available: table\.",
        ),
        (
            DualEncoder(ENCODERS, frozen=("table", "image")),
            "All parameters of the model are frozen, so nothing can be trained: remove an encoder "
            "from model.frozen",
        ),
    ],
)
def test_what_cannot_be_frozen(model, sentence):
    with pytest.raises(ConfigError, match=sentence):
        jax.eval_shape(maker(model))
