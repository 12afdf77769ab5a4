import collections
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sweep_fakes
from sweep_fakes import SWEEP, FakeRun, run

from mmjax.errors import ConfigError, RunError
from mmjax.studies.sweeps import worker as sweep_worker
from mmjax.studies.sweeps.journal import TrialState
from mmjax.studies.sweeps.sweep import Choice, Sweep, Uniform
from mmjax.studies.sweeps.worker import MetricLines, search
from mmjax.training.loop import Interrupted

TRIALS = 25


def told(journal):
    """What a sweep comes to, apart from times."""
    return [
        (trial.number, trial.state.name, trial.value, trial.params, trial.intermediate_values)
        for trial in journal.trials()
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "whole"
    return run(folder, TRIALS), folder


def test_a_sweep_finds_the_best_rate_and_stops_the_hopeless(undisturbed):
    journal, folder = undisturbed
    trials = journal.trials()
    assert [trial.number for trial in trials] == list(range(TRIALS))
    best = journal.best()
    assert best.value > 0.95
    assert 3e-4 < best.params["optimizer.learning_rate"] < 3e-3
    states = collections.Counter(trial.state for trial in trials)
    assert states[TrialState.PRUNED] > 3
    assert states[TrialState.PRUNED] + states[TrialState.COMPLETE] == TRIALS
    for trial in trials:
        config = json.loads((folder / "trials" / f"{trial.number:04d}/config.json").read_text())
        assert config["training"]["monitor"] == "accuracy"
        assert config["training"]["final_splits"] == ["valid"]
        assert config["optimizer"]["learning_rate"] == trial.params["optimizer.learning_rate"]
        if trial.state == TrialState.COMPLETE:
            assert trial.value == sweep_fakes.quality(config)
        else:  # after the warm-up, before the end, and below the median of those before
            assert trial.last_step in (10, 20, 30)
            others = [
                other.intermediate_values[trial.last_step]
                for other in trials[: trial.number]
                if other.state == TrialState.COMPLETE
            ]
            assert len(others) >= 5
            assert trial.value < sorted(others)[len(others) // 2]


def test_pruning_can_be_switched_off(tmp_path):
    sweep = Sweep(SWEEP.space, "accuracy", pruning=False)
    trials = run(tmp_path / "s", 15, sweep).trials()
    assert all(trial.state == TrialState.COMPLETE for trial in trials)


def test_without_evaluations_on_the_way_nothing_is_stopped_early(tmp_path, capsys):
    trials = run(tmp_path / "s", 15, eval_every=0).trials()
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    assert capsys.readouterr().out.count("training.eval_every is 0") == 1


def test_the_smallest_may_be_the_best(tmp_path):
    sweep = Sweep(SWEEP.space, "accuracy", direction="min", pruning=False)
    journal = run(tmp_path / "s", 12, sweep)
    assert journal.best().value == min(trial.value for trial in journal.trials())


def test_another_seed_of_the_sweep_suggests_other_values(tmp_path, undisturbed):
    other = run(tmp_path / "s", 3, Sweep(SWEEP.space, "accuracy", seed=1))
    first = [trial.params for trial in undisturbed[0].trials()[:3]]
    assert not any(trial.params in first for trial in other.trials())


class Killed(BaseException):
    """Ends a worker where it stands, as SIGKILL does: its locks are free, its trial is running."""


@pytest.mark.parametrize("steps", [-1, 20, 40])
def test_killed_again_and_again_it_tells_the_same(tmp_path, undisturbed, steps):
    starts = 0

    def start(run_dir, config):
        nonlocal starts
        starts += 1
        if starts % 3 == 0:
            if steps >= 0:  # else before the run began
                FakeRun(run_dir, config, steps=steps)
            raise Killed
        return FakeRun(run_dir, config)

    kills = 0
    while True:
        try:
            journal = run(tmp_path / "s", TRIALS, start=start)
            break
        except Killed:
            kills += 1
    assert kills > 7
    assert told(journal) == told(undisturbed[0])


def test_a_kill_between_the_report_and_the_decision_changes_nothing(
    tmp_path, undisturbed, monkeypatch
):
    whole = sweep_worker.Journal.report
    calls = 0

    def report(self, *args):
        nonlocal calls
        whole(self, *args)
        calls += 1
        if calls % 7 == 0:
            raise Killed

    monkeypatch.setattr(sweep_worker.Journal, "report", report)
    while True:
        try:
            journal = run(tmp_path / "s", TRIALS)
            break
        except Killed:
            pass
    assert told(journal) == told(undisturbed[0])


def test_a_finished_sweep_starts_nothing_and_a_larger_one_goes_on(tmp_path, undisturbed):
    shutil.copytree(undisturbed[1], tmp_path / "s")
    journal = run(tmp_path / "s", TRIALS, start=lambda *_: pytest.fail("a trial was started"))
    assert told(journal) == told(undisturbed[0])
    assert len(run(tmp_path / "s", 27).trials()) == 27


def test_several_trials_at_the_same_time(tmp_path):
    running, most = set(), 0

    class Counted(FakeRun):
        def __init__(self, run_dir, config):
            nonlocal most
            super().__init__(run_dir, config, lasts=0.05)
            running.add(self)
            most = max(most, len(running))

        def ended(self):
            if super().ended():
                running.discard(self)
            return super().ended()

    journal = run(tmp_path / "s", 9, workers=3, start=Counted)
    assert most == 3
    assert [trial.number for trial in journal.trials()] == list(range(9))
    assert all(trial.state.is_finished() for trial in journal.trials())


@pytest.mark.slow
def test_workers_share_a_sweep_and_adopt_the_trial_of_one_that_is_killed(tmp_path):
    folder = tmp_path / "s"
    program = [sys.executable, sweep_fakes.__file__, str(folder), "20", "0.25"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    victim, other = (subprocess.Popen(program, **pipes) for _ in range(2))
    for worker in (victim, other):  # the one that starts first is not to do all the work
        assert worker.stdout.readline() == "ready\n"
    for worker in (victim, other):
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in (other, victim):  # each has finished a trial, and begun another
        lines = iter(worker.stdout.readline, "")
        assert any(line.startswith("[") for line in lines)
        begun = folder / "trials" / f"{int(next(lines).split()[1]):04d}" / "starts.txt"
        while not (begun.exists() and begun.read_text()):
            time.sleep(0.005)
    victim.send_signal(signal.SIGKILL)
    said = other.communicate(timeout=60)[0]
    victim.communicate()
    assert [victim.returncode, other.returncode] == [-signal.SIGKILL, 0]
    assert "goes on" in said
    trials = run(folder, 20, start=lambda *_: pytest.fail("a trial was left")).trials()
    assert [trial.number for trial in trials] == list(range(20))
    assert all(trial.state.is_finished() for trial in trials)
    starts = {
        path.parent.name: path.read_text().split() for path in folder.glob("trials/*/starts.txt")
    }
    assert len(starts) == 20
    twice = [pids for pids in starts.values() if len(pids) != 1]
    assert twice == [[str(victim.pid), str(other.pid)]]


def test_a_trial_of_a_live_worker_is_left_alone(tmp_path):
    asked = sweep_fakes.plan(tmp_path / "s", 1)
    journal = asked.open()
    journal.begin(journal.suggest())
    with sweep_worker.locked(asked.lock("0000")):
        search(asked, journal, lambda *_: pytest.fail("it was taken"))
    assert journal.trial(0).state == TrialState.RUNNING
    search(asked, journal, FakeRun)
    assert journal.trial(0).state == TrialState.COMPLETE


def test_an_adopted_trial_waits_for_its_dying_process(tmp_path, monkeypatch):
    asked = sweep_fakes.plan(tmp_path / "s", 1)
    journal = asked.open()
    journal.begin(journal.suggest())
    FakeRun(asked.run_dir(0), {"training": {"steps": 4, "eval_every": 0}}, value=lambda _: 0.0)
    tries = 0

    def start(run_dir, config):
        nonlocal tries
        tries += 1
        if tries < 3:
            raise RunError("Another process is training in it.")
        return FakeRun(run_dir, config)

    search(asked, journal, start)
    assert (tries, journal.trial(0).state) == (3, TrialState.COMPLETE)

    monkeypatch.setattr(sweep_worker, "PATIENCE", 0.2)
    journal.begin(journal.suggest())
    FakeRun(asked.run_dir(1), {"training": {"steps": 4, "eval_every": 0}}, value=lambda _: 0.0)
    tries = -1000
    with pytest.raises(RunError, match="Another process"):
        search(asked, journal, start)


def test_failed_trials_keep_their_reason_and_the_others_go_on(tmp_path, capsys):
    count = 0

    def start(run_dir, config):
        nonlocal count
        count += 1
        if count == 2:
            return FakeRun(run_dir, config, failure="The loss of step 7 is not finite.")
        if count == 3:
            return FakeRun(run_dir, config, value=lambda _: math.nan)
        return FakeRun(run_dir, config)

    trials = run(tmp_path / "s", 6, start=start).trials()
    assert [trial.state.name for trial in trials] == ["COMPLETE", "FAIL", "FAIL", *["COMPLETE"] * 3]
    assert trials[1].user_attrs["reason"] == "The loss of step 7 is not finite."
    assert "not finite" in trials[2].user_attrs["reason"]
    out = capsys.readouterr().out
    assert "[2/6] trial 1: failed: The loss of step 7 is not finite.; best" in out


def test_values_that_do_not_fit_each_other_fail_their_trial_only(tmp_path):
    sweep = Sweep({**SWEEP.space, "training.batch_size": Choice((64, -1))}, "accuracy")
    trials = run(tmp_path / "s", 12, sweep).trials()
    states = {trial.params["training.batch_size"]: trial.state.name for trial in trials}
    assert states["64"] != "FAIL"
    assert states["-1"] == "FAIL"
    reason = next(t.user_attrs["reason"] for t in trials if t.state == TrialState.FAIL)
    assert reason.startswith("training.batch_size = '-1': Training.batch_size is -1")


def test_the_first_trials_failing_alike_end_the_sweep(tmp_path):
    def start(run_dir, config):
        return FakeRun(run_dir, config, failure="No space left.")

    with pytest.raises(RunError, match=r"first 3 trials all failed with: No space left\. Fix it"):
        run(tmp_path / "s", 30, start=start)


def test_a_metric_that_is_not_there_ends_the_sweep_at_once(tmp_path):
    said = "There is no metric for training.monitor 'acc': did you mean 'accuracy'?"
    with pytest.raises(ConfigError, match=r"no metric for Sweep\.metric 'acc': did you"):
        run(tmp_path / "s", 30, start=lambda *a: FakeRun(*a, failure=said))


def test_a_process_that_somebody_stops_is_no_failed_trial(tmp_path, undisturbed):
    said = {"failure": "Stopped at step 12 of 40 by SIGTERM.", "interrupted": True}
    with pytest.raises(Interrupted, match="run the same command"):
        run(tmp_path / "s", TRIALS, start=lambda *a: FakeRun(*a, steps=20, **said))
    assert told(run(tmp_path / "s", TRIALS)) == told(undisturbed[0])


def test_sigterm_stops_the_trials_and_the_sweep_goes_on_later(tmp_path, undisturbed):
    made = []

    def start(run_dir, config):
        made.append(FakeRun(run_dir, config, lasts=60.0, steps=10))
        return made[-1]

    timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    begun = time.monotonic()
    with pytest.raises(Interrupted, match="Stopped by SIGTERM with 0 of 25 trials finished"):
        run(tmp_path / "s", TRIALS, workers=2, start=start)
    assert time.monotonic() - begun < 10
    assert [each.stopped for each in made] == [True, True]
    assert len(run(tmp_path / "s", TRIALS).trials()) == TRIALS


def test_another_sweep_or_experiment_is_refused_in_the_same_directory(tmp_path):
    run(tmp_path / "s", 1)
    with pytest.raises(ConfigError, match=r"experiment\.training\.steps: 40 -> 80"):
        run(tmp_path / "s", 1, steps=80)
    other = Sweep({**SWEEP.space, "model.heads.label.dropout": Uniform(0.0, 0.9)}, "accuracy")
    with pytest.raises(ConfigError, match=r"dropout\.high: 0\.5 -> 0\.9"):
        run(tmp_path / "s", 1, other)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="holds no sweep"):
        run(tmp_path / "mine", 1)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


@pytest.mark.parametrize("given", [{"trials": 0}, {"trials": 1, "workers": 0}])
def test_no_trials_and_no_workers_are_refused(tmp_path, given):
    with pytest.raises(ConfigError, match="must be 1 or more"):
        sweep_fakes.plan(tmp_path / "s", **given)


def test_metric_lines_are_read_once_whole_and_after_a_resume(tmp_path):
    path = Path(tmp_path / "metrics.jsonl")
    lines = MetricLines(path, "valid/accuracy")
    assert lines.new() == []
    path.write_text('{"step": 1, "train/loss": 2}\n{"step": 2, "valid/accuracy": 0.5}\n{"step": 4')
    assert lines.new() == [(2, 0.5)]
    assert lines.new() == []
    with open(path, "a") as file:
        file.write(', "valid/accuracy": 0.75}\n{"step": 5, "valid/accuracy": null}\n')
    assert lines.new() == [(4, 0.75)]
    draft = tmp_path / "metrics.jsonl.tmp"  # as a resumed run cuts it
    draft.write_text('{"step": 2, "valid/accuracy": 0.5}\n')
    draft.replace(path)
    assert lines.new() == [(2, 0.5)]
    with open(path, "a") as file:
        file.write("garbage\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged .*garbage.* remove that line"):
        lines.new()
