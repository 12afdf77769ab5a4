"""Rows x seeds: what is refused before the first cell, and what the results then hold."""

import dataclasses
import json
import types

import pytest

from mmjax.data import DigitsHalves
from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.evaluation import Classification
from mmjax.fusion import Mean
from mmjax.models import FusionModel
from mmjax.objectives import DCCA, CrossEntropy
from mmjax.studies.ablation import ablate, rows_of
from mmjax.training import Experiment, Training

views = ("left", "right")
EXPERIMENT = Experiment(
    name="grid",
    data=DigitsHalves(),
    model=FusionModel({view: MLP(hidden=(8,), width=4) for view in views}),
    objectives=(CrossEntropy(),),
    training=Training(steps=4, batch_size=32),
    evaluation=(Classification(),),
)
ROWS = {"concat": {}, "mean": {"model.fusion": Mean(width=4)}}


def module(**values):
    made = types.ModuleType("grid")
    vars(made).update(experiment=EXPERIMENT, rows=ROWS, **values)
    return made


def run(rows, folder, seeds=2):
    return ablate("grid", "A grid", rows, seeds, folder, None)


def test_rows_seeds_and_published_numbers(tmp_path):
    published = {"mean": {"test/accuracy": 0.5}}
    rows = rows_of(module(published=published), EXPERIMENT, ())
    study = run(rows, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == study
    for row in study["rows"]:
        results = [
            json.loads((tmp_path / each / "result.json").read_text()) for each in row["runs"]
        ]
        assert [result["seed"] for result in results] == [0, 1]
        cell = row["cells"]["test/accuracy"]
        values = [result["metrics"]["test/accuracy"] for result in results]
        assert cell["values"] == values
        assert cell["mean"] == pytest.approx(sum(values) / 2)
        assert cell["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert [row["cells"]["test/accuracy"].get("published") for row in study["rows"]] == [None, 0.5]


def test_some_rows_again_keep_the_others(tmp_path):
    run(rows_of(module(), EXPERIMENT, ()), tmp_path, seeds=1)
    study = run(rows_of(module(), EXPERIMENT, ["concat"]), tmp_path)
    assert [(row["name"], len(row["runs"])) for row in study["rows"]] == [
        ("mean", 1),
        ("concat", 2),
    ]


def test_a_row_that_cannot_work_is_refused_before_the_first_is_trained(tmp_path):
    rows = rows_of(module(), EXPERIMENT, ())
    broken = dataclasses.replace(EXPERIMENT, objectives=(DCCA(views=views, k=9),))
    rows[1] = dataclasses.replace(rows[1], experiment=broken)
    with pytest.raises(ConfigError, match="k=9"):
        run(rows, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("published", "message"),
    [({"maen": {}}, "no row 'maen': did you mean 'mean'"), ({"mean": {"test/f1": 1.0}}, "test/f1")],
)
def test_published_numbers_of_nothing_are_refused(tmp_path, published, message):
    with pytest.raises(ConfigError, match=message):
        run(rows_of(module(published=published), EXPERIMENT, ()), tmp_path, seeds=1)
