"""Rules of balance between modalities: closed forms, and that they change encoders only."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmjax.data import Arrays
from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.evaluation import UnimodalClassification, blending_weights
from mmjax.models import FusionModel, LateFusionModel
from mmjax.objectives import CrossEntropy, Unimodal
from mmjax.structs import Batch, Outputs, Prediction
from mmjax.training import (
    OGMGE,
    SGD,
    Experiment,
    MMPareto,
    NoBalance,
    Training,
    Unchanged,
    train,
)
from mmjax.training.setup import prepare

NAMES = ("image", "text")
RNG = np.random.default_rng(0)
LABEL = np.arange(48) % 3
DATA = Arrays(
    inputs={
        name: (RNG.standard_normal((48, 4)) + LABEL[:, None]).astype(np.float32) for name in NAMES
    },
    targets={"label": LABEL},
    name="balance",
)
EXPERIMENT = Experiment(
    name="balance",
    data=DATA,
    model=FusionModel({name: MLP((), width=5) for name in NAMES}, unimodal=True),
    objectives=(CrossEntropy(), Unimodal(objective=CrossEntropy(), weight=0.5)),
    optimizer=SGD(learning_rate=1.0),
    training=Training(steps=2, batch_size=16, log_every=1, final_splits=()),
)


def stepped(balance):
    """The change of every parameter in one step of plain gradient descent, and the metrics."""
    setup = prepare(dataclasses.replace(EXPERIMENT, balance=balance), None)
    state = setup.create_state()
    before = jax.device_get(state.params)
    batches = setup.train_batches()
    batch = next(batches)
    batches.close()
    with jax.set_mesh(setup.mesh):
        state, metrics = setup.compile_step()(state, setup.put(batch))
    change = jax.tree.map(lambda a, b: np.asarray(b - a), before, jax.device_get(state.params))
    return change["model"], jax.device_get(metrics)


@pytest.fixture(scope="module")
def plain():
    return stepped(NoBalance())


def test_unchanged_is_the_plain_step_and_logs_more(plain):
    change, metrics = stepped(Unchanged())
    # 1e-6: two backward passes, whose sum rounds in another order.
    jax.tree.map(lambda one, two: np.testing.assert_allclose(one, two, atol=1e-6), change, plain[0])
    assert metrics["loss"] == pytest.approx(plain[1]["loss"], rel=1e-6)
    for name in NAMES:
        squares = sum((leaf**2).sum() for leaf in jax.tree.leaves(change["encoders"][name]))
        assert metrics[f"gradient_norm/{name}"] == pytest.approx(np.sqrt(squares), rel=1e-4)
        assert -1 <= metrics[f"conflict/{name}"] <= 1


def test_modulation_holds_the_dominant_encoder_back(plain):
    change, metrics = stepped(OGMGE(alpha=0.5, noise=False))
    factors = {name: metrics[f"modulation/{name}"] for name in NAMES}
    assert sorted(factors.values())[1] == 1
    assert sorted(factors.values())[0] < 1 - np.tanh(0.5) + 1e-6
    for name in NAMES:
        jax.tree.map(
            lambda one, two, name=name: np.testing.assert_allclose(
                one, factors[name] * two, atol=1e-6
            ),
            change["encoders"][name],
            plain[0]["encoders"][name],
        )
    for part in ("heads", "unimodal"):
        jax.tree.map(
            lambda one, two: np.testing.assert_allclose(one, two, atol=1e-6),
            change[part],
            plain[0][part],
        )


def test_modulation_in_closed_form():
    log = np.log(np.array([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]], np.float32))
    other = np.log(np.array([[0.3, 0.7], [0.5, 0.5], [0.01, 0.99]], np.float32))
    outputs = Outputs(
        embeddings={},
        present={"a": np.ones(3, bool), "b": np.array([1, 1, 0], bool)},
        unimodal={
            "a": {"label": Prediction(jnp.asarray(log))},
            "b": {"label": Prediction(jnp.asarray(other))},
        },
    )
    batch = Batch.of({}, np.arange(3), targets={"label": np.array([0, 1, 0])})
    leaves = {"a": [jnp.arange(1000.0)], "b": [jnp.ones(2)]}
    zeros = {"a": [jnp.zeros(1000)], "b": [jnp.zeros(2)]}
    ratio = np.mean([0.8, 0.4, 0.5]) / np.mean([0.3, 0.5])
    key = jax.random.key(0)
    changed, logged = OGMGE(alpha=0.3, noise=False)(leaves, zeros, outputs, batch, key)
    factor = 1 - np.tanh(0.3 * ratio)
    assert logged["modulation/a"] == pytest.approx(factor, rel=1e-5)
    assert logged["modulation/b"] == 1
    np.testing.assert_allclose(changed["a"][0], factor * np.arange(1000), rtol=1e-5)
    noisy, _ = OGMGE(alpha=0.3)(leaves, zeros, outputs, batch, key)
    noise = np.asarray(noisy["a"][0] - changed["a"][0])
    # Of 1000 numbers, a deviation is within 10 % but for one time in 10^5.
    assert noise.std() == pytest.approx(factor * np.arange(1000).std(), rel=0.1)
    np.testing.assert_array_equal(noisy["b"][0], 1)  # equal gradients: a deviation of 0


@pytest.mark.parametrize(
    ("joint", "alone"),
    [
        ([3.0, 0.0], [1.0, 2.0]),
        ([3.0, 0.0], [-1.0, 1.0]),
        ([3.0, 0.0], [-0.1, 0.0]),
        ([0.0, 0.0],) * 2,
    ],
)
def test_pareto_in_closed_form(joint, alone):
    g, u = np.array(joint), np.array(alone)
    # In two arrays, as the parameters of an encoder are.
    one, other = ({"a": [jnp.asarray(x[:1]), jnp.asarray(x[1:])]} for x in (g, u))
    rule = MMPareto(gamma=1.5)
    changed, logged = rule(
        one, other, Outputs({}, {}), Batch.of({}, np.arange(1)), jax.random.key(0)
    )
    found = np.concatenate(changed["a"])
    if g @ u > 0 or not g.any():
        weight = 0.5
    else:
        grid = np.linspace(0, 1, 100_001)[:, None]
        weight = grid[np.argmin(((grid * g + (1 - grid) * u) ** 2).sum(1))][0]
    assert logged["pareto/a"] == pytest.approx(weight, abs=1e-4)
    h = 2 * weight * g + 2 * (1 - weight) * u
    length = np.linalg.norm(h)
    scale = max(1, np.linalg.norm(g + u) / length) if length > 1e-3 else 1
    np.testing.assert_allclose(found, 1.5 * scale * h, atol=1e-3)
    assert found @ g >= -1e-3
    assert found @ u >= -1e-3


def test_runs_with_rules_train(tmp_path):
    for balance in (OGMGE(), MMPareto()):
        experiment = dataclasses.replace(EXPERIMENT, balance=balance)
        result = train(experiment, tmp_path / type(balance).__name__, None)
        assert result["steps"] == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"objectives": (CrossEntropy(),)}, r"OGMGE needs losses of one modality: add Unimodal"),
        ({"model": FusionModel({"text": MLP((4,))})}, "has no heads of one modality"),
        (
            {
                "model": FusionModel({"text": MLP((4,))}),
                "evaluation": (UnimodalClassification(),),
                "objectives": (CrossEntropy(),),
                "balance": NoBalance(),
            },
            "UnimodalClassification needs a model with heads of one modality",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, sentence):
    experiment = dataclasses.replace(EXPERIMENT, **({"balance": OGMGE()} | change))
    with pytest.raises(ConfigError, match=sentence):
        train(experiment, tmp_path / "run", None)


def test_bad_options_are_refused():
    for make in (lambda: OGMGE(alpha=0.0), lambda: MMPareto(gamma=float("nan"))):
        with pytest.raises(ConfigError, match="choose it above 0"):
            make()


def test_each_modality_alone_is_evaluated_and_gives_the_weights_of_a_blend(tmp_path):
    def metrics(steps):
        experiment = dataclasses.replace(
            EXPERIMENT,
            model=LateFusionModel({name: MLP((), width=5) for name in NAMES}),
            evaluation=(UnimodalClassification(),),
            optimizer=SGD(learning_rate=0.1),
            training=Training(
                steps=steps, batch_size=16, final_splits=("train", "valid"), log_every=1
            ),
        )
        return train(experiment, tmp_path / f"steps{steps}", None)["metrics"]

    before, after = metrics(0), metrics(20)
    assert after["train/cross_entropy_text"] < before["train/cross_entropy_text"]
    assert 0 <= after["valid/accuracy_image"] <= 1
    weights = blending_weights(before, after, NAMES)
    assert set(weights) == {"", *NAMES}
    assert sum(weights.values()) == pytest.approx(1)


def test_the_weights_of_a_blend_in_closed_form():
    before = {
        f"{split}/cross_entropy{name}": 1.0
        for split in ("train", "valid")
        for name in ("", "_a", "_b")
    }
    after = dict(before) | {
        "train/cross_entropy": 0.2,
        "valid/cross_entropy": 0.4,  # G 0.6, O 0.2: 15
        "train/cross_entropy_a": 0.5,
        "valid/cross_entropy_a": 0.6,  # G 0.4, O 0.1: 40
        "train/cross_entropy_b": 0.1,
        "valid/cross_entropy_b": 1.2,  # nothing learned
    }
    weights = blending_weights(before, after, ("a", "b"))
    assert weights == pytest.approx({"": 15 / 55, "a": 40 / 55, "b": 0.0})
    with pytest.raises(ConfigError, match="There is no metric 'train/cross_entropy_c'"):
        blending_weights(before, after, ("c",))
    with pytest.raises(ConfigError, match="No head has a lower loss on valid than before"):
        blending_weights(before, before, ("a",))
