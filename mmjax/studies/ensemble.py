"""Ensembles of finished runs: their predictions restored, fused, and measured.

What a fusion is fitted on no member was trained on. Runs of the whole train split are fused by a
fit on `valid`, and what is then reported on `valid` itself is cross-fitted. Runs that leave out
folds of the train split (`selections` with a `Fold`) are fused by a fit on their out-of-fold
predictions for it, which leaves `valid` untouched.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mmjax.errors import ConfigError, RunError, unknown_name
from mmjax.evaluation.metrics import Confusion
from mmjax.fusion.decision import METHODS, out_of_fold
from mmjax.studies.members import Member, Said, open_members, predict
from mmjax.training.restore import Which

CROSS_FIT_FOLDS = 5
COLUMNS = ("test/accuracy", "test/macro_f1", "test/log_loss", "valid/accuracy")


def ensemble(
    run_dirs: Sequence[Path],
    method: str,
    folder: Path | None,
    *,
    which: Which = "best",
    definitions: ModuleType | None = None,
    splits: Sequence[str] = ("valid", "test"),
) -> dict[str, Any]:
    """Fuses the decisions of finished runs.

    Runs without folds are one member each, and what is to be fitted is fitted on `valid`: there a
    checkpoint that `training.monitor` chose looks a little better than it is, for it was chosen
    there. Runs whose configs are equal but for their `Fold` are one member together: it says of a
    train example what the run said that had left it out, and of any other example the mean of what
    its runs say; the fit is on the train examples that its runs were trained on.

    Args:
        run_dirs: of two members or more.
        method: one of `mmjax.fusion.decision.METHODS`.
        folder: the folder of raw data, or None.
        which: the checkpoint of each run; see `restore_run`.
        definitions: a module with dataclasses of the configs that are not mmjax's.
        splits: what to report on.

    Returns:
        `method`; `runs`; `fitted_on`: a split, or nothing; `cross_fitted`: the splits that were
        predicted by fits on other parts of them; `metrics`: `split/accuracy`, `split/macro_f1` and
        `split/log_loss` in nats; `members`: the same metrics of each; `parameters` of the fit.

    Raises:
        ConfigError: for runs that make no ensemble, before any checkpoint is read.
        RunError: for a run that is not finished or is damaged.
    """
    if method not in METHODS:
        raise unknown_name("method of an ensemble", method, METHODS)
    members = open_members(run_dirs, definitions)
    splits = list(dict.fromkeys(splits))
    fused = METHODS[method]()
    fitted_on = ""
    if fused.learns:
        fitted_on = "train" if len(members[0].runs) > 1 else "valid"
    _check_splits(splits, fitted_on, members[0])
    wanted = list(dict.fromkeys([*splits, *filter(None, [fitted_on])]))
    said = [predict(member, wanted, which, folder, definitions) for member in members]
    p = {split: np.stack([each.probabilities[split] for each in said]) for split in wanted}
    labels = {split: _labels(split, members, said) for split in wanted}
    if fitted_on:
        known = np.ones(len(labels[fitted_on]), bool)
        if fitted_on == "train":  # what selections beside the fold leave to all members
            known &= np.logical_and.reduce([each.trained_on for each in said])
        if known.sum() < CROSS_FIT_FOLDS:
            raise ConfigError(
                f"The split {fitted_on!r} has {known.sum()} labelled examples, too few to fit "
                f"the method {method!r} on: choose --method average or product."
            )
        fused.fit(p[fitted_on][:, known], labels[fitted_on][known])
    decided = {
        split: out_of_fold(METHODS[method], p[split], labels[split], CROSS_FIT_FOLDS)
        if split == fitted_on
        else fused.predict(p[split])
        for split in splits
    }
    names = [member.name for member in members]
    return {
        "method": method,
        "runs": [str(run) for run in run_dirs],
        "fitted_on": "train, out of fold" if fitted_on == "train" else fitted_on,
        "cross_fitted": [split for split in splits if split == fitted_on],
        "metrics": _metrics(decided, labels),
        "members": [
            {
                **_where(member),
                "name": member.name,
                "metrics": _metrics({split: each.probabilities[split] for split in splits}, labels),
            }
            for member, each in zip(members, said, strict=True)
        ],
        "parameters": fused.parameters(names),
    }


def print_ensemble(result: Mapping[str, Any]) -> None:
    """Prints a table: each member, and then the ensemble.

    Args:
        result: what `ensemble` returns.
    """
    columns = [name for name in COLUMNS if name in result["metrics"]] or list(result["metrics"])
    fitted = f", fitted on {result['fitted_on']}" if result["fitted_on"] else ""
    table = Table(title=f"Ensemble: {result['method']}{fitted}", title_justify="left")
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    for member in result["members"]:
        table.add_row(member["name"], *(f"{member['metrics'][name]:.4f}" for name in columns))
    table.add_section()
    table.add_row(result["method"], *(f"{result['metrics'][name]:.4f}" for name in columns))
    Console(width=None if Console().is_terminal else 120).print(table)


def _check_splits(splits: Sequence[str], fitted_on: str, member: Member) -> None:
    """Refuses splits that are not there, or on which nothing honest can be reported."""
    data = member.runs[0].experiment.data
    if not splits:
        raise ConfigError("An ensemble reports on one split at least: name 'test'.")
    for split in splits:
        data.check_split(split)
    if "train" in splits:
        raise ConfigError(
            "The members were trained on 'train', so the figures there would mean nothing: name "
            "other splits."
        )
    if fitted_on and fitted_on not in data.splits:
        raise ConfigError(
            f"The data set {data.name!r} has no split {fitted_on!r} to fit the ensemble on: choose "
            "--method average or product, or name runs that leave out folds."
        )


def _labels(split: str, members: Sequence[Member], said: Sequence[Said]) -> np.ndarray:
    """The labels of a split, which all members have to have read alike."""
    for member, each in zip(members, said, strict=True):
        if not np.array_equal(each.labels[split], said[0].labels[split]):
            raise RunError(
                f"The members {members[0].name} and {member.name} find other labels in the split "
                f"{split!r}: leave the data as it is while an ensemble is made."
            )
    return said[0].labels[split]


def _where(member: Member) -> dict[str, Any]:
    paths = [str(run.path) for run in member.runs]
    return {"runs": paths} if len(paths) > 1 else {"run": paths[0]}


def _metrics(
    probabilities: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Accuracy, macro F1 and log loss of each split."""
    metrics = {}
    for split, p in probabilities.items():
        y = labels[split]
        confusion = Confusion.of(y, np.argmax(p, axis=1), p.shape[1])
        # What is rounded to 0 counts as the smallest number that is not: the loss stays finite.
        chosen = np.maximum(p[np.arange(len(y)), y], np.finfo(np.float64).tiny)
        metrics[f"{split}/accuracy"] = confusion.accuracy
        metrics[f"{split}/macro_f1"] = confusion.macro.f1
        metrics[f"{split}/log_loss"] = float(-np.log(chosen).mean())
    return metrics
