"""What several commands take from the command line, and how they write what they found."""

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from mmjax.data.catalogue import resolve_folder
from mmjax.errors import ConfigError
from mmjax.training.experiment import Experiment
from mmjax.training.overrides import experiment_of, load_module, override
from mmjax.training.run_directory import fresh_run_dir


def data_folder(parsed: argparse.Namespace) -> Path | None:
    """The folder of raw data that --data-dir or the environment names, or None."""
    return resolve_folder(parsed.data_dir)


def read_experiment(
    parsed: argparse.Namespace, rest: Sequence[str]
) -> tuple[ModuleType, Experiment]:
    """The experiment file, run, and its experiment with what the words after it change."""
    if not Path(parsed.experiment).exists() and any(word.endswith(".py") for word in rest):
        raise ConfigError(
            f"{parsed.experiment!r} is no experiment file: name the file before the options that "
            f"change it, as in `{parsed.parser.prog} EXPERIMENT.py --training.steps 100`."
        )
    module, prog = load_module(parsed.experiment), f"{parsed.parser.prog} {parsed.experiment}"
    experiment = override(experiment_of(module), rest, prog, parsed.parser.options)
    return module, experiment


def choose_run_dir(parsed: argparse.Namespace, name: str) -> Path:
    """The directory that --run-dir names, or a fresh runs/<name>-<time>."""
    if parsed.run_dir:
        return Path(parsed.run_dir)
    return fresh_run_dir(name)


def split_names(option: str, known: Collection[str]) -> list[str]:
    """The names in a list with commas, where a name may itself hold commas."""
    pieces = option.split(",")
    names = []
    while pieces:
        for count in range(len(pieces), 0, -1):  # the longest name that there is, or one piece
            name = ",".join(pieces[:count]).strip()
            if name in known or count == 1:
                break
        names.append(name)
        pieces = pieces[count:]
    return list(dict.fromkeys(name for name in names if name))


def print_metrics(metrics: Mapping[str, float | None]) -> None:
    """Prints a metric a line."""
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        print(f"{name:{width}}  {'not finite' if value is None else f'{value:.4f}'}")


def check_json(path: str | None) -> None:
    """Refuses a file that could not be written when the work is done."""
    if path and (Path(path).is_dir() or not Path(path).parent.is_dir()):
        raise ConfigError(f"--json {path} cannot be written: name a file in a folder that exists.")


def write_json(path: str | None, value: Any) -> None:
    """Writes a value to the file that --json names, if it names one."""
    if path:
        Path(path).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
