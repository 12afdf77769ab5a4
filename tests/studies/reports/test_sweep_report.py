import contextlib
import io
import json
import math
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import jax
import pytest
import sweep_fakes
from sweep_fakes import SWEEP, FakeRun

from mmjax.errors import ConfigError, RunError
from mmjax.fusion import Concat, Mean
from mmjax.studies.reports.sweep_charts import Dot, bar_chart, scatter_chart
from mmjax.studies.reports.sweep_report import write_sweep_report
from mmjax.studies.sweeps.best_file import option_words
from mmjax.studies.sweeps.plan import SweepPlan
from mmjax.studies.sweeps.search import print_sweep, run_sweep, sweep_with
from mmjax.studies.sweeps.sweep import Choice, LogUniform, Sweep, Uniform
from mmjax.training.config import to_json
from mmjax.training.loop import Interrupted, train
from mmjax.training.overrides import experiment_of, load_module, override

FILE = '''"""Digits from their halves."""

from mmjax.data import DigitsHalves
from mmjax.encoders import MLP
from mmjax.evaluation import Classification
from mmjax.fusion import Concat, Mean
from mmjax.heads import Classifier
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.studies.sweeps.sweep import Choice, LogUniform, Sweep, Uniform
from mmjax.training import AdamW, Experiment, Training

experiment = Experiment(
    name="halves",
    data=DigitsHalves(),
    model=FusionModel(
        encoders={view: MLP(hidden=(8,), width=8) for view in ("left", "right")},
        fusion=Concat(),
        heads={"label": Classifier()},
    ),
    objectives=(CrossEntropy(),),
    optimizer=AdamW(learning_rate=1e-3),
    training=Training(steps=40, eval_every=10, batch_size=64),
    evaluation=(Classification(),),
)
sweep = Sweep(
    space={
        "optimizer.learning_rate": LogUniform(1e-5, 1e-1),
        "model.heads.label.dropout": Uniform(0.0, 0.5),
        "model.fusion": Choice({"concat": Concat(), "mean": Mean(width=8)}),
    },
    metric="accuracy",
)
'''


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "experiments" / "halves.py"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


@pytest.fixture
def search(tmp_path, file):
    """Runs a sweep whose test accuracy tells which trial was evaluated."""
    tested = []

    def evaluate(run_dir):
        tested.append(run_dir.name)
        return {"test/accuracy": 0.5 + int(run_dir.name) / 1000, "test/loss": math.nan}

    def call(trials, sweep=SWEEP, start=FakeRun, **given):
        given |= {"experiment_file": file, "command": ["mmjax", "sweep", "halves.py"]}
        asked = sweep_fakes.plan(tmp_path / "runs" / "s", trials, sweep, **given)
        return sweep_with(asked, start, evaluate)

    call.tested = tested
    return call


def test_test_is_evaluated_once_for_the_best_trial(search, tmp_path):
    summary = search(12)
    best = summary["best"]
    assert search.tested == [f"{best['number']:04d}"]
    assert best["test"] == {"test/accuracy": 0.5 + best["number"] / 1000, "test/loss": None}
    values = [t["value"] for t in summary["trials"] if t["state"] == "complete"]
    assert best["value"] == max(values)
    assert summary == json.loads((tmp_path / "runs/s/sweep.json").read_text())
    again = search(12, start=lambda *_: pytest.fail("a trial was started"))
    assert len(search.tested) == 1
    assert again["best"] == best


def test_a_better_trial_of_a_larger_sweep_is_evaluated_too_and_it_says_so(search, words, tmp_path):
    first = search(2)["best"]["number"]
    summary = search(14)
    assert search.tested == [f"{first:04d}", f"{summary['best']['number']:04d}"]
    assert [each["trials"] for each in summary["tested"]] == [2, 14]
    shown = words(tmp_path / "runs/s/report.html")
    assert "test was evaluated 2 times" in shown
    assert "for it alone" not in shown


def test_while_another_worker_has_a_trial_test_is_left_alone(search, tmp_path):
    asked = sweep_fakes.plan(tmp_path / "runs" / "s", 4)
    journal = asked.open()
    journal.begin(journal.suggest())
    with sweep_fakes.locked(asked.lock("0000")):
        summary = search(4)
    assert search.tested == []
    assert summary["best"]["test"] is None
    assert summary["notes"][0].startswith("1 of 4 trials are not finished")
    assert search(4)["best"]["test"]  # it was left, and adopted


def test_a_sweep_without_a_complete_trial_fails_with_a_reason_and_a_report(search, tmp_path):
    with pytest.raises(RunError, match=r"None of the 2 trials was completed: No space left"):
        search(2, start=lambda *a: FakeRun(*a, failure="No space left."))
    assert json.loads((tmp_path / "runs/s/sweep.json").read_text())["best"] is None
    assert "No space left." in (tmp_path / "runs/s/report.html").read_text()


def test_an_interrupted_sweep_leaves_its_results_so_far(search, tmp_path):
    starts = []

    def start(run_dir, config):
        starts.append(run_dir)
        said = "Stopped at step 3 of 40 by SIGTERM;" if len(starts) == 4 else ""
        return FakeRun(run_dir, config, failure=said, interrupted=bool(said))

    with pytest.raises(Interrupted):
        search(9, start=start)
    summary = json.loads((tmp_path / "runs/s/sweep.json").read_text())
    assert [trial["state"] for trial in summary["trials"]] == [*["complete"] * 3, "running"]
    assert summary["best"]["test"] is None


def test_best_py_is_the_best_configuration(search, tmp_path, file):
    words = ["--training.batch-size", "32", "--name", "other"]
    base = override(experiment_of(load_module(file)), words, "test")
    asked = SweepPlan(SWEEP, base, tmp_path / "runs" / "s", 8, file, overrides=words)
    summary = sweep_with(asked, FakeRun, lambda _: {})
    path = tmp_path / "runs/s/best.py"
    found = experiment_of(load_module(path))
    trial = asked.run_dir(summary["best"]["number"])
    config = json.loads((trial / "config.json").read_text())
    assert config["training"]["final_splits"] == ["valid"]
    config["training"]["final_splits"] = []
    assert json.loads(json.dumps(to_json(found))) == config
    text = path.read_text()
    assert f"Trial {summary['best']['number']} of 8" in text
    assert str(tmp_path) not in text.split('"""')[2]  # the file is found from where this one lies
    for command in ("format", "check"):
        done = subprocess.run(
            [Path(sys.executable).with_name("ruff"), command, "--isolated", "--diff", path],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def test_best_py_runs_in_a_folder_of_any_name(tmp_path, file):
    asked = sweep_fakes.plan(tmp_path / 'a """\\x b', 1, experiment_file=file)
    sweep_with(asked, FakeRun, lambda _: {})
    assert experiment_of(load_module(asked.sweep_dir / "best.py"))


def test_the_best_values_as_words_of_the_command_line(file):
    sweep = Sweep(
        {
            "optimizer.learning_rate": LogUniform(1e-4, 1e-2),
            "training.batch_size": Choice((32, 64)),
            "model.encoders.left.batch_norm": Choice({"with": True, "without": False}),
            "model.fusion": Choice({"concat": Concat(), "mean": Mean(width=8)}),
        },
        "accuracy",
    )
    parameters = {
        "optimizer.learning_rate": 0.0031234,
        "training.batch_size": "64",
        "model.encoders.left.batch_norm": "with",
        "model.fusion": "mean",
    }
    words, by_file = option_words(sweep, parameters)
    assert shlex.join(words[:4]) == "--optimizer.learning-rate 0.0031234 --training.batch-size 64"
    assert words[4:] == ["--model.encoders.left.batch-norm", "True"]
    assert by_file == ["model.fusion"]
    changed = override(experiment_of(load_module(file)), words[:4], "test")
    assert (changed.optimizer.learning_rate, changed.training.batch_size) == (0.0031234, 64)


def test_the_report_tells_what_matters_and_links_to_the_trials(search, tmp_path, words):
    summary = search(40)
    page = tmp_path / "runs/s/report.html"
    text, shown = page.read_text(), words(page)
    assert not re.search(r"https?://|<link|<img|@import", text)
    assert "Share of the variance of accuracy" in shown
    assert "stopped early" in shown
    assert f'href="trials/{summary["best"]["number"]:04d}/"' in text
    assert f"valid/accuracy, trial {summary['best']['number']}" in shown
    assert "test/accuracy" in shown
    assert text.count("<tr><td data-value=") == 40
    assert "model.fusion: best.py does" in shown
    for chart in re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL):
        ET.fromstring(chart)
    assert write_sweep_report(page.parent) == page


def test_the_report_of_few_trials_says_that_the_importance_cannot_be_told(search, tmp_path, words):
    search(3)
    assert "10 complete trials" in words(tmp_path / "runs/s/report.html")


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda found: found.clear(), "'name' of the file is missing"),
        (lambda found: found["trials"][1].clear(), "of item 1 of 'trials' of the file is missing"),
        (lambda found: found["trials"][1]["parameters"].clear(), "trial 1 has other parameters"),
        (lambda found: found["trials"].reverse(), "trial 0 has the number 1"),
        (lambda found: found["best"].update(number=2), "its best trial is not among its trials"),
        (lambda found: found["space"].update({"model.fusion": {"type": "x"}}), "wrong kind"),
        (
            lambda found: found["trials"][0]["parameters"].update({"model.fusion": "sum"}),
            "'model.fusion' of trial 0 is not in its range",
        ),
    ],
)
def test_a_damaged_summary_is_a_sentence_and_the_sweep_writes_it_anew(
    search, tmp_path, change, wrong
):
    path = tmp_path / "runs/s/sweep.json"
    first = search(2)
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    with pytest.raises(RunError, match=rf"sweep\.json is damaged \(.*{re.escape(wrong)}"):
        write_sweep_report(path.parent)
    path.write_text("no JSON")
    assert search(2)["best"] == first["best"]
    assert len(search.tested) == 1  # what was evaluated is in the journal
    assert json.loads(path.read_text())["tested"] == first["tested"]


def test_the_terminal_shows_ten_trials_and_the_best(search, capsys):
    summary = search(14)
    capsys.readouterr()
    print_sweep(summary)
    out = capsys.readouterr().out
    best = summary["best"]
    rows = [line for line in out.splitlines() if re.match(r" *\d+ +0\.\d{4} ", line)]
    complete = [t for t in summary["trials"] if t["state"] == "complete"]
    assert len(rows) == min(10, len(complete))
    assert rows[0].split()[:2] == [str(best["number"]), f"{best['value']:.4f}"]
    assert "--optimizer.learning-rate " in out
    assert "best.py only: model.fusion" in out
    assert f"test/accuracy  {best['test']['test/accuracy']:.4f}" in out
    assert "test/loss  not finite" in out


def test_bars_are_as_long_as_their_shares():
    chart = ET.fromstring(bar_chart({"a <b>": 0.75, "c": 0.25}, label="shares"))
    widths = [float(rect.get("width")) for rect in chart.iter("rect")]
    assert widths[0] == pytest.approx(3 * widths[1], abs=0.2)
    assert "a <b>" in [text.text for text in chart.iter("text")]


def test_dots_lie_where_their_values_are():
    dots = [
        Dot(1e-4, 0.1, "pruned", "a"),
        Dot(1e-3, 0.2, "complete", "b"),
        Dot(1e-2, 0.3, "best", "c & d"),
        Dot(1e-2, math.nan, "complete", "left out"),
    ]
    text = scatter_chart(dots, label="l", x_label="rate", log_x=True, x_range=(1e-4, 1e-2))
    chart = ET.fromstring(text)
    circles = list(chart.iter("circle"))
    assert [circle.get("class") for circle in circles] == ["mark", "seed", "seed"]
    x, y = ([float(circle.get(name)) for circle in circles] for name in ("cx", "cy"))
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)
    assert y[0] - y[1] == pytest.approx(y[1] - y[2], abs=0.2)
    assert y[0] > y[2]  # larger is higher
    assert circles[2][0].text == "c & d"
    named = scatter_chart([Dot(1, 0.5, "best", "")], label="l", x_label="x", names=("one", "two"))
    assert {"one", "two"} <= {each.text for each in ET.fromstring(named).iter("text")}
    assert "No finite value" in scatter_chart(dots[3:], label="l", x_label="x")


@pytest.mark.slow
def test_a_real_sweep_from_its_file_to_its_best_experiment(tmp_path, file, monkeypatch):
    # What the trials compile is kept from one run of the tests to the next, as `conftest.py` does.
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    module = load_module(file)
    words = ["--training.steps", "6", "--training.eval-every", "3"]
    experiment = override(experiment_of(module), words, "test")
    sweep_dir = tmp_path / "runs" / "real"
    command = ["mmjax", "sweep", str(file), *words]
    asked = SweepPlan(module.sweep, experiment, sweep_dir, 2, file, 2, None, words, command)
    summary = run_sweep(asked)
    assert [trial["state"] for trial in summary["trials"]] == ["complete", "complete"]
    for trial in summary["trials"]:
        run = sweep_dir / trial["run"]
        result = json.loads((run / "result.json").read_text())
        assert not any(
            name.startswith("test/") for name in [*result["metrics"], *result["details"]]
        )
        assert "test/" not in (run / "metrics.jsonl").read_text()
        assert trial["value"] == result["metrics"]["valid/accuracy"]
        assert (run / "report.html").exists()
    best = summary["best"]
    assert 0 <= best["test"]["test/accuracy"] <= 1
    assert not any(name.startswith("valid/") for name in best["test"])

    # The same command again starts nothing; the best file trains what the best trial trained.
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert run_sweep(asked)["best"] == best
    assert said.getvalue() == ""
    again = train(experiment_of(load_module(sweep_dir / "best.py")), tmp_path / "again", None)
    assert again["metrics"]["valid/accuracy"] == best["value"]
    assert again["metrics"]["test/accuracy"] == best["test"]["test/accuracy"]


def test_what_does_not_fit_is_told_before_the_first_trial(tmp_path, file):
    module = load_module(file)
    sweep_dir = tmp_path / "runs" / "none"
    wrong = Sweep({"optimizer.learning_rte": Uniform(0.0, 1.0)}, "accuracy")
    with pytest.raises(ConfigError, match="did you mean 'learning_rate'"):
        run_sweep(SweepPlan(wrong, module.experiment, sweep_dir, 2, file))
    with pytest.raises(ConfigError, match="--trials is 0"):
        SweepPlan(module.sweep, module.experiment, sweep_dir, 0, file)
    assert not sweep_dir.exists()
