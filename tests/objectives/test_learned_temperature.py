"""A learned temperature and bias: closed-form gradients, the bound of CLIP, decay, resumed runs."""

import contextlib
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import expit, softmax

from mmjax.data import DigitsHalves
from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.models import DualEncoder
from mmjax.objectives import InfoNCE, SigmoidContrastive
from mmjax.objectives.contrastive import at_most
from mmjax.structs import Batch, Outputs
from mmjax.training import AdamW, Experiment, Interrupted, PerPart, Training, loop, train
from mmjax.training.checkpoints import named_leaves
from mmjax.training.restore import restore_run
from mmjax.training.step import state_maker, train_step

VIEWS = ("left", "right")
ROWS, WIDTH = 8, 4
EACH = pytest.mark.parametrize("make", [InfoNCE, SigmoidContrastive])


def given():
    """Outputs and batch of two correlated views, and their cosines in float64."""
    rng = np.random.default_rng(0)
    z1 = rng.standard_normal((ROWS, WIDTH)).astype(np.float32)
    z2 = z1 + rng.standard_normal((ROWS, WIDTH)).astype(np.float32)
    batch = Batch.of({}, np.arange(ROWS))
    everywhere = dict.fromkeys(VIEWS, np.ones(ROWS, bool))
    n1, n2 = (z / np.linalg.norm(z, axis=1)[:, None] for z in np.float64([z1, z2]))
    return Outputs(dict(zip(VIEWS, (z1, z2), strict=True)), everywhere), batch, n1 @ n2.T


def loss_and_gradients(objective):
    """Its term, and the gradient of its parameters."""
    outputs, batch, _ = given()
    graphdef, params = nnx.split(objective.build(Outputs({}, {}), rngs=nnx.Rngs(0)))

    def loss(params):
        term = nnx.merge(graphdef, params)(outputs, batch, train=True, rngs=None)
        return term.mean, term

    (_, term), gradients = jax.value_and_grad(loss, has_aux=True)(nnx.as_pure(params))
    return term, gradients


@EACH
def test_learned_begins_at_the_fixed_loss_and_tells_where_it_is(make):
    outputs, batch, _ = given()
    fixed = make(views=VIEWS)
    term, gradients = loss_and_gradients(make(views=VIEWS, learned=True))
    # 1e-5: exp(log t) in float32, times logits up to 14.
    np.testing.assert_allclose(term.mean, fixed(outputs, batch).mean, rtol=1e-5)
    np.testing.assert_allclose(term.telemetry["temperature"], fixed.temperature, rtol=1e-6)
    assert set(term.telemetry) == {"temperature", "bias"} - ({"bias"} if make is InfoNCE else set())
    assert loss_and_gradients(fixed)[1] == {}
    assert not fixed(outputs, batch).telemetry
    assert {leaf.shape for leaf in jax.tree.leaves(gradients)} == {()}


def test_gradient_of_info_nce_is_the_closed_form():
    logits = given()[2] / 0.5
    # d/ds of s: the mean of sum_j p_ij l_ij - l_ii, over rows and over columns.
    own = np.diag(logits)
    rows, columns = softmax(logits, axis=1), softmax(logits, axis=0)
    expected = ((rows * logits).sum(1) - own + (columns * logits).sum(0) - own).mean() / 2
    _, gradients = loss_and_gradients(InfoNCE(views=VIEWS, temperature=0.5, learned=True))
    np.testing.assert_allclose(gradients["log_scale"], expected, rtol=1e-5)  # float32 sums


def test_gradients_of_the_sigmoid_loss_are_the_closed_forms():
    cosines, sign = given()[2], 2 * np.eye(ROWS) - 1
    slope = -sign * expit(-sign * (3 * cosines - 1)) / ROWS
    _, gradients = loss_and_gradients(
        SigmoidContrastive(views=VIEWS, temperature=3.0, bias=-1.0, learned=True)
    )
    np.testing.assert_allclose(gradients["bias"], slope.sum(), rtol=1e-5)  # float32 sums
    np.testing.assert_allclose(
        gradients["log_temperature"], (slope * 3 * cosines).sum(), rtol=1e-5, atol=1e-6
    )


def test_the_bound_stops_a_rise_and_lets_a_fall_pass():
    most = math.log(100)
    for x, rise, fall in [(most - 0.5, -2.0, 2.0), (most, 0.0, 2.0), (most + 0.5, 0.0, 2.0)]:
        value, backward = jax.vjp(lambda x: at_most(x, most), jnp.float32(x))
        assert value == np.float32(min(x, most))
        assert backward(jnp.float32(-2))[0] == rise
        assert backward(jnp.float32(2))[0] == fall


def test_a_temperature_that_wants_to_vanish_stays_at_the_bound_and_comes_back():
    objective = InfoNCE(views=VIEWS, temperature=0.0101, learned=True)
    graphdef, params = nnx.split(objective.build(Outputs({}, {}), rngs=nnx.Rngs(0)))
    batch, everywhere = given()[1], given()[0].present
    same = np.eye(ROWS, dtype=np.float32) + 3  # cosines of 78 / 79 to all others
    equal = Outputs(dict.fromkeys(VIEWS, same), everywhere)
    moved = Outputs({"left": same, "right": np.roll(same, 1, axis=0)}, everywhere)

    @jax.jit
    def step(params, outputs):
        def loss(params):
            term = nnx.merge(graphdef, params)(outputs, batch, train=True, rngs=None)
            return term.mean, term.telemetry["temperature"]

        (_, temperature), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        # Steps by the sign, as Adam takes them, whatever the size of the gradient.
        return jax.tree.map(lambda p, g: p - 0.05 * jnp.sign(g), params, gradient), temperature

    params = nnx.as_pure(params)
    for _ in range(5):  # matching pairs: sharper is always better
        params, temperature = step(params, equal)
    np.testing.assert_allclose(temperature, 0.01, rtol=1e-5)
    for _ in range(5):  # no pair matches: softer is always better
        params, temperature = step(params, moved)
    assert temperature > 0.011


@EACH
def test_what_cannot_work_is_refused(make):
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="must be positive"):
            make(views=VIEWS, temperature=temperature, learned=True)
    with pytest.raises(ConfigError, match=r"temperature=0.005 is below 0.01, .* start higher"):
        InfoNCE(views=VIEWS, temperature=0.005, learned=True)
    narrow = given()[0]
    narrow.embeddings["right"] = narrow.embeddings["right"][:, :2]
    with pytest.raises(ConfigError, match="must be equal"):
        make(views=VIEWS, learned=True).build(narrow, rngs=nnx.Rngs(0))(
            narrow, given()[1], train=True, rngs=None
        )


DATA = DigitsHalves()
EXPERIMENT = Experiment(
    name="learned",
    data=DATA,
    model=DualEncoder({view: MLP(hidden=(), width=3) for view in VIEWS}),
    objectives=(
        InfoNCE(views=VIEWS, learned=True),
        SigmoidContrastive(views=VIEWS, weight=0.1, learned=True),
    ),
    optimizer=PerPart({"objectives": AdamW(learning_rate=1e-2, weight_decay=0.5)}),
    training=Training(steps=6, batch_size=32, log_every=1),
)


def arrays_of(run):
    """The arrays of the last checkpoint by name, but for the random key."""
    leaves = named_leaves(restore_run(run, "last", None)[1])
    return {name: np.asarray(leaf) for name, leaf in leaves.items() if name != "key"}


def test_weight_decay_leaves_scalars_alone():
    make = state_maker(
        EXPERIMENT.model,
        DATA.modalities,
        DATA.targets,
        EXPERIMENT.objectives,
        EXPERIMENT.optimizer.build(6),
        seed=0,
        dtype=jnp.dtype("float32"),
    )
    state = jax.jit(make)()
    batch = DATA.load("train", None).take(np.arange(32))
    batch = batch.replace(weight=0 * batch.weight)  # no row counts: no gradient, decay alone
    after, metrics = jax.jit(train_step)(state, batch)
    assert metrics["gradient_norm"] == 0
    jax.tree.map(
        np.testing.assert_array_equal, after.params["objectives"], state.params["objectives"]
    )
    np.testing.assert_allclose(metrics["info_nce/temperature"], 0.07, rtol=1e-6)
    assert metrics["sigmoid_contrastive/bias"] == -10


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not_to_the_bit(tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(EXPERIMENT, whole, None)
    asked = iter(["", "", "", "SIGTERM", "SIGTERM"])
    with monkeypatch.context() as patch:
        patch.setattr(
            loop, "stop_signal", lambda: contextlib.nullcontext(enter_result=lambda: next(asked))
        )
        with pytest.raises(Interrupted, match="Stopped at step 3 of 6"):
            train(EXPERIMENT, stopped, None)
    before = arrays_of(stopped)
    train(EXPERIMENT, stopped, None)
    found = arrays_of(stopped)
    assert (whole / "metrics.jsonl").read_bytes() == (stopped / "metrics.jsonl").read_bytes()
    jax.tree.map(np.testing.assert_array_equal, found, arrays_of(whole))
    learned = {name for name in found if name.startswith("params/objectives/")}
    assert learned == {
        "params/objectives/0/log_scale",
        "params/objectives/1/bias",
        "params/objectives/1/log_temperature",
    }
    assert all(before[name] != found[name] for name in learned)
