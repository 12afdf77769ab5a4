"""Arguments and outputs that several commands share."""

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from mmjax.data.catalogue import resolve_folder
from mmjax.errors import ConfigError
from mmjax.training.experiment import Experiment
from mmjax.training.overrides import experiment_of, load_module, override
from mmjax.training.run_directory import fresh_run_dir


def data_folder(parsed: argparse.Namespace) -> Path | None:
    """The folder of raw data from --data-dir or the environment, or None."""
    return resolve_folder(parsed.data_dir)


def read_experiment(
    parsed: argparse.Namespace, rest: Sequence[str]
) -> tuple[ModuleType, Experiment]:
    """Runs the experiment file; returns its module, and its experiment with the overrides."""
    if not Path(parsed.experiment).exists() and any(word.endswith(".py") for word in rest):
        raise ConfigError(
            f"{parsed.experiment!r} is not an experiment file: write the file before the options, "
            f"as in `{parsed.parser.prog} EXPERIMENT.py --training.steps 100`."
        )
    module, prog = load_module(parsed.experiment), f"{parsed.parser.prog} {parsed.experiment}"
    experiment = override(experiment_of(module), rest, prog, parsed.parser.options)
    return module, experiment


def choose_run_dir(parsed: argparse.Namespace, name: str) -> AbstractContextManager[Path]:
    """The directory in --run-dir, or a new one, runs/<name>-<time>, removed if nothing is in it."""
    return nullcontext(Path(parsed.run_dir)) if parsed.run_dir else fresh_run_dir(name)


def split_names(option: str, known: Collection[str]) -> list[str]:
    """The names in a comma-separated list; names in `known` may contain commas."""
    pieces = option.split(",")
    names = []
    while pieces:
        for count in range(len(pieces), 0, -1):  # the longest known name, or one piece
            name = ",".join(pieces[:count]).strip()
            if name in known or count == 1:
                break
        names.append(name)
        pieces = pieces[count:]
    return list(dict.fromkeys(name for name in names if name))


def print_metrics(metrics: Mapping[str, float | None]) -> None:
    """Prints one metric per line."""
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        print(f"{name:{width}}  {'not finite' if value is None else f'{value:.4f}'}")


def check_json(path: str | None) -> None:
    """Checks before the work that the file can be written after it."""
    if path and (Path(path).is_dir() or not Path(path).parent.is_dir()):
        raise ConfigError(f"--json {path} cannot be written: give a file in a folder that exists.")


def write_json(path: str | None, value: Any) -> None:
    """Writes a value to the file in --json, if that was given."""
    if path:
        Path(path).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
