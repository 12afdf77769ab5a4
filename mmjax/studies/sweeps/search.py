"""A sweep from its start to its report: searches, evaluates the best trial on `test`, writes down.

    DIR/sweep.json     trials, the best of them, its metrics of `test`
    DIR/best.py        the best configuration as an experiment file
    DIR/report.html    importance of the parameters, values, trials

Trials are chosen on `valid`. The best one's checkpoint alone is evaluated on `test`, when all
trials are finished. A sweep that goes on with more trials, and finds a better one, evaluates that
one too, and says so in `sweep.json`.
"""

import datetime
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmjax.errors import RunError, UserError
from mmjax.studies.processes import Launch, RunProcess, check_experiments
from mmjax.studies.reports.sweep_report import FEWEST, SUMMARY, write_sweep_report
from mmjax.studies.sweeps.best_file import option_words, write_best
from mmjax.studies.sweeps.journal import FrozenTrial, Journal
from mmjax.studies.sweeps.plan import CONFIG, SweepPlan, locked
from mmjax.studies.sweeps.worker import Starter, search, short
from mmjax.training.config import to_json
from mmjax.training.overrides import load_module
from mmjax.training.restore import evaluate_run
from mmjax.training.run_directory import RunDirectory

SHOWN = 10  # trials in the table on the terminal

Tester = Callable[[Path], Mapping[str, float]]  # run directory -> metrics of `test`


def run_sweep(plan: SweepPlan) -> dict[str, Any]:
    """Runs a sweep, or continues it, or joins its other workers.

    Returns:
        What `sweep.json` then holds; `best` has no `test` while other workers run trials.

    Raises:
        ConfigError: before the first trial, for what does not fit the experiment.
        DataError: for data that is missing or damaged.
        RunError: where no trial was completed, or a file of the sweep is damaged.
        Interrupted: on SIGTERM or Ctrl-C, when the running trials have saved.
    """
    plan.sweep.check(plan.experiment)
    plan.refuse_other()
    launch = Launch(plan.experiment_file, plan.folder, plan.command)
    if not (plan.sweep_dir / CONFIG).exists() or _left(plan.open(), plan.trials):
        first = plan.sweep.trial(plan.experiment)
        check_experiments({"": {"config": to_json(first), "after": ""}}, launch)

    def start(run_dir: Path, config: Mapping[str, Any]) -> RunProcess:
        return RunProcess(run_dir, config, launch)

    def test(run_dir: Path) -> Mapping[str, float]:
        return evaluate_run(run_dir, "test", "best", plan.folder, load_module(plan.experiment_file))

    return sweep_with(plan, start, test)


def sweep_with(plan: SweepPlan, start: Starter, test: Tester) -> dict[str, Any]:
    """`run_sweep` after its checks, with what starts a run and what evaluates one on `test`."""
    journal = plan.open()
    try:
        search(plan, journal, start)
    except UserError:
        with locked(plan.lock("finish")):
            _write(plan, journal)
        raise
    with locked(plan.lock("finish")):
        best = journal.best()
        unfinished = any(not trial.state.is_finished() for trial in journal.trials())
        known = {each["number"] for each in journal.tested()}
        can = not unfinished and "test" in plan.experiment.data.splits
        if best and can and best.number not in known:
            print(f"Evaluating trial {best.number}, the best one, on test", flush=True)
            metrics = test(plan.run_dir(best.number))
            finite = {name: v if math.isfinite(v) else None for name, v in metrics.items()}
            journal.note_test(best.number, finite)
        summary = _write(plan, journal)
    if best is None and not unfinished:
        reasons = [trial["reason"] for trial in summary["trials"] if trial["reason"]]
        raise RunError(f"None of the {len(summary['trials'])} trials was completed: {reasons[-1]}")
    return summary


def print_sweep(summary: Mapping[str, Any]) -> None:
    """Prints the best trials, the best parameters, and their metrics of `test`."""
    names = list(summary["space"])
    sign = -1 if summary["direction"] == "max" else 1
    done = [trial for trial in summary["trials"] if trial["state"] == "complete"]
    table = Table(show_edge=False, box=None, pad_edge=False, header_style="bold")
    for name in ("trial", f"valid/{summary['metric']}", *names):
        table.add_column(name, justify="right", overflow="fold")
    for trial in sorted(done, key=lambda trial: sign * trial["value"])[:SHOWN]:
        values = (trial["parameters"][name] for name in names)
        table.add_row(str(trial["number"]), f"{trial['value']:.4f}", *map(short, values))
    Console(width=None if sys.stdout.isatty() else 1000).print(table)
    best = summary["best"]
    if not best:
        return
    if best["overrides"]:
        print(f"\nThe best values: {shlex.join(best['overrides'])}")
    if best["by_file"]:
        print(f"By {best['file']} only: {', '.join(best['by_file'])}")
    print(f"`mmjax train {shlex.quote(best['file'])}` trains the best configuration.")
    for name, value in (best["test"] or {}).items():
        print(f"{name}  {'not finite' if value is None else f'{value:.4f}'}")
    for note in summary["notes"]:
        print(note)


def _left(journal: Journal, trials: int) -> bool:
    """Whether a sweep has trials left to run."""
    begun = journal.trials()
    return sum(trial.state.is_finished() for trial in begun) < max(trials, len(begun))


def _write(plan: SweepPlan, journal: Journal) -> dict[str, Any]:
    """Writes `sweep.json`, `best.py` and the report of the trials so far."""
    directory = RunDirectory(plan.sweep_dir)
    trials, best, tested = journal.trials(), journal.best(), journal.tested()
    summary: dict[str, Any] = {
        "name": plan.experiment.name,
        "command": shlex.join(plan.command),
        "date": datetime.date.today().isoformat(),
        "metric": plan.sweep.metric,
        "direction": plan.sweep.direction,
        "asked": plan.trials,
        "space": to_json(dict(plan.sweep.space)),
        "trials": [_row(plan, trial) for trial in trials],
        "importance": journal.importance(FEWEST),
        "best": None,
        "tested": tested,
        "notes": _notes(plan, trials, tested),
    }
    if best:
        words, by_file = option_words(plan.sweep, best.params)
        test = [each["test"] for each in tested if each["number"] == best.number]
        path = write_best(plan, best, len(trials))
        summary["best"] = {
            "number": best.number,
            "value": best.value,
            "parameters": dict(best.params),
            "overrides": words,
            "by_file": by_file,
            "file": str(path),
            "test": test[-1] if test else None,
        }
    directory.write(SUMMARY, summary)
    write_sweep_report(plan.sweep_dir)
    return summary


def _row(plan: SweepPlan, trial: FrozenTrial) -> dict[str, Any]:
    """A trial as JSON values."""
    finite = trial.value is not None and math.isfinite(trial.value)
    return {
        "number": trial.number,
        "state": {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower()),
        "value": trial.value if finite else None,
        "parameters": dict(trial.params),
        "seconds": trial.user_attrs.get("seconds"),
        "last_step": trial.last_step,
        "reason": trial.user_attrs.get("reason", ""),
        "run": plan.run_dir(trial.number).relative_to(plan.sweep_dir).as_posix(),
    }


def _notes(
    plan: SweepPlan, trials: Sequence[FrozenTrial], tested: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What a reader of the results has to know."""
    notes = []
    running = sum(not trial.state.is_finished() for trial in trials)
    missing = max(plan.trials - len(trials), 0)
    if running + missing:
        notes.append(
            f"{running + missing} of {len(trials) + missing} trials are not finished: other "
            "workers have them, or the same command goes on with them."
        )
    if "test" not in plan.experiment.data.splits:
        notes.append(f"{plan.experiment.data.name} has no split `test` to evaluate the best on.")
    if len(tested) > 1:
        notes.append(
            f"The split test was evaluated {len(tested)} times, each time of another trial that "
            f"was then the best: after {', '.join(str(each['trials']) for each in tested)} trials."
        )
    return notes
