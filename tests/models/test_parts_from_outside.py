"""Every part may come from outside: encoder, fusion, head and objectives that this file defines."""

import dataclasses
import functools
import json
import sys
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.data import Modality, Target
from mmjax.encoders import MLP, Encoder, FeatureShape, Flatten
from mmjax.errors import ConfigError
from mmjax.fusion import Fusion
from mmjax.heads import Head, Regressor
from mmjax.models import FusionModel
from mmjax.objectives import (
    AuxiliaryLoss,
    CrossEntropy,
    Objective,
    SquaredError,
    squared_error,
)
from mmjax.objectives.objective import embedding_of, prediction_of, target_of
from mmjax.structs import Batch, Features, Fused, Prediction, Term
from mmjax.training import SGD, PerPart
from mmjax.training.config import check_types, from_json, to_json
from mmjax.training.step import apply, loss_of, metric_names, state_maker, train_step

B, NODES, D = 6, 3, 4
MODALITIES = {
    "graph": Modality(
        "graph",
        parts={
            "nodes": Modality("table", (NODES, 2)),
            "links": Modality("table", (NODES, NODES)),
        },
    ),
    "table": Modality("vector", (5,)),
}
TARGETS = {"label": Target("class", 3), "size": Target("number")}


@dataclasses.dataclass(frozen=True)
class GraphLayer(Encoder):
    """A token for each node: the sum over those that it is linked to, mapped."""

    width: int = D
    kinds: ClassVar[tuple[str, ...]] = ("graph",)

    def build(self, modality, *, dtype, rngs):
        self.check_kind(modality)
        return GraphLayerModule(modality, self.width, dtype=dtype, rngs=rngs)


class GraphLayerModule(nnx.Module):
    def __init__(self, modality, width, *, dtype, rngs):
        nodes, width_in = modality.parts["nodes"].shape
        self.map = nnx.Linear(width_in, width, dtype=dtype, rngs=rngs)
        self.features = FeatureShape(nodes, width)

    def __call__(self, x, mask, present, *, train, rngs):
        tokens = self.map(jnp.einsum("btu,bud->btd", x["links"], x["nodes"]))
        return Features(tokens, jnp.ones(tokens.shape[:2], bool))


@dataclasses.dataclass(frozen=True)
class Gated(Fusion):
    """The tokens of all modalities, each times a gate; how far gates are from 1 is a loss."""

    def build(self, features, *, dtype, rngs):
        return GatedModule(features)


class GatedModule(nnx.Module):
    def __init__(self, features):
        gates = {name: nnx.Param(jnp.float32(2 + i)) for i, name in enumerate(sorted(features))}
        self.gates = nnx.Dict(gates)
        self.features = FeatureShape(sum(each.tokens for each in features.values()), D)

    def __call__(self, features, *, train, rngs):
        streams = {
            name: Features(features[name].tokens * gate[...], features[name].mask)
            for name, gate in sorted(self.gates.items())
        }
        whole = Features(
            jnp.concatenate([stream.tokens for stream in streams.values()], axis=1),
            jnp.concatenate([stream.mask for stream in streams.values()], axis=1),
        )
        spread = sum(jnp.square(gate[...] - 1) for gate in self.gates.values())
        return Fused(whole, streams, {"spread": Term.of_batch(spread)})


@dataclasses.dataclass(frozen=True)
class Prototypes(Head):
    """Logits are minus the squared distances from one point for each class."""

    kinds: ClassVar[tuple[str, ...]] = ("class",)

    def build(self, features, target, *, dtype, rngs):
        self.check_kind(target)
        return PrototypesModule(target.classes, features.width, rngs=rngs)


class PrototypesModule(nnx.Module):
    def __init__(self, classes, width, *, rngs):
        self.points = nnx.Param(jax.random.normal(rngs.params(), (classes, width)))

    def __call__(self, fused, given, *, train, rngs):
        apart = fused.pooled[:, None, :] - self.points[...][None, :, :]
        return Prediction(-jnp.sum(jnp.square(apart), axis=2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gaussian(Objective):
    """Minus the log likelihood of numbers, of a variance that is learned: (e^-s d^2 + s) / 2."""

    weight: float = 1.0
    target: str
    name = "gaussian"

    def build(self, outputs, *, rngs):
        return GaussianModule(self.target)


class GaussianModule(nnx.Module):
    def __init__(self, target):
        self.target, self.log_variance = target, nnx.Param(jnp.float32(0.5))

    def __call__(self, outputs, batch, *, train, rngs):
        numbers, weight = target_of(batch, self.target)
        predicted = prediction_of(outputs, self.target).values
        total, count = squared_error(predicted, numbers, weight=weight)
        s = self.log_variance[...]
        return Term((jnp.exp(-s) * total + count * s) / 2, count)


class RunningMean(nnx.Variable):
    """A running mean."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Centre(Objective):
    """The squared distance of the mean embedding from its running mean, which has a half of it."""

    weight: float = 1.0
    view: str
    name = "centre"

    def build(self, outputs, *, rngs):
        return CentreModule(self.view, embedding_of(outputs, self.view).shape[-1])


class CentreModule(nnx.Module):
    def __init__(self, view, width):
        self.view, self.mean = view, RunningMean(jnp.zeros(width))

    def __call__(self, outputs, batch, *, train, rngs):
        centre, before = outputs.embeddings[self.view].mean(axis=0), self.mean[...]
        if train:
            self.mean[...] = (before + centre) / 2
        return Term.of_batch(jnp.sum(jnp.square(centre - before)), norm=jnp.linalg.norm(centre))


MODEL = FusionModel(
    {"graph": GraphLayer(), "table": MLP((), D)},
    Gated(),
    heads={"label": Prototypes(), "size": Regressor()},
)
OBJECTIVES = (
    CrossEntropy(weight=2.0),
    Gaussian(weight=0.5, target="size"),
    AuxiliaryLoss(weight=0.1, term="spread"),
    Centre(weight=0.25, view="table"),
)
RATES = {"objectives": 0.5, "fusion.gates.table": 0.25, "fusion": 0.125}
OTHERS = 0.0625


def batch():
    rng = np.random.default_rng(0)
    inputs = {
        "graph": {
            "nodes": rng.standard_normal((B, NODES, 2)).astype(np.float32),
            "links": rng.integers(0, 2, (B, NODES, NODES)).astype(np.float32),
        },
        "table": rng.standard_normal((B, 5)).astype(np.float32),
    }
    label = np.arange(B, dtype=np.int32) % 3
    size = rng.standard_normal(B).astype(np.float32)
    return Batch.of(inputs, np.arange(B), targets={"label": label, "size": size})


@functools.cache
def fresh():
    """The state before the first step."""
    sgd = {name: SGD(learning_rate=rate, momentum=0.0) for name, rate in RATES.items()}
    optimizer = PerPart(sgd, others=SGD(learning_rate=OTHERS, momentum=0.0))
    make = state_maker(
        *(MODEL, MODALITIES, TARGETS, OBJECTIVES, optimizer.build(10)),
        seed=0,
        dtype=jnp.dtype("float32"),
    )
    return jax.jit(make)()


@jax.jit
def run(state, batch):
    """One step, its gradient to parameters and inputs, and the outputs before it."""

    def loss(params, inputs):
        return loss_of(state, params, batch.replace(inputs=inputs), key=state.key)[0]

    gradients = jax.grad(loss, argnums=(0, 1))(state.params, batch.inputs)
    return *train_step(state, batch), gradients, apply(state, state.params, batch)


@functools.cache
def first():
    return jax.device_get(run(fresh(), batch()))


def test_all_parameters_learn_each_part_at_its_own_rate():
    before, (after, _, (gradients, _), _) = jax.device_get(fresh()), first()
    assert set(before.params) == {"model", "objectives"}
    assert len(jax.tree.leaves(before.params["objectives"])) == 1
    seen = set()

    def check(path, old, new, gradient):
        name = jax.tree_util.keystr(path, simple=True, separator=".").removeprefix("model.")
        rate = next((rate for part, rate in RATES.items() if name.startswith(part)), OTHERS)
        seen.add(rate)
        assert np.abs(gradient).max() > 1e-4
        np.testing.assert_allclose(new, old - rate * gradient, rtol=1e-6, atol=1e-6)  # float32

    jax.tree_util.tree_map_with_path(check, before.params, after.params, gradients)
    assert seen == {*RATES.values(), OTHERS}


def test_the_loss_is_the_weighted_sum_of_the_means():
    metrics = first()[1]
    names = metric_names(OBJECTIVES)
    assert names == ["cross_entropy", "gaussian", "spread", "centre"]
    missing = {f"missing/{name}" for name in ("graph", "table")}
    assert set(metrics) == {"loss", "gradient_norm", "centre/norm", *names, *missing}
    total = sum(each.weight * metrics[name] for each, name in zip(OBJECTIVES, names, strict=True))
    np.testing.assert_allclose(metrics["loss"], total, rtol=1e-6)  # float32


def test_the_parameter_of_an_objective_follows_its_closed_form():
    _, metrics, (gradients, _), outputs = first()
    (s,) = jax.tree.leaves(jax.device_get(fresh().params["objectives"]))
    (slope,) = jax.tree.leaves(gradients["objectives"])
    square = np.mean((outputs.predictions["size"].values - batch().targets["size"]) ** 2)
    np.testing.assert_allclose(metrics["gaussian"], (np.exp(-s) * square + s) / 2, rtol=1e-5)
    np.testing.assert_allclose(slope, 0.5 * (1 - np.exp(-s) * square) / 2, rtol=1e-5)


def test_what_an_objective_keeps_goes_on_from_step_to_step():
    after, metrics, _, outputs = first()
    centre = outputs.embeddings["table"].mean(axis=0)
    np.testing.assert_allclose(metrics["centre"], np.sum(centre**2), rtol=1e-5)
    np.testing.assert_allclose(metrics["centre/norm"], np.linalg.norm(centre), rtol=1e-5)
    (kept,) = jax.tree.leaves(after.variables)
    assert set(after.variables) >= {"objectives"}
    np.testing.assert_allclose(kept, centre / 2, rtol=1e-5)
    second, metrics, _, outputs = jax.device_get(run(after, batch()))
    centre = outputs.embeddings["table"].mean(axis=0)
    np.testing.assert_allclose(metrics["centre"], np.sum((centre - kept) ** 2), rtol=1e-5)
    np.testing.assert_allclose(*(jax.tree.leaves(second.variables)), (kept + centre) / 2, rtol=1e-5)


def test_a_fusion_gives_streams_and_a_loss():
    _, metrics, _, outputs = first()
    gates = jax.device_get(fresh().params["model"]["fusion"]["gates"])
    assert metrics["spread"] == sum((gate - 1) ** 2 for gate in gates.values()) == 1 + 4
    assert set(outputs.streams) == set(gates)
    for name, gate in gates.items():
        tokens = outputs.features[name].tokens
        np.testing.assert_allclose(outputs.streams[name].tokens, gate * tokens, rtol=1e-6)
    assert outputs.fused.tokens.shape == (B, NODES + 1, D)


def test_what_an_absent_tree_holds_reaches_nothing():
    there = np.arange(B) != 2
    given = batch().replace(present={"graph": there, "table": np.ones(B, bool)})
    found = []
    for filler in (0, 7, np.nan):
        graph = jax.tree.map(
            lambda x, filler=filler: np.where(there[:, None, None], x, np.float32(filler)),
            given.inputs["graph"],
        )
        found.append(run(fresh(), given.replace(inputs=given.inputs | {"graph": graph})))
    zeros, *others = jax.device_get(found)
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, zeros[1:], other[1:])
        jax.tree.map(np.testing.assert_array_equal, zeros[0].params, other[0].params)
    _, metrics, (_, of_inputs), outputs = zeros
    assert np.isfinite(metrics["loss"])
    assert not outputs.features["graph"].mask[2].any()
    for gradient in of_inputs["graph"].values():
        assert (gradient[2] == 0).all()
        assert (gradient[there] != 0).any()


def test_their_configs_come_back():
    check_types(MODEL)
    text = json.dumps([to_json(each) for each in (MODEL, *OBJECTIVES)])
    found = [from_json(each, sys.modules[__name__]) for each in json.loads(text)]
    assert found == [MODEL, *OBJECTIVES]


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        (AuxiliaryLoss(term="spraed"), "of the model's fusion 'spraed': did you mean 'spread'"),
        (SquaredError(target="siez"), "no target 'siez': did you mean 'size'"),
        (Centre(view="tabel"), "no embedding 'tabel': did you mean 'table'"),
    ],
)
def test_an_objective_of_what_the_model_does_not_give(objective, sentence):
    make = state_maker(
        *(MODEL, MODALITIES, TARGETS, (objective,), SGD().build(1)),
        seed=0,
        dtype=jnp.dtype("float32"),
    )

    def loss():
        state = make()
        return loss_of(state, state.params, batch())[0]

    with pytest.raises(ConfigError, match=sentence):
        jax.eval_shape(loss)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            FusionModel({"table": GraphLayer()}),
            "GraphLayer encodes .* graph, not vector: choose an encoder for vector",
        ),
        (
            FusionModel({"table": Flatten()}, heads={"size": Prototypes()}),
            "Prototypes predicts a target of the kind class, not number",
        ),
    ],
)
def test_kinds_that_they_are_not_for(model, sentence):
    with pytest.raises(ConfigError, match=sentence):
        model.build(MODALITIES, TARGETS, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))


def test_a_part_without_parameters_is_named():
    optimizer = PerPart({"objective": SGD()}).build(10)
    with pytest.raises(ConfigError, match="'objective': did you mean 'objectives"):
        optimizer.init(fresh().params)
