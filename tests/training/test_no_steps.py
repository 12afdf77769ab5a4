"""Runs of no steps: a model, or the raw views, measured as it is, by every command."""

import dataclasses

import jax
import numpy as np
import pytest
import scipy.linalg

from mmjax.cli import main
from mmjax.data import DigitsHalves
from mmjax.encoders import MLP, Flatten, LeNet
from mmjax.errors import ConfigError
from mmjax.evaluation import Classification, HeldOutCorrelation
from mmjax.models import DualEncoder, FusionModel
from mmjax.objectives import DCCA
from mmjax.studies import Study
from mmjax.studies.rows import rows_of
from mmjax.training import Experiment, Training, loop, train
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.restore import evaluate_run, restore_run
from mmjax.training.setup import prepare

VIEWS = ("left", "right")
RAW = Experiment(
    name="raw",
    data=DigitsHalves(),
    model=DualEncoder(dict.fromkeys(VIEWS, Flatten())),
    objectives=(),
    training=Training(steps=0, batch_size=100, eval_every=1, monitor="total_correlation"),
    evaluation=(HeldOutCorrelation(VIEWS, k=3),),
)


def contents(run):
    return {path: path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def raw_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("raw") / "run"
    return run, train(RAW, run, None)


def test_it_measures_the_model_as_it_is(raw_run):
    run, result = raw_run
    assert result["steps"] == result["evaluated_step"] == 0
    assert Checkpoints(run / "checkpoints").steps() == [0]
    # Linear CCA of the pixels, by its definition: fitted on train, measured on test.
    pixels = {split: RAW.data.load(split).take(np.arange(400)).inputs for split in ("test",)}
    pixels["train"] = RAW.data.load("train").take(np.arange(1197)).inputs
    X, Y = (pixels["train"][view].astype(np.float64) for view in VIEWS)
    C = np.cov(np.hstack([X, Y]).T)
    ridge = RAW.evaluation[0].ridge * np.eye(32)
    roots = [
        np.linalg.inv(scipy.linalg.sqrtm(block + ridge).real)
        for block in (C[:32, :32], C[32:, 32:])
    ]
    U, _, Vt = np.linalg.svd(roots[0] @ C[:32, 32:] @ roots[1])
    a = pixels["test"]["left"] @ roots[0] @ U[:, :3]
    b = pixels["test"]["right"] @ roots[1] @ Vt.T[:, :3]
    expected = sum(np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3))
    np.testing.assert_allclose(result["metrics"]["test/total_correlation"], expected, rtol=1e-4)


def test_its_run_directory_is_one_like_others(raw_run):
    run, result = raw_run
    before = contents(run)
    assert train(RAW, run, None) == result  # there is nothing left to do
    assert contents(run) == before
    assert (run / "metrics.jsonl").read_text() == ""  # nothing was trained
    for which in ("best", "last"):
        again = evaluate_run(run, "test", which, None)
        assert again == {k: v for k, v in result["metrics"].items() if k.startswith("test/")}
    assert int(restore_run(run, "best", None)[1].step) == 0


def test_commands_on_it(raw_run, capsys):
    run, result = raw_run
    assert main(["report", str(run)]) == 0
    shown = f"{result['metrics']['test/total_correlation']:.2f}"
    assert shown in (run / "report.html").read_text()
    assert main(["evaluate", str(run)]) == 0
    assert shown in capsys.readouterr().out
    assert main(["ensemble", str(run), str(run)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_killed_before_its_result_it_logs_nothing_twice(tmp_path, monkeypatch):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(RAW, run, None)
    assert Checkpoints(run / "checkpoints").steps() == [0]
    result = train(RAW, run, None)
    assert result["evaluated_step"] == 0
    assert (run / "metrics.jsonl").read_text() == ""


def test_random_models_are_measured_too_and_keep_their_parameters(tmp_path):
    """With an objective, an optimizer and dropout, none of which takes part."""
    model = FusionModel({view: MLP((8,), 4, dropout=0.5) for view in VIEWS})
    experiment = dataclasses.replace(
        RAW,
        model=model,
        objectives=(DCCA(views=VIEWS),),
        training=Training(steps=0, batch_size=100),
        evaluation=(Classification(),),
    )
    result = train(experiment, tmp_path / "run", None)
    assert set(result["metrics"]) >= {"valid/accuracy", "test/accuracy"}
    begun = prepare(experiment, None).create_state()
    ended = restore_run(tmp_path / "run", "last", None)[1]
    jax.tree.map(np.testing.assert_array_equal, begun.params, ended.params)


def test_steps_need_an_objective_and_parameters():
    wanted = "no objective: list at least one .* or set training.steps to 0 to evaluate"
    training = Training(steps=1, batch_size=100)
    with pytest.raises(ConfigError, match=wanted):
        prepare(dataclasses.replace(RAW, training=training), None)
    trained = dataclasses.replace(RAW, training=training, objectives=(DCCA(views=VIEWS),))
    with pytest.raises(ConfigError, match=r"no parameters to train: set training\.steps to 0"):
        prepare(trained, None)
    with pytest.raises(ConfigError, match=r"Training\.steps is -1: it must be 0 or more"):
        Training(steps=-1)


@pytest.mark.parametrize("turned", [False, True])
def test_a_row_of_a_study_may_have_no_steps(turned):
    trained = dataclasses.replace(
        RAW,
        model=DualEncoder({view: MLP() for view in VIEWS}),
        objectives=(DCCA(views=VIEWS),),
        training=Training(steps=5, batch_size=100),
    )
    changes = {"training.steps": 0, "objectives": (), "model": RAW.model}
    if turned:  # in whichever order they are made
        changes = dict(reversed(changes.items()))
    rows = rows_of(Study(rows={"raw": changes, "trained": {}}), trained)
    assert rows["raw"].experiment.objectives == ()
    assert rows["raw"].experiment.training.steps == 0
    assert rows["trained"].experiment == trained
    with pytest.raises(ConfigError, match="Row 'half': The experiment has no objective"):
        rows_of(Study(rows={"half": {"objectives": ()}}), trained)


def test_an_encoder_that_does_not_read_the_modality_is_still_refused():
    model = DualEncoder({"left": LeNet(), "right": Flatten()})
    with pytest.raises(ConfigError, match=r"LeNet encodes .* image, not vector"):
        prepare(dataclasses.replace(RAW, model=model), None)
