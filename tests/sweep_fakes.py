"""Sweeps without training: runs that write the files of a run at once, from its config.

As a program it is one worker of a sweep with such runs:

    python tests/sweep_fakes.py SWEEP_DIR TRIALS SECONDS_A_RUN

It says when it is ready, and begins when it is given a line.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmjax.data import DigitsHalves
from mmjax.encoders import MLP
from mmjax.evaluation import Classification
from mmjax.fusion import Concat, Mean
from mmjax.heads import Classifier
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.studies.processes import RunProcess
from mmjax.studies.sweeps.journal import Journal
from mmjax.studies.sweeps.plan import SweepPlan, locked
from mmjax.studies.sweeps.sweep import Choice, LogUniform, Sweep, Uniform
from mmjax.studies.sweeps.worker import search
from mmjax.training import AdamW, Experiment, Training

__all__ = ["SWEEP", "FakeRun", "experiment", "locked", "plan", "quality", "run"]

SWEEP = Sweep(
    space={
        "optimizer.learning_rate": LogUniform(1e-5, 1e-1),
        "model.heads.label.dropout": Uniform(0.0, 0.5),
        "model.fusion": Choice({"concat": Concat(), "mean": Mean(width=8)}),
    },
    metric="accuracy",
)


def experiment(**training: Any) -> Experiment:
    """A small classifier of the digits, evaluated four times."""
    return Experiment(
        name="halves",
        data=DigitsHalves(),
        model=FusionModel(
            encoders={view: MLP(hidden=(8,), width=8) for view in ("left", "right")},
            fusion=Concat(),
            heads={"label": Classifier()},
        ),
        objectives=(CrossEntropy(),),
        optimizer=AdamW(learning_rate=1e-3),
        training=Training(**{"steps": 40, "eval_every": 10, "batch_size": 64} | training),
        evaluation=(Classification(),),
    )


def quality(config: Mapping[str, Any]) -> float:
    """Best, 1, at a learning rate of 1e-3; the dropout matters little, the fusion not at all."""
    rate = config["optimizer"]["learning_rate"]
    dropout = config["model"]["heads"]["label"]["dropout"]
    return 1 - 0.2 * (math.log10(rate) + 3) ** 2 - 0.01 * dropout


class FakeRun(RunProcess):
    """A run that is over as soon as it begins, or after some seconds.

    Args:
        run_dir: its directory.
        config: its experiment, by `to_json`.
        lasts: seconds until it has ended.
        steps: how many it does; fewer than its config says are those of a run that was killed.
    """

    seconds = 1.5

    def __init__(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        lasts: float = 0.0,
        steps: int | None = None,
        failure: str = "",
        interrupted: bool = False,
        value: Callable[[Mapping[str, Any]], float] = quality,
    ) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "config.json").write_text(json.dumps(config))
        with open(run_dir / "starts.txt", "a") as starts:
            starts.write(f"{os.getpid()}\n")
        training, best = config["training"], value(config)
        end = training["steps"] if steps is None else steps
        lines: list[dict[str, float]] = [{"step": 5, "train/loss": 1.0}]
        every = training["eval_every"] or training["steps"]
        for step in range(0, end + 1, every):
            lines.append({"step": step, "valid/accuracy": best * step / training["steps"]})
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (run_dir / "metrics.jsonl").write_text(text)
        if end == training["steps"] and not failure:
            metrics = {"valid/accuracy": best if math.isfinite(best) else None}
            result = {"metrics": metrics, "seconds": 2.0, "steps": end}
            (run_dir / "result.json").write_text(json.dumps(result))
        self._interrupted = interrupted
        self._end, self._failure, self.stopped = time.monotonic() + lasts, failure, False

    def ended(self) -> bool:
        return self.stopped or time.monotonic() >= self._end

    def interrupted(self) -> bool:
        return self._interrupted

    def failure(self) -> str:
        return self._failure

    def stop(self) -> None:
        self.stopped = True

    def wait(self) -> None:
        pass


def plan(sweep_dir: Path, trials: int, sweep: Sweep = SWEEP, **given: Any) -> SweepPlan:
    """What a start is asked for."""
    names = ("workers", "experiment_file", "overrides", "command")
    asked = {"experiment_file": Path("halves.py")} | {n: given.pop(n) for n in names if n in given}
    return SweepPlan(sweep, experiment(**given), sweep_dir, trials, **asked)


def run(
    sweep_dir: Path, trials: int, sweep: Sweep = SWEEP, start: Any = FakeRun, **given: Any
) -> Journal:
    """Searches, and returns the journal."""
    asked = plan(sweep_dir, trials, sweep, **given)
    journal = asked.open()
    search(asked, journal, start)
    return journal


if __name__ == "__main__":
    where, count, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    print("ready", flush=True)
    sys.stdin.readline()  # until all workers are
    run(where, count, start=lambda path, config: FakeRun(path, config, lasts=seconds))
