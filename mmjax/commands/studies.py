"""`mmjax ablate`, `sweep`, `ensemble`, `ledger` and `report`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmjax.commands.arguments import (
    check_json,
    choose_run_dir,
    data_folder,
    read_experiment,
    split_names,
    write_json,
)
from mmjax.errors import ConfigError
from mmjax.studies import ablation, ledger
from mmjax.studies import ensemble as ensembles
from mmjax.studies.reports.run_report import write_run_report
from mmjax.studies.reports.study_report import write_study_report
from mmjax.studies.reports.sweep_report import SUMMARY, write_sweep_report
from mmjax.studies.results import RESULTS
from mmjax.studies.rows import study_of
from mmjax.studies.sweeps.sweep import sweep_of
from mmjax.studies.tables import print_table
from mmjax.training.overrides import load_module


def ablate(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax ablate`: runs the rows of a study over seeds."""
    module, experiment = read_experiment(parsed, rest)
    study = study_of(module)
    columns = [name for name in (parsed.columns or "").split(",") if name]
    for name in [*study.columns, *columns]:
        split, slash, _ = name.partition("/")
        if not slash or split not in experiment.data.splits:
            raise ConfigError(
                f"The column {name!r} is not a metric of a split: write split and metric, as in "
                "'test/accuracy'."
            )
    with choose_run_dir(parsed, experiment.name) as study_dir:
        plan = ablation.Ablation(
            study,
            experiment,
            title=((module.__doc__ or "").strip() or experiment.name).splitlines()[0],
            study_dir=study_dir,
            seeds=study.seeds if parsed.seeds is None else parsed.seeds,
            only=split_names(parsed.rows or "", study.rows or (experiment.name,)),
            jobs=parsed.jobs,
            folder=data_folder(parsed),
            definitions=Path(parsed.experiment),
            command=["mmjax", *parsed.words],
        )
        if parsed.dry_run:
            print("\n".join(ablation.dry_run(plan)))
            return
        results = ablation.ablate(plan)
        print(f"The study is in {study_dir}: table.md, table.csv, results.json, report.html.")
        print_table(results, columns)
        ablation.refuse_failed(plan)


def sweep(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax sweep`: searches hyperparameters of an experiment."""
    from mmjax.studies.sweeps import plan, search  # reports if Optuna, an extra, is missing

    module, experiment = read_experiment(parsed, rest)
    with choose_run_dir(parsed, experiment.name) as sweep_dir:
        sweep_plan = plan.SweepPlan(
            sweep_of(module),
            experiment,
            sweep_dir,
            parsed.trials,
            Path(parsed.experiment),
            workers=parsed.workers,
            folder=data_folder(parsed),
            overrides=rest,
            command=["mmjax", *parsed.words],
        )
        summary = search.run_sweep(sweep_plan)
        search.print_sweep(summary)
        print(f"The sweep is in {sweep_dir}: best.py, sweep.json, report.html.")


def ensemble(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax ensemble`: combines the predictions of several finished runs."""
    check_json(parsed.json)
    definitions = load_module(parsed.experiment) if parsed.experiment else None
    result = ensembles.ensemble(
        [Path(run) for run in parsed.runs],
        parsed.method,
        data_folder(parsed),
        which=parsed.checkpoint,
        definitions=definitions,
    )
    ensembles.print_ensemble(result)
    write_json(parsed.json, result)


def write_ledger(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax ledger`: writes RESULTS.md from the result files in a folder."""
    folder = Path(parsed.folder)
    for study_dir in parsed.add or ():
        print(f"Added {ledger.add(folder, Path(study_dir))}.")
    print(f"Wrote {ledger.write_ledger(folder)}.")


def report(parsed: argparse.Namespace, rest: Sequence[str]) -> None:
    """`mmjax report`: writes the report of a run, a study or a sweep."""
    run_dir = Path(parsed.run_dir)
    if (run_dir / SUMMARY).exists():
        written = write_sweep_report(run_dir)
    elif (run_dir / RESULTS).exists():
        written = write_study_report(run_dir)
    else:
        written = write_run_report(run_dir)
    print(f"Wrote {written}.")
