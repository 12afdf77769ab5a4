"""Ensembles of real runs: what they report, what is fitted on what, and what is refused."""

import dataclasses
import json
import re
import sys

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import accuracy_score, f1_score, log_loss

from mmjax.data import DigitsHalves, Fold, LongTail, Target
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, RunError
from mmjax.evaluation import Predictor, Reads
from mmjax.fusion.decision import METHODS, out_of_fold
from mmjax.heads import Classifier
from mmjax.models import DualEncoder, FusionModel
from mmjax.objectives import CrossEntropy, InfoNCE
from mmjax.studies import ensemble as ensemble_module
from mmjax.studies import members as members_module
from mmjax.studies.ensemble import ensemble, print_ensemble
from mmjax.studies.members import open_members
from mmjax.training import AdamW, Experiment, Training, train
from mmjax.training.config import to_json
from mmjax.training.restore import restore_run
from mmjax.training.setup import Setup
from mmjax.training.start import Start

VIEWS = ("left", "right")
EXPERIMENT = Experiment(
    name="member",
    data=DigitsHalves(),
    model=FusionModel({view: MLP(hidden=(16,), width=8) for view in VIEWS}),
    objectives=(CrossEntropy(),),
    optimizer=AdamW(learning_rate=1e-2),
    training=Training(steps=20, batch_size=32, eval_batch_size=200),
)
TAIL = LongTail(3.0)


@dataclasses.dataclass(frozen=True)
class Noisy(DigitsHalves):
    noise: float = 0.0


@dataclasses.dataclass(frozen=True)
class TwoTargets(DigitsHalves):
    @property
    def targets(self):
        return {"label": Target("class", 10), "parity": Target("class", 2)}


class NoValid(DigitsHalves):
    splits = ("train", "test")


def with_model(experiment=EXPERIMENT, **changes):
    return dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, **changes))


def fold_of(experiment, index, *before):
    return dataclasses.replace(experiment, selections=(*before, Fold(index, 2)))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs of the whole train split."""
    folder = tmp_path_factory.mktemp("runs")
    for name, modalities in (("left", ("left",)), ("right", ("right",)), ("both", VIEWS)):
        train(with_model(modalities=modalities), folder / name, None)
    return [folder / name for name in ("left", "right", "both")]


@pytest.fixture(scope="module")
def fold_runs(tmp_path_factory):
    """Two members of two folds each, named in no order; the second sees a long tail."""
    folder = tmp_path_factory.mktemp("folds")
    for index in (0, 1):
        train(fold_of(EXPERIMENT, index), folder / f"plain/fold{index}", None)
        train(fold_of(with_model(modalities=("left",)), index, TAIL), folder / f"tail{index}", None)
    return [folder / name for name in ("plain/fold1", "tail0", "plain/fold0", "tail1")]


@pytest.fixture
def restored_once(monkeypatch):
    """Each run is restored once for all methods: the restoring has a test of its own."""
    seen = {}

    def predict(member, splits, which, *rest):
        key = (member.name, *splits, which)
        if key not in seen:
            seen[key] = members_module.predict(member, splits, which, *rest)
        return seen[key]

    monkeypatch.setattr(ensemble_module, "predict", predict)


def probabilities_of(run):
    """Split -> the probabilities of a run, by way of a setup of its own; of `train`, all of it."""
    setup, state = restore_run(run, "best", None)
    whole = dataclasses.replace(setup.experiment, selections=())
    setup, reads = Setup(whole, None), Reads(predictions=("label",))
    forward = setup.forward(state, reads)
    predictor = Predictor(forward, setup.source, setup.eval_rows, whole.data, reads)
    return {
        split: softmax(predictor(split).predictions["label"].astype(np.float64), axis=1)
        for split in DigitsHalves.splits
    }


def labels_of(split):
    return DigitsHalves().load(split).targets["label"]


def figures(split, p):
    y = labels_of(split)
    return {
        f"{split}/accuracy": accuracy_score(y, p.argmax(axis=1)),
        f"{split}/macro_f1": f1_score(
            y, p.argmax(axis=1), average="macro", labels=range(10), zero_division=0
        ),
        f"{split}/log_loss": log_loss(y, p, labels=range(10)),
    }


@pytest.mark.slow
def test_every_method_recomputed_from_the_members(runs, restored_once, capsys):
    said = [probabilities_of(run) for run in runs]
    valid, test = (np.stack([each[split] for each in said]) for split in ("valid", "test"))
    y = labels_of("valid")
    for method, make in METHODS.items():
        result = ensemble(runs, method, None)
        fused = make().fit(valid, y)
        learns = method in ("weighted", "stacking", "gating")
        on_valid = out_of_fold(make, valid, y) if learns else fused.predict(valid)
        expected = figures("valid", on_valid) | figures("test", fused.predict(test))
        assert result["metrics"] == pytest.approx(expected, rel=1e-9)
        assert result["fitted_on"] == ("valid" if learns else "")
        assert result["cross_fitted"] == (["valid"] if learns else [])
        assert result["parameters"] == fused.parameters(["left", "right", "both"])
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        for position, member in enumerate(result["members"]):
            alone = figures("valid", valid[position]) | figures("test", test[position])
            assert member["metrics"] == pytest.approx(alone, rel=1e-9)
            assert member["run"] == str(runs[position])
        print_ensemble(result)
        printed = capsys.readouterr().out
        last = printed.splitlines()[-2].split("│")
        assert last[1].strip() == method
        assert [float(cell) for cell in last[2:-1]] == pytest.approx(
            [expected[name] for name in ensemble_module.COLUMNS], abs=5e-5
        )
        for name in ("left", "right", "both"):
            assert name in printed


def test_a_run_without_a_split_of_the_report(runs, restored_once):
    result = ensemble(runs, "weighted", None, splits=("test",))
    assert set(result["metrics"]) == {"test/accuracy", "test/macro_f1", "test/log_loss"}
    assert result["fitted_on"] == "valid"
    assert result["cross_fitted"] == []


@pytest.mark.slow
def test_folds_are_fitted_out_of_fold(fold_runs, restored_once):
    plain1, tail0, plain0, tail1 = fold_runs
    groups = [[plain0, plain1], [tail0, tail1]]
    left_out = [Fold(index, 2).held_out(1197) for index in (0, 1)]
    said = [[probabilities_of(run) for run in group] for group in groups]
    out = np.empty((2, 1197, 10))
    for row, member in enumerate(open_members(fold_runs, None)):
        for rows, run, each in zip(left_out, member.runs, said[row], strict=True):
            trained_on = Setup(run.experiment, None).source("train").records
            assert not np.intersect1d(trained_on, rows).size
            out[row, rows] = each["train"][rows]
    kept = np.sort(TAIL(np.arange(1197), labels_of("train"), 0))  # what both members may look at
    valid, test = (
        np.stack([np.mean([each[split] for each in group], axis=0) for group in said])
        for split in ("valid", "test")
    )
    for method, make in METHODS.items():
        result = ensemble(fold_runs, method, None)
        fused = make().fit(out[:, kept], labels_of("train")[kept])
        expected = figures("valid", fused.predict(valid)) | figures("test", fused.predict(test))
        # Batches of another size round the logits differently in float32.
        assert result["metrics"] == pytest.approx(expected, rel=1e-4)
        assert result["cross_fitted"] == []
        learns = method in ("weighted", "stacking", "gating")
        assert result["fitted_on"] == ("train, out of fold" if learns else "")
    assert [member["name"] for member in result["members"]] == [
        "plain/fold1 (2 folds)",
        "tail0 (2 folds)",
    ]
    assert result["members"][0]["runs"] == [str(plain0), str(plain1)]
    alone = figures("valid", valid[1]) | figures("test", test[1])
    assert result["members"][1]["metrics"] == pytest.approx(alone, rel=1e-6)


# What is refused, is refused before a checkpoint is read: these runs have none.


def bare(folder, name, experiment=EXPERIMENT, hashes=None, config=None):
    """The JSON files of a finished run."""
    path = folder / name
    path.mkdir(parents=True)
    config = to_json(experiment) | (config or {})
    environment = {"data": {"digits_halves/test": "1f"} if hashes is None else hashes}
    for file, value in (("config", config), ("environment", environment)):
        (path / f"{file}.json").write_text(json.dumps(value))
    (path / "result.json").write_text(json.dumps({"metrics": {}}))
    return path


def refused(runs, message, method="average", error=ConfigError, **options):
    """Whether an ensemble is refused, in one sentence that says this."""
    with pytest.raises(error) as caught:
        ensemble(runs, method, None, **options)
    return re.search(message, str(caught.value)) and "\n" not in str(caught.value)


def test_refuses_methods_and_splits_that_are_not_there(tmp_path):
    two = [bare(tmp_path, name) for name in "ab"]
    assert refused(
        two, "no method of an ensemble 'avrage': did you mean 'average'", method="avrage"
    )
    assert refused(two, "no split of digits_halves 'tset'", splits=("tset",))
    assert refused(two, "were trained on 'train'", splits=("train", "test"))
    assert refused(two, "one split at least", splits=())


def test_refuses_runs_that_are_not_several(tmp_path):
    one, two = bare(tmp_path, "a"), bare(tmp_path, "b")
    assert refused([one], "two runs or more")
    assert refused([one, two, tmp_path / "b/../a"], "is named twice")


def test_refuses_runs_that_are_not_finished_or_none(tmp_path):
    one, two = bare(tmp_path, "a"), bare(tmp_path, "b")
    (two / "result.json").unlink()
    assert refused([one, two], "b is not finished", error=RunError)
    assert refused([one, tmp_path / "c"], "is not a run directory", error=RunError)
    (two / "result.json").write_text("{")
    assert refused([one, two], "is damaged", error=RunError)
    old = bare(tmp_path, "old")
    (old / "environment.json").write_text(json.dumps({"versions": {"mmjax": "0.1.0"}}))
    assert refused([one, old], "old was made by mmjax 0.1.0, whose runs", error=RunError)


def test_refuses_runs_of_other_data_or_targets(tmp_path):
    one = bare(tmp_path, "a")
    definitions = sys.modules[__name__]
    noisy = [
        bare(tmp_path, str(noise), dataclasses.replace(EXPERIMENT, data=Noisy(noise)))
        for noise in (0.5, 0.8)
    ]
    assert refused(noisy, r"data.noise: 0.5 -> 0.8", definitions=definitions)
    assert refused([one, noisy[0]], "different data", definitions=definitions)
    other = bare(tmp_path, "b", hashes={"digits_halves/test": "2e"})
    assert refused([one, other], r"data.digits_halves/test: 1f -> 2e")

    two = dataclasses.replace(EXPERIMENT, data=TwoTargets())
    label, parity = (
        bare(tmp_path, name, with_model(two, heads={name: Classifier()}))
        for name in ("label", "parity")
    )
    assert refused(
        [label, parity], "label classifies 'label' and .*parity 'parity'", definitions=definitions
    )
    assert refused(
        [label, bare(tmp_path, "c", two)], "c is of .* 2 targets of cl", definitions=definitions
    )
    dual = dataclasses.replace(
        EXPERIMENT, model=DualEncoder(EXPERIMENT.model.encoders), objectives=(InfoNCE(views=VIEWS),)
    )
    assert refused(
        [one, bare(tmp_path, "d", dual)], "d is of a DualEncoder that predicts 0 targets of classes"
    )


def test_refuses_a_fit_without_valid(tmp_path):
    definitions = sys.modules[__name__]
    experiment = dataclasses.replace(EXPERIMENT, data=NoValid())
    two = [bare(tmp_path, name, experiment) for name in "ab"]
    assert refused(
        two, "no split 'valid' to fit", "gating", splits=("test",), definitions=definitions
    )


def test_refuses_folds_that_do_not_make_members(tmp_path):
    a0, a1, a2 = (
        bare(tmp_path, f"a{i}", dataclasses.replace(EXPERIMENT, selections=(Fold(i, 3),)))
        for i in range(3)
    )
    b = [bare(tmp_path, f"b{i}", fold_of(with_model(modalities=("left",)), i)) for i in range(2)]
    assert refused([a0, a2, *b], r"Fold 1 of 3 is missing beside the run .*a0")
    assert refused([a0, a1, a2], "one member")
    assert refused([a0, a1, a2, bare(tmp_path, "whole")], "leaves out a fold and .*whole does not")
    again = bare(tmp_path, "again", dataclasses.replace(EXPERIMENT, selections=(Fold(1, 3),)))
    assert refused([a0, a1, again, a2, *b], "a1 and .*again leave out the same fold")
    both = dataclasses.replace(EXPERIMENT, selections=(Fold(0, 3), Fold(1, 3)))
    assert refused([a0, bare(tmp_path, "both", both)], "leaves out 2 folds")
    members = open_members([a2, b[1], a0, b[0], a1], None)  # other counts of folds are no matter
    assert [[run.path for run in member.runs] for member in members] == [[a0, a1, a2], b]


def test_refuses_a_fold_that_starts_from_what_it_leaves_out(tmp_path):
    def started(name, index, origin):
        experiment = dataclasses.replace(fold_of(EXPERIMENT, index), start=Start(str(origin)))
        return bare(tmp_path, name, experiment)

    origins = [bare(tmp_path, f"origin{i}", fold_of(EXPERIMENT, i)) for i in range(2)]
    plain = [bare(tmp_path, f"p{i}", fold_of(with_model(modalities=("left",)), i)) for i in (0, 1)]
    good = [started(f"good{i}", i, origins[i]) for i in range(2)]
    assert len(open_members([*plain, *good], None)) == 2
    swapped = [started(f"swapped{i}", i, origins[1 - i]) for i in range(2)]
    assert refused([*plain, *swapped], "trained on the examples that the fold leaves out")
    whole = bare(tmp_path, "whole")
    further = started("further", 0, started("middle", 0, whole))
    assert refused([*plain, further, good[1]], "starts from .*whole, which was trained on")
