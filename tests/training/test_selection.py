"""Selections, class weights and final splits as a run has them."""

import contextlib
import dataclasses
import itertools
import json
from contextlib import closing

import jax
import numpy as np
import pytest

from mmjax.data import (
    DigitsHalves,
    Fold,
    LongTail,
    Resample,
    Selected,
    Target,
    labels_of,
    train_batches,
)
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, DataError
from mmjax.evaluation import Classification
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy, EffectiveNumber, Focal, InverseFrequency
from mmjax.training import Experiment, Interrupted, Training, loop, train
from mmjax.training.setup import Setup, prepare

EXPERIMENT = Experiment(
    name="imbalanced",
    data=DigitsHalves(),
    model=FusionModel({view: MLP(hidden=(8,), width=4) for view in ("left", "right")}),
    objectives=(CrossEntropy(class_weights=InverseFrequency()), Focal(weight=0.5)),
    training=Training(steps=8, batch_size=32, log_every=1, save_every=3),
    evaluation=(Classification(),),
    selections=(LongTail(20.0), Resample(0.5)),
)


def changed(**parts):
    return dataclasses.replace(EXPERIMENT, **parts)


def in_training(**parts):
    return changed(training=dataclasses.replace(EXPERIMENT.training, **parts))


def batches_of(iterator, count=3):
    with closing(iterator) as batches:
        return list(itertools.islice(batches, count))


def test_training_sees_what_is_selected_and_nothing_else():
    setup = prepare(EXPERIMENT, None)
    records = setup.source("train").records
    long_tail = LongTail(20.0)(np.arange(1197), labels_of(setup.unselected("train"), "label"), 0)
    assert set(records) == set(long_tail)
    assert len(records) > len(long_tail)
    seen = np.concatenate([batch.ids for batch in batches_of(setup.train_batches(), 60)])
    assert set(seen) == set(records)
    np.testing.assert_array_equal(setup.predictor(setup.create_state(), ())("train").ids, records)
    assert len(setup.unselected("train")) == 1197
    assert setup.source("valid") is setup.unselected("valid")


def test_without_selections_nothing_changes():
    setup = prepare(changed(selections=()), None)
    assert not isinstance(setup.source("train"), Selected)
    whole, options = DigitsHalves().load("train"), {"batch_size": 32, "seed": 0}
    options["targets"] = DigitsHalves().targets
    expected = batches_of(train_batches(whole, **options))
    everything = Selected(whole, np.arange(len(whole)))  # the order of training stays, too
    for ours in (setup.train_batches(), train_batches(everything, **options)):
        jax.tree.map(np.testing.assert_array_equal, batches_of(ours), expected)


def test_a_fold_is_trained_without():
    setup = prepare(changed(selections=(Fold(1, 3),)), None)
    held_out = Fold(1, 3).held_out(1197)
    records = setup.source("train").records
    np.testing.assert_array_equal(np.sort([*records, *held_out]), np.arange(1197))
    np.testing.assert_array_equal(setup.unselected("train").take(held_out).ids, held_out)


def test_class_weights_are_of_the_selected_data_and_the_config_stays():
    setup = Setup(EXPERIMENT, None)
    counts = np.bincount(labels_of(setup.source("train"), "label"), minlength=10)
    assert counts.max() / counts.min() == pytest.approx(20**0.5, rel=0.1)  # whole examples
    ready, focal = setup.abstract_state.program.objectives
    np.testing.assert_allclose(ready.class_weights, 10 / counts / (1 / counts).sum(), rtol=1e-12)
    assert focal is EXPERIMENT.objectives[1]
    assert setup.experiment.objectives[0].class_weights == InverseFrequency()


def test_labels_are_not_read_where_nothing_asks(monkeypatch):
    def fail(*_):
        raise AssertionError("labels were read")

    monkeypatch.setattr("mmjax.training.setup.labels_of", fail)
    monkeypatch.setattr("mmjax.data.selection.labels_of", fail)
    plain = changed(objectives=(CrossEntropy(),), selections=(Fold(0, 2),))
    Setup(plain, None).abstract_state  # noqa: B018
    with pytest.raises(AssertionError, match="labels were read"):
        Setup(EXPERIMENT, None).abstract_state  # noqa: B018


@pytest.mark.slow
def test_an_interrupted_run_ends_as_an_undisturbed_one(tmp_path, monkeypatch):
    train(EXPERIMENT, tmp_path / "whole", None)
    calls = itertools.count()
    with monkeypatch.context() as patch:
        stopped = lambda: "SIGTERM" if next(calls) >= 4 else ""  # noqa: E731
        patch.setattr(loop, "stop_signal", lambda: contextlib.nullcontext(enter_result=stopped))
        with pytest.raises(Interrupted, match="at step 4 of 8"):
            train(EXPERIMENT, tmp_path / "parts", None)
    train(EXPERIMENT, tmp_path / "parts", None)
    whole, parts = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "parts"))
    assert parts == whole
    results = [
        json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "parts")
    ]
    for result in results:
        result.pop("seconds")
    assert results[0] == results[1]
    config = json.loads((tmp_path / "whole" / "config.json").read_text())
    assert config["objectives"][0]["class_weights"]["type"].endswith(".InverseFrequency")
    assert [each["type"].rpartition(".")[2] for each in config["selections"]] == [
        "LongTail",
        "Resample",
    ]


@pytest.mark.parametrize(("splits", "expected"), [((), {"valid", "test"}), (("valid",), {"valid"})])
def test_the_final_splits_are_evaluated(tmp_path, splits, expected):
    result = train(in_training(final_splits=splits, steps=1), tmp_path / "run", None)
    assert {name.split("/")[0] for name in result["metrics"] | result["details"]} == expected


@pytest.mark.parametrize(
    ("experiment", "sentence"),
    [
        (in_training(final_splits=("valdi",)), "split of digits_halves 'valdi': did you mean 'va"),
        (in_training(final_splits=("test", "test")), "final_splits .* has a split twice"),
        (changed(selections=(Resample(target="lable"),)), "no target 'lable': did you mean 'label"),
        (
            changed(objectives=(CrossEntropy(target="x", class_weights=EffectiveNumber()),)),
            "no target of digits_halves, for CrossEntropy, 'x'",
        ),
        (
            changed(selections=(LongTail(1000.0),), training=Training(steps=1, batch_size=600)),
            r"batch_size is 600, but .* has \d+ examples after its selections: set it to",
        ),
        (
            changed(objectives=(CrossEntropy(class_weights=(1.0, 2.0)),)),
            r"class_weights has the shape \(2,\), but the logits are of 10 classes",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(experiment, sentence):
    with pytest.raises(ConfigError, match=sentence):
        prepare(experiment, None)


def test_labels_beyond_the_classes_are_refused():
    @dataclasses.dataclass(frozen=True)
    class FewerClasses(DigitsHalves):
        @property
        def targets(self):
            return {"label": Target("class", 9)}

    with pytest.raises(
        DataError,
        match=r"'label' of the split 'train' of digits_halves is 9 in .* 9 classes are numbered",
    ):
        prepare(changed(data=FewerClasses(), selections=()), None)
