"""`mmjax train`, `evaluate` and `bench`."""

import argparse
import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmjax import benchmarks
from mmjax.commands.arguments import (
    check_json,
    choose_run_dir,
    data_folder,
    print_metrics,
    read_experiment,
    write_json,
)
from mmjax.errors import ConfigError
from mmjax.training.experiment import Experiment
from mmjax.training.loop import train
from mmjax.training.overrides import load_module, override
from mmjax.training.provenance import environment
from mmjax.training.restore import evaluate_run, robustness_of_run
from mmjax.training.run_directory import RunDirectory
from mmjax.training.sharding import check_devices


def train_experiment(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax train`: trains and evaluates an experiment in a run directory."""
    module, experiment = read_experiment(parsed, rest)
    with choose_run_dir(parsed, experiment.name) as run_dir:
        result = train(experiment, run_dir, data_folder(parsed), ["mmjax", *parsed.words], module)
    print_metrics(result["metrics"])
    command = f"mmjax report {shlex.quote(str(run_dir))}"
    print(f"The run is in {run_dir}; `{command}` writes a report.")


def evaluate(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax evaluate`: evaluates a checkpoint of a run on a split."""
    check_json(parsed.json)
    definitions = load_module(parsed.experiment) if parsed.experiment else None
    prog = f"{parsed.parser.prog} {parsed.run_dir}"

    def change(experiment: Experiment) -> Experiment:
        return override(experiment, rest, prog, parsed.parser.options)

    common = (parsed.split, parsed.checkpoint, data_folder(parsed), definitions, change)
    if parsed.robustness:
        _robustness(parsed, common)
        return
    for option in ("beside", "corruptions", "severities", "metric"):
        if getattr(parsed, option) is not None:
            raise ConfigError(f"--{option} is an option of --robustness: give that too.")
    metrics = evaluate_run(Path(parsed.run_dir), *common, parsed.drop)
    print_metrics(metrics)
    write_json(parsed.json, metrics)


def _robustness(parsed: argparse.Namespace, common: tuple[Any, ...]) -> None:
    """`mmjax evaluate --robustness`: every subset of the modalities, and every corruption."""
    if parsed.drop:
        raise ConfigError("--robustness tries every subset of the modalities: leave out --drop.")
    levels = (parsed.severities or "1,2,3,4,5").split(",")
    if not all(level.strip().isdigit() for level in levels):
        raise ConfigError(f"--severities {parsed.severities} must be numbers, such as 1,3,5.")
    options: dict[str, Any] = {
        "metric": parsed.metric or "",
        "only": [name.strip() for name in (parsed.corruptions or "").split(",") if name.strip()],
        "severities": [int(level) for level in levels],
    }
    if parsed.beside:
        RunDirectory(Path(parsed.beside)).config()  # is there one? before the work on the other
    found = robustness_of_run(Path(parsed.run_dir), *common, **options)
    print(f"{found.metric} with these modalities only:")
    print_metrics(found.subsets)
    print("\nContribution of each modality (Shapley value):")
    print_metrics(found.contributions)
    figures = dataclasses.asdict(found)
    if found.curves:
        print(f"\nClean, then severity {', '.join(levels)}; then the relative robustness (area):")
    for name, curve in found.curves.items():
        points = "  ".join(f"{value:.4f}" for value in curve)
        print(f"{name:24} {points}   {found.relative[name]:.4f}")
    if parsed.beside:
        other = robustness_of_run(Path(parsed.beside), *common, **options)
        figures["effective"] = found.effective(other)
        print(f"\nEffective robustness beside {parsed.beside}:")
        print_metrics(figures["effective"])
    write_json(parsed.json, figures)


def bench_step(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax bench step`: measures the train step."""
    check_json(parsed.json)
    _, experiment = read_experiment(parsed, rest)
    if experiment.training.steps == 0:
        raise ConfigError(
            "The experiment has no step to measure, because training.steps is 0: set it to 1 or "
            "more, and give the experiment an objective."
        )
    figures = dataclasses.asdict(
        benchmarks.bench_step(experiment, data_folder(parsed), parsed.steps)
    )
    for name, value in figures.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        if isinstance(value, tuple):
            shown = " to ".join(f"{number:.4g}" for number in value)
        print(f"{name:24} {shown}")
    write_json(parsed.json, figures)


def bench_objective(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax bench objective`: measures losses with their gradients."""
    check_json(parsed.json)
    check_devices()
    rows = benchmarks.bench_objective(
        parsed.loss or tuple(benchmarks.LOSSES),
        parsed.width,
        batch_size=parsed.batch_size,
        precision=parsed.precision,
        rounds=parsed.rounds,
    )
    machine = environment(["mmjax", *parsed.words], {})
    versions = machine["versions"]
    print(
        f"{machine['devices'][0]}, {machine['processor']}, {machine['cores']} cores; mmjax ", end=""
    )
    print(f"{versions['mmjax']}, jax {versions['jax']}, jaxlib {versions['jaxlib']}")
    print(
        f"Loss with gradient, batch {parsed.batch_size}, views in {parsed.precision}: ms, median "
        f"of {parsed.rounds} rounds (quartiles); then only its matrix products, and the ratio"
    )
    for row in rows:
        print(
            f"{row.loss:18} D={row.width:<5}",
            f"{_spread(row.ms, row.ms_quartiles):28}",
            f"{_spread(row.products_ms, row.products_ms_quartiles):28}",
            _spread(row.ratio, row.ratio_quartiles),
        )
    figures = {
        "batch_size": parsed.batch_size,
        "precision": parsed.precision,
        "rounds": parsed.rounds,
        "rows": [dataclasses.asdict(row) for row in rows],
        "environment": machine,
    }
    write_json(parsed.json, figures)


def _spread(median: float, quartiles: tuple[float, float]) -> str:
    return f"{median:.4g} ({quartiles[0]:.4g} to {quartiles[1]:.4g})"
