"""What the loop does at its edges; interruptions from outside are in test_resume.py."""

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterator
from typing import ClassVar

import jax
import numpy as np
import pytest

from mmjax.data import AddNoise, DigitsHalves
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, RunError
from mmjax.evaluation import (
    Classification,
    Evaluator,
    HeldOutCorrelation,
    Lower,
    Neither,
    Reads,
)
from mmjax.models import FusionModel
from mmjax.objectives import DCCA, CrossEntropy
from mmjax.training import (
    SGD,
    AdamW,
    Experiment,
    Interrupted,
    PerPart,
    Training,
    loop,
    train,
)
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.restore import restore_run
from mmjax.training.setup import prepare

views = ("left", "right")
EXPERIMENT = Experiment(
    name="edges",
    data=DigitsHalves(),
    model=FusionModel({view: MLP(hidden=(8,), width=4) for view in views}),
    objectives=(CrossEntropy(),),
    training=Training(steps=6, batch_size=32, log_every=1, eval_every=3, monitor="accuracy"),
    evaluation=(Classification(),),
)


def changed(**training):
    return dataclasses.replace(
        EXPERIMENT, training=dataclasses.replace(EXPERIMENT.training, **training)
    )


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_stopped_before_the_first_step(tmp_path, monkeypatch):
    """The evaluation before the first step is logged once, however often it was done."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(
            loop, "stop_signal", lambda: contextlib.nullcontext(enter_result=lambda: "SIGTERM")
        )
        with pytest.raises(Interrupted, match="Stopped at step 0 of 6 by SIGTERM; nothing was"):
            train(EXPERIMENT, run, None)
    train(EXPERIMENT, run, None)
    assert [line["step"] for line in lines(run) if "valid/accuracy" in line] == [0, 3, 6]
    assert [line["step"] for line in lines(run) if "train/loss" in line] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("every", [{"eval_every": 0}, {"eval_every": 4, "save_every": 3}])
def test_the_last_state_can_be_the_best(tmp_path, every):
    train(changed(**every), tmp_path / "run", None)
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert "monitor" in checkpoints.facts(6)
    monitored = {line["step"]: line.get("valid/accuracy") for line in lines(tmp_path / "run")}
    assert checkpoints.facts(6)["monitor"] == monitored[6]


def test_a_monitor_that_nothing_measures_is_refused(tmp_path):
    experiment = dataclasses.replace(EXPERIMENT, evaluation=())
    with pytest.raises(ConfigError, match=r"no metric for training\.monitor 'accuracy'"):
        train(experiment, tmp_path / "run", None)


def test_two_objectives_of_one_kind(tmp_path):
    objectives = (CrossEntropy(), DCCA(views=views, k=1), DCCA(views=views, k=4, weight=0.5))
    train(dataclasses.replace(EXPERIMENT, objectives=objectives), tmp_path / "run", None)
    for line in lines(tmp_path / "run"):
        if "train/loss" in line:
            terms = [line["train/cross_entropy"], line["train/dcca"], 0.5 * line["train/dcca_2"]]
            assert line["train/loss"] == pytest.approx(sum(terms), rel=1e-6)  # a float32 sum
            assert line["train/dcca_2"] < line["train/dcca"]  # 4 correlations, not 1


def test_two_evaluations_of_one_metric_are_refused(tmp_path):
    twice = (HeldOutCorrelation(views, k=2), HeldOutCorrelation(views, k=4))
    experiment = dataclasses.replace(changed(monitor=""), evaluation=twice)
    with pytest.raises(ConfigError, match="Two evaluations give a metric 'total_correlation'"):
        train(experiment, tmp_path / "run", None)
    assert not (tmp_path / "run" / "checkpoints").exists()  # before the first step


def test_a_transform_that_does_not_fit_is_refused_before_anything_is_written():
    experiment = dataclasses.replace(EXPERIMENT, transforms=(AddNoise("letf", 0.1),))
    with pytest.raises(ConfigError, match="letf"):
        prepare(experiment, None)


def test_other_data_than_the_run_began_with_is_refused(tmp_path):
    run = tmp_path / "run"
    train(EXPERIMENT, run, None)
    (run / "result.json").unlink()
    found = json.loads((run / "environment.json").read_text())
    found["data"]["digits_halves/valid"] = "0" * 64
    (run / "environment.json").write_text(json.dumps(found))
    with pytest.raises(RunError, match=r"data of the run .* changed .*digits_halves/valid"):
        train(EXPERIMENT, run, None)


KINDS = {"error": Lower, "score": float, "cost": Neither}
FIGURES = [0.5, 0.3, 0.2, 0.4]  # of the evaluations at the steps 0, 2, 4 and 6


@dataclasses.dataclass(frozen=True)
class Told(Evaluator):
    """Gives the next of some figures for each evaluation of `valid`, in all three directions."""

    turns: ClassVar[Iterator[float]]

    @property
    def reads(self):
        return Reads()

    def check(self, task):
        pass

    def __call__(self, predictor, split):
        value = next(self.turns) if split == "valid" else 0.9
        return {name: kind(value) for name, kind in KINDS.items()}


def told(monitor):
    Told.turns = iter([*FIGURES, 0.7])
    return dataclasses.replace(changed(eval_every=2, monitor=monitor), evaluation=(Told(),))


@pytest.mark.parametrize(("monitor", "best", "better"), [("error", 4, "min"), ("score", 6, "max")])
def test_a_metric_tells_which_checkpoint_is_the_best(tmp_path, monitor, best, better):
    result = train(told(monitor), tmp_path / "run", None)
    assert result["evaluated_step"] == best
    assert result["directions"] == {
        f"{split}/{name}": direction
        for split in ("valid", "test")
        for name, direction in (("error", "min"), ("cost", "none"))
    }
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    assert checkpoints.best() == best
    facts = checkpoints.facts(best)
    assert (facts["monitor"], facts["better"]) == (FIGURES[best // 2], better)


def test_a_metric_of_which_neither_is_better_cannot_be_monitored(tmp_path):
    with pytest.raises(
        ConfigError, match="monitor is 'cost', a metric for which neither higher nor lower is"
    ):
        train(told("cost"), tmp_path / "run", None)


def test_parts_with_optimizers_of_their_own_resume_to_the_bit(tmp_path, monkeypatch):
    optimizer = PerPart(
        {"encoders.left": SGD(momentum=0.9), "heads": AdamW(learning_rate=3e-3)}, AdamW()
    )
    experiment = dataclasses.replace(EXPERIMENT, optimizer=optimizer)
    runs = [tmp_path / name for name in ("whole", "parts")]
    train(experiment, runs[0], None)
    turns = itertools.count()
    with monkeypatch.context() as patch:
        stopped = lambda: "SIGTERM" if next(turns) >= 4 else ""  # noqa: E731
        patch.setattr(loop, "stop_signal", lambda: contextlib.nullcontext(stopped))
        with pytest.raises(Interrupted, match="at step 4 of 6"):
            train(experiment, runs[1], None)
    train(experiment, runs[1], None)
    assert lines(runs[0]) == lines(runs[1])
    whole, parts = (restore_run(run, "last", None)[1] for run in runs)
    jax.tree.map(np.testing.assert_array_equal, whole.opt_state, parts.opt_state)
    jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)


def test_a_part_that_is_not_there_is_refused_before_anything_is_written(tmp_path):
    experiment = dataclasses.replace(EXPERIMENT, optimizer=PerPart({"heads.lable": SGD()}))
    with pytest.raises(
        ConfigError, match=r"for PerPart, 'heads.lable': did you mean 'heads.label'"
    ):
        train(experiment, tmp_path / "run", None)
    assert not (tmp_path / "run").exists()
