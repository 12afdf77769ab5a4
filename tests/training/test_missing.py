"""Missing modalities: dropout, stand-ins, what is logged, and `evaluate --drop`."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmjax.data import Arrays, DigitsHalves
from mmjax.encoders import MLP, FeatureShape
from mmjax.errors import ConfigError
from mmjax.evaluation import Classification, Subsets
from mmjax.fusion import GMU
from mmjax.models import (
    FusionModel,
    LearnedStandIn,
    MeanStandIn,
    ModalityDropout,
    ZeroStandIn,
)
from mmjax.models.modality_dropout import dropped
from mmjax.objectives import CrossEntropy, Unimodal
from mmjax.structs import Features
from mmjax.training import AdamW, Experiment, Training, train
from mmjax.training.restore import evaluate_run

NAMES = ("image", "text")
ENCODERS = {name: MLP((), width=4) for name in NAMES}
RNG = np.random.default_rng(0)
LABEL = np.arange(40) % 2
THERE = {"image": np.arange(40) % 4 > 0, "text": np.ones(40, bool)}


def data():
    return Arrays(
        inputs={
            name: (RNG.standard_normal((40, 3)) + 3 * LABEL[:, None]).astype(np.float32)
            for name in NAMES
        },
        targets={"label": LABEL},
        present=THERE,
        name="gaps",
    )


EXPERIMENT = Experiment(
    name="gaps",
    data=data(),
    model=FusionModel(ENCODERS, GMU(4), unimodal=True),
    objectives=(CrossEntropy(), Unimodal(objective=CrossEntropy(), weights={"text": 0.5})),
    training=Training(steps=6, batch_size=16, log_every=1, final_splits=()),
    evaluation=(Classification(),),
)


def logged(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = tmp_path_factory.mktemp("missing") / "run"
    train(EXPERIMENT, run, None)
    return run


def with_model(**options):
    return dataclasses.replace(EXPERIMENT, model=FusionModel(ENCODERS, GMU(4), **options))


def test_what_is_missing_is_logged_and_shares_too(finished):
    lines = [line for line in logged(finished) if "train/missing/image" in line]
    assert len(lines) == 6
    assert {line["train/missing/text"] for line in lines} == {0.0}
    for line in lines:
        assert line["train/missing/image"] in set(np.arange(17) / 16)
        assert 0 < line["train/share/image"] < 1
        # The gates of two modalities are tied, but the text is there more often.
        assert line["train/unimodal"] == pytest.approx(0.5 * line["train/unimodal/text"], rel=1e-6)
    assert 0.1 < np.mean([line["train/missing/image"] for line in lines]) < 0.4


def test_the_rate_0_is_the_complete_run_to_the_bit(finished, tmp_path):
    experiment = with_model(unimodal=True, dropout=ModalityDropout(0.0))
    train(experiment, tmp_path / "run", None)
    for one, other in zip(logged(finished), logged(tmp_path / "run"), strict=True):
        for name in ("train/loss", "train/gradient_norm", "train/missing/image"):
            assert one.get(name) == other.get(name)


def test_an_example_keeps_one_of_what_it_has():
    rows = 4000
    there = {"a": np.arange(rows) % 2 == 0, "b": np.ones(rows, bool), "c": np.zeros(rows, bool)}
    features = {
        name: Features(jnp.ones((rows, 2, 1)), jnp.asarray(mask)[:, None] & np.ones((1, 2), bool))
        for name, mask in there.items()
    }

    def kept(**rates):
        rates = ModalityDropout(0.5, rates).of(features)
        seen = dropped(features, rates, nnx.Rngs(dropout=0))
        return {name: np.asarray(each.present) for name, each in seen.items()}

    half = kept()
    both = half["a"] | half["b"]
    assert both.all()
    assert not half["c"].any()
    assert not (half["a"] & ~there["a"]).any()
    two = there["a"]
    # p - p^2/2 = 0.375 of 2000, with a deviation of 0.011.
    assert np.mean(~half["a"][two]) == pytest.approx(0.375, abs=0.04)
    never = kept(a=0.0, b=1.0)
    np.testing.assert_array_equal(never["a"], there["a"])
    np.testing.assert_array_equal(never["b"], ~there["a"])


def test_stand_ins_in_closed_form():
    shapes = {"a": FeatureShape(2, 3)}
    tokens = jnp.asarray(RNG.standard_normal((4, 2, 3)), jnp.float32)
    mask = jnp.array([[1, 1], [1, 0], [0, 0], [0, 0]], bool)
    given = {"a": Features(tokens, mask)}

    def filled(config, train=False, steps=1, given=given):
        module = config.build(shapes, rngs=nnx.Rngs(0))
        for _ in range(steps):
            result = module(given, train=train)["a"]
        return module, jax.device_get(result)

    expected_mask = np.array([[1, 1], [1, 0], [1, 0], [1, 0]], bool)
    for config in (ZeroStandIn(), LearnedStandIn(), MeanStandIn()):
        _, result = filled(config)
        np.testing.assert_array_equal(result.mask, expected_mask)
        np.testing.assert_array_equal(result.tokens[:2], tokens[:2])
        np.testing.assert_array_equal(result.tokens[2:, 0], 0)
    mean = given["a"].pooled[:2].mean(0)
    for steps in (1, 3):
        module, result = filled(MeanStandIn(0.9), train=True, steps=steps)
        np.testing.assert_allclose(result.tokens[2, 0], mean, rtol=1e-5)
    nobody = {"a": Features(tokens, jnp.zeros((4, 2), bool))}
    np.testing.assert_allclose(module(nobody, train=True)["a"].tokens[0, 0], mean, rtol=1e-5)
    module = LearnedStandIn().build(shapes, rngs=nnx.Rngs(0))
    gradient = nnx.grad(lambda module: module(given, train=True)["a"].tokens.sum())(module)
    np.testing.assert_array_equal(gradient.tokens["a"][...], 2)


@pytest.mark.parametrize("stand_in", [LearnedStandIn(), MeanStandIn()])
def test_a_run_with_dropout_and_stand_ins(tmp_path, stand_in):
    experiment = with_model(dropout=ModalityDropout(0.5), stand_in=stand_in)
    experiment = dataclasses.replace(experiment, objectives=(CrossEntropy(),))
    train(experiment, tmp_path / "run", None)
    rates = [
        line["train/missing/text"]
        for line in logged(tmp_path / "run")
        if "train/missing/text" in line
    ]
    assert 0.1 < np.mean(rates) < 0.6


def test_a_run_is_evaluated_without_a_modality(tmp_path):
    training = Training(steps=6, batch_size=16, log_every=6, final_splits=("test",))
    digits = dataclasses.replace(
        EXPERIMENT,
        training=training,
        evaluation=(Classification(), Subsets()),
        data=DigitsHalves(),
        model=FusionModel({view: MLP((), width=4) for view in ("left", "right")}),
        objectives=(CrossEntropy(),),
        optimizer=AdamW(learning_rate=0.1),
    )
    result = train(digits, tmp_path, None)["metrics"]

    def accuracy(*drop):
        return evaluate_run(tmp_path, "test", "best", None, drop=drop)

    whole, without, nothing = accuracy(), accuracy("left"), accuracy("left", "right")
    assert set(whole) == set(without)
    assert result["test/accuracy_of_right"] == without["test/accuracy"]
    assert result["test/accuracy_of_left"] == accuracy("right")["test/accuracy"]
    assert whole["test/accuracy"] > without["test/accuracy"] + 0.05
    assert nothing["test/accuracy"] < 0.15  # one answer for all
    with pytest.raises(ConfigError, match=r"modality, for --drop, 'lefd': did you mean 'left'"):
        accuracy("lefd")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ModalityDropout(1.5), "rate is 1.5; choose it from 0 to 1"),
        (lambda: ModalityDropout(rates={"a": -0.1}), "a is -0.1; choose it from 0 to 1"),
        (lambda: ModalityDropout(rates={"imge": 0.1}).of(ENCODERS), "did you mean 'image'"),
        (lambda: MeanStandIn(1.0), "momentum is 1.0; choose at least 0 and below 1"),
        (lambda: Unimodal(objective=CrossEntropy(), weights={"a": -1.0}), "choose it at least 0"),
    ],
)
def test_bad_options_are_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_subsets_need_two_modalities_and_a_metric(tmp_path):
    one = dataclasses.replace(
        EXPERIMENT,
        model=FusionModel({"text": MLP((4,))}),
        objectives=(CrossEntropy(),),
        evaluation=(Subsets(),),
    )
    with pytest.raises(ConfigError, match="Subsets needs a model of two or more modalities"):
        train(one, tmp_path / "run", None)


def test_losses_of_one_modality_need_its_heads(tmp_path):
    with pytest.raises(ConfigError, match=r"has no heads of one modality, which Unimodal reads"):
        train(with_model(), tmp_path / "run", None)
    weights = Unimodal(objective=CrossEntropy(), weights={"imge": 1.0})
    with pytest.raises(ConfigError, match="did you mean 'image'"):
        train(dataclasses.replace(EXPERIMENT, objectives=(weights,)), tmp_path / "run", None)
