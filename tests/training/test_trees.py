"""Inputs of several arrays, from the data set to the accuracy: a graph and a table, two targets."""

import dataclasses
import json
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding

from mmjax.data import About, ArraySource, Dataset
from mmjax.encoders import GraphEncoder, TableEncoder
from mmjax.evaluation import Classification
from mmjax.heads import Classifier
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.structs import Modality, Target
from mmjax.training import AdamW, Cosine, Experiment, Training, train
from mmjax.training.sharding import BATCH
from mmjax.training.step import create_state, loss_of, state_maker

NODES, EDGES, COUNT = 6, 5, 1_000


@dataclasses.dataclass(frozen=True)
class Scenes(Dataset):
    """Graphs of two red, two blue and two green nodes in three pairs; and rows of a table.

    `touching`: whether a red node is paired with a blue one. Colours alone say nothing of it, being
    the same in all graphs, nor do the pairs alone. `dear`: whether the number is above 0, and where
    it is not known, whether the category is 1. Nodes are numbered at random, the last two edges
    and what stands for an unknown number hold values that would mislead.
    """

    name = "scenes"
    about = About("Scenes", citation="mmjax", licence="Apache-2.0")
    modalities: ClassVar = {
        "scene": Modality(
            "graph",
            parts={
                "nodes": Modality("sequence", (NODES, 3)),
                "edges": Modality("sequence", (EDGES, 2), "int32", vocabulary=NODES),
                "edge_mask": Modality("vector", (EDGES,), "bool"),
            },
        ),
        "row": Modality(
            "table",
            parts={
                "numbers": Modality("vector", (1,)),
                "known": Modality("vector", (1,), "bool"),
                "categories": Modality("vector", (1,), "int32", vocabulary=3),
            },
        ),
    }
    targets: ClassVar = {"touching": Target("class", 2), "dear": Target("class", 2)}

    def load(self, split, folder):
        rng = np.random.default_rng(self.splits.index(split))
        count = COUNT
        touching = rng.integers(0, 2, count)
        colour, edges = np.zeros((count, NODES), int), np.zeros((count, EDGES, 2), np.int32)
        for i in range(count):
            edges[i] = rng.integers(0, NODES, (EDGES, 2))
            edges[i, :3] = rng.permutation(NODES).reshape(3, 2)
            while True:
                colour[i] = rng.permutation(np.arange(NODES) // 2)
                pairs = np.sort(colour[i][edges[i, :3]], axis=1)
                if (pairs == [0, 1]).all(axis=1).any() == touching[i]:
                    break
        number = rng.standard_normal((count, 1)).astype(np.float32)
        known, category = rng.random((count, 1)) < 0.5, rng.integers(1, 3, (count, 1))
        dear = np.where(known, number > 0, category == 1)[:, 0]
        return ArraySource(
            inputs={
                "scene": {
                    "nodes": np.eye(3, dtype=np.float32)[colour],
                    "edges": edges,
                    "edge_mask": np.tile(np.arange(EDGES) < 3, (count, 1)),
                },
                "row": {
                    "numbers": number,
                    "known": known,
                    "categories": category.astype(np.int32),
                },
            },
            targets={"touching": touching, "dear": dear.astype(np.int32)},
        )


OBJECTIVES = (CrossEntropy(target="touching"), CrossEntropy(target="dear"))


def model(rounds=1):
    encoders = {"scene": GraphEncoder(rounds=rounds, width=16), "row": TableEncoder(width=16)}
    return FusionModel(encoders, heads=dict.fromkeys(Scenes.targets, Classifier(hidden=(16,))))


def accuracies(tmp_path, rounds=1):
    experiment = Experiment(
        name="trees",
        data=Scenes(),
        model=model(rounds),
        objectives=OBJECTIVES,
        optimizer=AdamW(learning_rate=1e-2, schedule=Cosine()),
        training=Training(steps=200, batch_size=64, final_splits=("test",)),
        evaluation=tuple(Classification(target=name, name=name) for name in Scenes.targets),
    )
    run = tmp_path / "run"
    train(experiment, run, None)
    metrics = json.loads((run / "result.json").read_text())["metrics"]
    return metrics["test/touching_accuracy"], metrics["test/dear_accuracy"]


def test_a_graph_and_a_table_are_read(tmp_path):
    touching, dear = accuracies(tmp_path)
    assert touching > 0.97
    assert dear > 0.95


def test_without_messages_the_edges_are_not_read(tmp_path):
    touching, dear = accuracies(tmp_path, rounds=0)
    assert abs(touching - 0.5) < 4 * 0.5 / np.sqrt(COUNT)  # four standard deviations of chance
    assert dear > 0.95


def test_two_devices_give_what_one_gives():
    def loss_and_gradients(devices):
        mesh = jax.make_mesh(
            (devices, 1, 1),
            ("data", "fsdp", "tensor"),
            axis_types=(AxisType.Auto,) * 3,
            devices=jax.devices()[:devices],
        )
        make = state_maker(
            model(),
            Scenes.modalities,
            Scenes.targets,
            OBJECTIVES,
            optax.identity(),
            seed=0,
            dtype=jnp.dtype("float32"),
        )
        state = create_state(make, mesh)
        batch = Scenes().load("train", None).take(np.arange(16))
        present = {"scene": np.arange(16) != 3, "row": np.arange(16) != 12}
        batch = jax.device_put(batch.replace(present=present), NamedSharding(mesh, BATCH))
        with jax.set_mesh(mesh):
            run = jax.jit(jax.value_and_grad(lambda params: loss_of(state, params, batch)[0]))
            return jax.device_get(run(state.params))

    one, two = loss_and_gradients(1), loss_and_gradients(2)
    assert one[0] > 0.1
    # 1e-5: float32 sums over the rows, taken in halves.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6), one, two)
