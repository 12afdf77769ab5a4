"""The best configuration of a sweep as an experiment file that a person can read and run."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax.studies.files import write_text
from mmjax.studies.sweeps.journal import FrozenTrial
from mmjax.studies.sweeps.plan import SweepPlan
from mmjax.studies.sweeps.sweep import Choice, Sweep
from mmjax.training.overrides import option_name

BEST = "best.py"


def option_words(sweep: Sweep, parameters: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Parameters as words of the command line, and those that have no words.

    Returns:
        `--dotted.name value` words; the paths of choices among values that words cannot say.
    """
    words: list[str] = []
    by_file: list[str] = []
    for path, parameter in parameters.items():
        each = sweep.space[path]
        value = each.named[parameter] if isinstance(each, Choice) else parameter
        if isinstance(value, str | int | float):
            words += [option_name(path), str(value)]
        else:
            by_file.append(path)
    return words, by_file


def write_best(plan: SweepPlan, best: FrozenTrial, trials: int) -> Path:
    """Writes `best.py` into the directory of a sweep; returns its path.

    It names the experiment file by its path relative to itself.

    Args:
        plan: of the sweep.
        best: the trial.
        trials: how many there are.

    Raises:
        RunError: where it cannot be written.
    """
    path = plan.sweep_dir / BEST
    there = os.path.relpath(plan.experiment_file.resolve(), plan.sweep_dir.resolve())
    command = shlex.quote(path.as_posix()).replace("\\", r"\\").replace('"', r"\"")
    text = "\n".join(
        [
            f'"""The best configuration of a sweep of {plan.experiment.name}.',
            "",
            f"    mmjax train {command}",
            "",
            f"Trial {best.number} of {trials}: {plan.sweep.metric} {best.value:.6g} on `valid`, by "
            "which it was chosen.",
            '"""',
            "",
            "from pathlib import Path",
            "",
            "from mmjax.training.overrides import experiment_of, load_module, override",
            "",
            *_assigned("words", "(", [_quoted(word) for word in plan.overrides], ")"),
            *_assigned(
                "parameters",
                "{",
                [f"{_quoted(name)}: {_quoted(value)}" for name, value in best.params.items()],
                "}",
            ),
            "",
            f"module = load_module(Path(__file__).resolve().parent / {_quoted(there)})",
            "changed = override(experiment_of(module), words, __file__)",
            "experiment = module.sweep.monitored(module.sweep.apply(changed, parameters))",
            "",
        ]
    )
    return write_text(path, text)


def _assigned(name: str, opening: str, items: Sequence[str], closing: str) -> list[str]:
    """The lines of an assignment, an item a line."""
    if not items:
        return [f"{name} = {opening}{closing}"]
    return [f"{name} = {opening}", *(f"    {item}," for item in items), closing]


def _quoted(value: Any) -> str:
    """The `repr` of a number or text, with the double quotes that formatters write."""
    text = repr(value)
    if isinstance(value, str) and text.startswith("'") and '"' not in text:
        return f'"{text[1:-1]}"'
    return text
