"""What objectives keep from step to step: in the state, in checkpoints, outside the gradient."""

import contextlib
import dataclasses
import functools
import sys
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from mmjax.data import DigitsHalves, Shapes
from mmjax.encoders import MLP, Encoder, FeatureShape, Flatten, TextTransformer
from mmjax.errors import ConfigError, RunError
from mmjax.models import (
    Autoencoder,
    Decoder,
    DualEncoder,
    FusionModel,
    VariationalCCA,
    abstract_outputs,
)
from mmjax.objectives import DCCA, NOI, SoftCCA
from mmjax.structs import Features
from mmjax.training import Experiment, Interrupted, Training, loop, train
from mmjax.training.checkpoints import Checkpoints, named_leaves
from mmjax.training.restore import restore_run
from mmjax.training.step import apply, loss_of, merged, state_maker, train_step

VIEWS = ("left", "right")
DATA, ENCODERS = DigitsHalves(), {view: MLP(hidden=(8,), width=3) for view in VIEWS}
OBJECTIVES = (
    NOI(views=VIEWS, decay=0.9),
    DCCA(views=VIEWS, k=1, weight=0.1),
    SoftCCA(views=VIEWS, decay=0.5),
)
ROWS = 32


def batch(number):
    return DATA.load("train", None).take(np.arange(ROWS) + ROWS * number)


@functools.cache
def states():
    """A state before and after each of two steps."""
    make = state_maker(
        DualEncoder(ENCODERS),
        DATA.modalities,
        DATA.targets,
        OBJECTIVES,
        optax.sgd(0.05),
        seed=0,
        dtype=jnp.dtype("float32"),
    )
    state, step = jax.jit(make)(), jax.jit(train_step)
    first = step(state, batch(0))[0]
    return state, first, step(first, batch(1))[0]


def kept_by(state, objective):
    """The running covariances of both views."""
    return merged(state, state.params).objectives[objective].covariances


def test_a_step_takes_the_statistics_on():
    begun, first, second = states()
    leaves = {name: leaf for name, leaf in named_leaves(begun).items() if "variables" in name}
    shapes = {name: leaf.shape for name, leaf in leaves.items()}
    assert shapes == {
        f"variables/objectives/{objective}/{part}/{side}": shape
        for objective in (0, 2)
        for side in (0, 1)
        for part, shape in (("totals", (3, 3)), ("weights", ()))
    }
    assert all((leaf == 0).all() for leaf in leaves.values())
    assert all(name.startswith("model/") for name in names_of(begun.params))
    covariances = []
    for state, number in ((begun, 0), (first, 1)):
        outputs = apply(state, state.params, batch(number), train=True, key=state.key)
        covariances.append([np.cov(outputs.embeddings[view].T) for view in VIEWS])
    for side in range(2):
        # 1e-5: float32 sums.
        before, after = covariances[0][side], covariances[1][side]
        found = kept_by(first, 0)[side].mean
        np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-6)
        found = kept_by(second, 0)[side].mean
        np.testing.assert_allclose(found, (0.9 * before + after) / 1.9, rtol=1e-5, atol=1e-6)
        assert kept_by(second, 0)[side].weight == np.float32(1.9)
        assert kept_by(second, 2)[side].weight == 1.5


def names_of(tree):
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]


def test_evaluation_leaves_them_as_they_are():
    _, state, _ = states()
    learner = merged(state, state.params)
    outputs = learner.model(batch(1), train=False, rngs=None)
    for objective in learner.objectives:
        objective(outputs, batch(1), train=False, rngs=None)
    after = nnx.as_pure(nnx.state(learner, nnx.Not(nnx.Param)))
    jax.tree.map(np.testing.assert_array_equal, after, state.variables)


def test_the_gradient_neither_reaches_them_nor_comes_from_what_is_kept():
    _, state, _ = states()

    def loss(params, variables):
        before = state.replace(variables=variables)
        total, (_, kept) = loss_of(before, params, batch(1), key=state.key)
        return total, kept

    def with_what_is_kept(params, variables):
        total, kept = loss(params, variables)
        return total + 1e3 * sum(leaf.sum() for leaf in jax.tree.leaves(kept))

    both = jax.jit(
        lambda params, variables: (
            jax.grad(lambda *given: loss(*given)[0], argnums=(0, 1))(params, variables),
            jax.grad(with_what_is_kept)(params, variables),
        )
    )
    (of_params, of_variables), same = both(state.params, state.variables)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(of_variables))
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(of_params)) > 1e-3
    # 1e-6: one program, added in two orders.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6, 1e-7), of_params, same)


def test_what_is_not_finite_is_not_saved(tmp_path):
    state = states()[1]
    broken = jax.tree.map(lambda leaf: leaf * np.inf, state.variables)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(RunError, match="after 1 steps are not finite"):
        checkpoints.save(state.replace(variables=broken), None, {})
    assert checkpoints.steps() == []


@dataclasses.dataclass(frozen=True)
class Dropping(Encoder):
    """An encoder whose dropout keeps its own stream of random numbers, as Flax teaches it."""

    kinds: ClassVar[tuple[str, ...]] = ("vector", "image")

    def build(self, modality, *, dtype, rngs):
        return DroppingEncoder(modality, rngs)


class DroppingEncoder(nnx.Module):
    def __init__(self, modality, rngs):
        self.linear = nnx.Linear(modality.size, 3, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.features = FeatureShape(tokens=1, width=3)

    def __call__(self, x, mask, present, *, train, rngs):
        y = self.linear(x.reshape(len(x), -1))
        return Features.of_vector(self.dropout(y, deterministic=not train))


EXPERIMENT = Experiment(
    name="remembered",
    data=DATA,
    model=DualEncoder(ENCODERS | {"left": Dropping()}),
    objectives=OBJECTIVES,
    training=Training(steps=8, batch_size=ROWS, log_every=1, save_every=5),
)


def arrays_of(run):
    """The arrays of the last checkpoint by name, but for random keys."""
    leaves = named_leaves(restore_run(run, "last", None, sys.modules[__name__])[1])
    keys = jax.dtypes.prng_key
    return {
        name: np.asarray(leaf)
        for name, leaf in leaves.items()
        if not jnp.issubdtype(leaf.dtype, keys)
    }


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not_to_the_bit(tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(EXPERIMENT, whole, None)
    asked = iter(["", "", "", "SIGTERM", "SIGTERM"])
    with monkeypatch.context() as patch:
        patch.setattr(
            loop, "stop_signal", lambda: contextlib.nullcontext(enter_result=lambda: next(asked))
        )
        with pytest.raises(Interrupted, match="Stopped at step 3 of 8"):
            train(EXPERIMENT, stopped, None)
    kept = arrays_of(stopped)
    np.testing.assert_allclose(kept["variables/objectives/0/weights/0"], 1 + 0.9 + 0.81, rtol=1e-6)
    train(EXPERIMENT, stopped, None)
    assert (whole / "metrics.jsonl").read_bytes() == (stopped / "metrics.jsonl").read_bytes()
    found = arrays_of(stopped)
    assert sum(name.startswith("variables/objectives/") for name in found) == 8
    assert found["variables/model/encoders/left/dropout/rngs/count"] == 8  # one number a step
    jax.tree.map(np.testing.assert_array_equal, found, arrays_of(whole))
    total = "variables/objectives/0/totals/0"
    assert not np.array_equal(kept[total], found[total])


def test_a_view_that_the_model_does_not_embed_is_refused():
    for model, sentence in [
        (DualEncoder(ENCODERS), "no embedding 'rihgt': did you mean 'right'"),
        (
            VariationalCCA("left", MLP((), 4), {"left": Decoder(())}),
            "no embedding 'rihgt'. Available: left",
        ),
    ]:
        make = state_maker(
            model,
            DATA.modalities,
            DATA.targets,
            (NOI(views=("left", "rihgt")),),
            optax.identity(),
            seed=0,
            dtype=jnp.dtype("float32"),
        )
        with pytest.raises(ConfigError, match=sentence):
            jax.eval_shape(make)


def test_widths_are_found_from_shapes_alone():
    shapes = Shapes(train_size=1, valid_size=1, test_size=1)
    two = {"image": MLP((), 5), "text": TextTransformer(width=8, layers=1, heads=2)}
    cases = [
        (DATA, DualEncoder(ENCODERS), {"left": 3, "right": 3}),
        (DATA, DualEncoder(ENCODERS, width=7), {"left": 7, "right": 7}),
        (DATA, DualEncoder(dict.fromkeys(VIEWS, Flatten())), {"left": 32, "right": 32}),
        (DATA, Autoencoder({"left": Flatten()}, {"right": Decoder()}, code="left"), {"left": 32}),
        (DATA, VariationalCCA("right", MLP((), 6), {"left": Decoder()}), {"right": 3}),
        (shapes, FusionModel(two), {"image": 5, "text": 8}),
    ]
    for data, model, expected in cases:
        found = []

        def build(data=data, model=model, found=found):
            module = model.build(
                data.modalities, data.targets, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0)
            )
            shapes = abstract_outputs(module, data.modalities, data.targets).embeddings
            found.append({name: leaf.shape[-1] for name, leaf in shapes.items()})
            return nnx.state(module, nnx.Param)

        jax.eval_shape(build)
        assert found == [expected]


def test_the_loss_is_the_weighted_sum_of_the_objectives():
    state = states()[0]
    whole, (values, _) = loss_of(state, state.params, batch(0), key=state.key)
    learner = merged(state, state.params)
    outputs = learner.model(batch(0), train=True, rngs=nnx.Rngs(dropout=state.key))
    terms = [each(outputs, batch(0), train=True, rngs=None) for each in learner.objectives]
    weighted = sum(each.weight * term.mean for each, term in zip(OBJECTIVES, terms, strict=True))
    np.testing.assert_allclose(weighted, whole, rtol=1e-6)  # float32 sums
    for each, term in zip(OBJECTIVES, terms, strict=True):
        np.testing.assert_allclose(values[each.name], term.mean, rtol=1e-6)
