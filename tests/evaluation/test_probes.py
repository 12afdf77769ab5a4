"""Linear probes: against scikit-learn by hand, on nothing to learn, and what is refused."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
from representations import VIEWS, experiment, predictor, without
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsOneClassifier
from sklearn.svm import LinearSVC

from mmjax.cca import LinearCCA
from mmjax.data import DigitsHalves
from mmjax.errors import ConfigError, DataError
from mmjax.evaluation import CCA, LinearProbe, evaluate, probes

SIZES = {"train": 120, "valid": 70, "test": 90}


def splits(noise=1.0, seed=0):
    """Three overlapping classes that both views show, in columns of very different units."""
    rng = np.random.default_rng(seed)
    centres, units = rng.standard_normal((2, 3, 8)), np.logspace(-2, 2, 8)
    made = {}
    for name, size in SIZES.items():
        labels = rng.integers(0, 3, size)
        views = {
            view: (centre[labels] + noise * rng.standard_normal((size, 8))) * units + 3
            for view, centre in zip(VIEWS, centres, strict=True)
        }
        made[name] = (views, labels)
    return made


def by_hand(made, project, make, costs):
    """Accuracy on the test split, and the cost, of features standardised like those of `train`."""
    features = {name: project(views) for name, (views, _) in made.items()}
    mean, deviation = features["train"].mean(axis=0), features["train"].std(axis=0)
    features = {name: (array - mean) / deviation for name, array in features.items()}
    labels = {name: each for name, (_, each) in made.items()}
    fitted = [make(C=cost).fit(features["train"], labels["train"]) for cost in costs]
    valid = [each.score(features["valid"], labels["valid"]) for each in fitted]
    best = int(np.argmax(valid))
    return fitted[best].score(features["test"], labels["test"]), costs[best]


def svm(C):
    return LinearSVC(C=C, dual=False)


def pairwise(C):
    return OneVsOneClassifier(svm(C))


@pytest.mark.parametrize(
    ("kind", "make"),
    [("svm", svm), ("svm_one_vs_one", pairwise), ("logistic", LogisticRegression)],
)
def test_agrees_with_scikit_learn_by_hand(kind, make):
    made = splits(noise=1.5)
    costs = (1e-4, 1e-2, 1.0)
    accuracy, cost = by_hand(made, lambda views: np.float32(views["left"]), make, costs)
    found = LinearProbe("left", kind, costs=costs)(predictor(made), "test")
    assert found == {
        f"left_{kind}_accuracy": pytest.approx(accuracy),
        f"left_{kind}_error": pytest.approx(1 - accuracy),
        f"left_{kind}_cost": cost,
    }
    assert 0.5 < accuracy < 1


def test_its_error_is_to_be_small_and_its_cost_neither_small_nor_large():
    figures = evaluate([LinearProbe("left", costs=(1.0,))], predictor(splits()), ["test"])
    assert figures.directions == {"test/left_svm_error": "min", "test/left_svm_cost": "none"}


def test_projected_features_are_fitted_on_the_training_pairs():
    made = splits(noise=1.5)
    train = made["train"][0]
    cca = LinearCCA(2).fit(*(np.float32(train[view]) for view in VIEWS))

    def project(views):
        return cca.transform(views["left"], views["right"])[1]

    accuracy, cost = by_hand(made, project, svm, LinearProbe("right").costs)
    found = LinearProbe("right", projection=CCA(VIEWS, 2))(predictor(made), "test")
    assert found["cca2_right_svm_accuracy"] == pytest.approx(accuracy)
    assert found["cca2_right_svm_cost"] == cost
    # Two dimensions hold what three classes share: about as good as all eight.
    whole = LinearProbe("right")(predictor(made), "test")
    assert accuracy > whole["right_svm_accuracy"] - 0.15


def test_the_test_split_has_no_say_in_the_cost():
    made = splits(noise=2.0)
    before = LinearProbe("left")(predictor(made), "test")["left_svm_cost"]
    views, labels = made["test"]
    spoilt = made | {"test": (views, (labels + 1) % 3)}
    assert LinearProbe("left")(predictor(spoilt), "test")["left_svm_cost"] == before
    single = {name: made[name] for name in ("train", "test")}  # no split `valid` to be had
    assert LinearProbe("left", costs=(0.1,))(predictor(single), "test")["left_svm_cost"] == 0.1


def test_what_cannot_be_learned_is_not_found():
    rng = np.random.default_rng(0)
    made = {
        name: ({"left": rng.standard_normal((size, 60))}, rng.integers(0, 2, size))
        for name, size in {"train": 60, "valid": 60, "test": 2000}.items()
    }
    probe = LinearProbe("left", costs=(10.0,))
    assert probe(predictor(made), "train")["left_svm_accuracy"] == 1  # as many columns as rows
    # 0.045: four standard deviations of the accuracy of a coin on 2000 records.
    assert probe(predictor(made), "test")["left_svm_accuracy"] == pytest.approx(0.5, abs=0.045)


def test_units_of_the_columns_make_no_difference():
    made = splits(noise=1.5)
    scaled = {
        name: ({view: array * 8 + 1 for view, array in views.items()}, labels)
        for name, (views, labels) in made.items()
    }
    probe = LinearProbe("left")
    assert probe(predictor(made), "test") == probe(predictor(scaled), "test")


@pytest.mark.parametrize("projected", [{}, {"projection": CCA(VIEWS, 2)}])
def test_records_without_the_view_do_not_count(projected):
    rng, made = np.random.default_rng(1), splits()
    there = {name: rng.random(size) < 0.7 for name, size in SIZES.items()}
    kept = {
        name: ({view: array[there[name]] for view, array in views.items()}, labels[there[name]])
        for name, (views, labels) in made.items()
    }
    present = {name: dict.fromkeys(VIEWS, rows) for name, rows in there.items()}
    probe = LinearProbe("left", **projected)
    found = probe(predictor(without(made, present)), "test")
    assert found == probe(predictor(kept), "test")
    nowhere = present | {"test": dict.fromkeys(VIEWS, np.zeros(SIZES["test"], bool))}
    with pytest.raises(DataError, match="No record of the split 'test' has the view 'left'"):
        probe(predictor(without(made, nowhere)), "test")


def test_examples_are_a_seeded_draw():
    made = splits(noise=1.5)

    def accuracy(**options):
        return LinearProbe("left", **options)(predictor(made), "test")["left_svm_accuracy"]

    assert accuracy(examples=10) == accuracy(examples=10)
    assert len({accuracy(examples=10, seed=seed) for seed in range(4)}) > 1
    assert accuracy(examples=10) < accuracy()
    assert accuracy(examples=SIZES["train"]) == accuracy()
    with pytest.raises(DataError, match=r"The 1 training rows .* 'left' are all of one class"):
        accuracy(examples=1)


@dataclasses.dataclass(frozen=True)
class Unchecked(DigitsHalves):
    splits: ClassVar[tuple[str, ...]] = ("train", "test")


@pytest.mark.parametrize(
    ("probe", "sentence"),
    [
        (LinearProbe("left"), None),
        (LinearProbe("left", projection=CCA(VIEWS, 6)), None),
        (LinearProbe(VIEWS), None),
        (LinearProbe("lfet"), "no view 'lfet': did you mean 'left'"),
        (LinearProbe("left", target="lable"), "no target 'lable': did you mean 'label'"),
        (LinearProbe("left", projection=CCA(VIEWS, 7)), "k=7 is more than the 6 .* 'right'"),
        (LinearProbe(("left", "rihgt")), "no view 'rihgt': did you mean 'right'"),
        (LinearProbe(("left", "left")), "set one or more, each once"),
        (LinearProbe(()), "set one or more, each once"),
    ],
    ids=str,
)
def test_check(probe, sentence):
    if sentence is None:
        probe.check(experiment())
    else:
        with pytest.raises(ConfigError, match=sentence):
            probe.check(experiment())


def test_several_views_are_put_side_by_side():
    made = splits(noise=2.0)
    rng = np.random.default_rng(1)
    present = {
        name: {view: rng.random(size) < 0.8 for view in VIEWS} for name, size in SIZES.items()
    }
    stacked = {}
    for name, (views, labels) in made.items():
        both = np.logical_and(*present[name].values())
        stacked[name] = (
            {"left": np.concatenate([views[view][both] for view in VIEWS], axis=1)},
            labels[both],
        )
    found = LinearProbe(VIEWS)(predictor(without(made, present)), "test")
    expected = LinearProbe("left")(predictor(stacked), "test")
    assert found == {name.replace("left", "left+right"): value for name, value in expected.items()}


@pytest.mark.parametrize("kind", ["svm", "svm_one_vs_one", "logistic"])
def test_a_fit_that_did_not_converge_is_told_in_one_sentence(kind, monkeypatch, capsys):
    LinearProbe("left", kind)(predictor(splits()), "test")
    assert not capsys.readouterr().err
    monkeypatch.setattr(probes, "ITERATIONS", 1)
    LinearProbe("left", kind, costs=(0.1, 10.0))(predictor(splits()), "test")
    (line,) = capsys.readouterr().err.splitlines()
    assert "The training of the probe of 'left' did not converge" in line
    assert "costs 0.1, 10, so" in line


def test_names():
    made = predictor(splits(noise=1.5))
    named = LinearProbe("left", projection=CCA(VIEWS, 2), name="probe")
    found = named(made, "test")
    assert found.keys() == {"probe_svm_accuracy", "probe_svm_error", "probe_svm_cost"}
    unnamed = dataclasses.replace(named, name="")(made, "test")
    assert unnamed["cca2_left_svm_error"] == found["probe_svm_error"]

    def check(*probes):
        probes[0].check(dataclasses.replace(experiment(), evaluation=probes))

    check(named, LinearProbe("left"), LinearProbe("right"), LinearProbe("left", "logistic"))
    with pytest.raises(ConfigError, match="Two evaluations give a metric 'probe_svm_error'"):
        check(named, LinearProbe("right", name="probe"))


def test_no_split_to_choose_on_is_refused():
    with pytest.raises(ConfigError, match=r"LinearProbe has several costs, .* no 'valid' split"):
        LinearProbe("left").check(experiment(data=Unchecked()))
    LinearProbe("left", costs=(1.0,)).check(experiment(data=Unchecked()))


@pytest.mark.parametrize(
    "options",
    [
        {"costs": ()},
        {"costs": (1.0, 0.0)},
        {"costs": (1e308,)},
        {"costs": (np.nan,)},
        {"examples": -1},
    ],
)
def test_bad_values(options):
    with pytest.raises(ConfigError, match=f"LinearProbe.{next(iter(options))}"):
        LinearProbe("left", **options)
