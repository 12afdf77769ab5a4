"""Subsets, Shapley values, areas, and `mmjax evaluate --robustness` on a trained run."""

import itertools
import json

import numpy as np
import pytest

from mmjax.cli import main
from mmjax.data import DigitsHalves
from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.evaluation import Classification
from mmjax.evaluation.robustness import Robustness, area, shapley
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.training import AdamW, Experiment, Training, train

EXPERIMENT = Experiment(
    name="robust",
    data=DigitsHalves(),
    model=FusionModel({view: MLP((), width=8) for view in ("left", "right")}),
    objectives=(CrossEntropy(),),
    optimizer=AdamW(learning_rate=0.05),
    training=Training(steps=30, batch_size=64, log_every=30, eval_batch_size=256),
    evaluation=(Classification(),),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robust") / "run"
    train(EXPERIMENT, folder, None)
    return folder


def test_shapley_values_are_the_mean_over_all_orders():
    players, rng = ("a", "b", "c"), np.random.default_rng(0)
    values = {
        subset: float(rng.random())
        for size in range(4)
        for subset in itertools.combinations(players, size)
    }
    gains = {player: [] for player in players}
    for order in itertools.permutations(players):
        for place, player in enumerate(order):
            before, after = (tuple(sorted(order[: place + more])) for more in (0, 1))
            gains[player].append(values[after] - values[before])
    found = shapley(values)
    assert found == pytest.approx({player: np.mean(each) for player, each in gains.items()})
    assert sum(found.values()) == pytest.approx(values[players] - values[()])


def test_areas():
    assert area((0, 1, 2), (1.0, 1.0, 1.0)) == 1
    assert area((0, 1, 5), (1.0, 0.5, 0.0)) == pytest.approx((0.75 + 4 * 0.25) / 5)


def test_effective_robustness_is_beyond_that_of_a_baseline():
    ours = Robustness("accuracy", {}, {"a: noise": (0.9, 0.8)}, {"a: noise": 0.85}, {})
    base = Robustness("accuracy", {}, {"a: noise": (0.7, 0.5)}, {"a: noise": 0.6}, {})
    assert ours.effective(base) == pytest.approx({"a: noise": 0.05})
    with pytest.raises(ConfigError, match="other metrics or modalities"):
        ours.effective(Robustness("f1", {}, base.curves, base.relative, {}))


def test_a_run_is_tried_without_and_with_damaged_modalities(run, tmp_path, capsys):
    out = tmp_path / "robust.json"
    words = ["evaluate", str(run), "--robustness", "--severities", "1,5", "--json", str(out)]
    assert main([*words, "--beside", str(run)]) == 0
    found = json.loads(out.read_text())
    assert set(found["subsets"]) == {"left + right", "left", "right", "none"}
    assert found["metric"] == "accuracy"
    whole = found["subsets"]["left + right"]
    assert whole > max(found["subsets"]["left"], found["subsets"]["right"])
    for curve in found["curves"].values():
        assert curve[0] == whole
        assert curve[0] > curve[2]
    assert sum(found["contributions"].values()) == pytest.approx(whole - found["subsets"]["none"])
    assert set(found["effective"].values()) == {0.0}
    assert "Contribution of each modality" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--robustness", "--corruptions", "nose"], "did you mean 'noise'?"),
        (
            ["--robustness", "--severities", "1,9"],
            "severity of a corruption is 9: choose it",
        ),
        (["--robustness", "--severities", "1,x"], "must be numbers, such as 1,3,5"),
        (["--robustness", "--severities", "3,1"], "must rise"),
        (["--robustness", "--metric", "acuracy"], "did you mean 'accuracy'?"),
        (["--robustness", "--drop", "left"], "leave out --drop"),
        (["--robustness", "--beside", "nowhere"], "nowhere has no config.json"),
        (["--metric", "accuracy"], "--metric is an option of --robustness"),
        (["--drop", "lefd"], "did you mean 'left'?"),
    ],
)
def test_what_does_not_fit_is_refused(run, words, sentence, capsys):
    assert main(["evaluate", str(run), *words]) == (1 if "nowhere" in words else 2)
    assert sentence in " ".join(capsys.readouterr().err.split())
