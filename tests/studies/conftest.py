"""Folders of runs and studies as reports find them, and the words of a page."""

import html
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmjax.studies.statistics import confidence_interval


def _make_run(folder: Path, *, name: str = "digits", seed: int = 0, **result: Any) -> Path:
    """A finished run of 400 steps, evaluated every 100."""
    folder.mkdir(parents=True)
    fusion = {"type": "mmjax.fusion.concat.Concat", "width": 64}
    config = {
        "name": name,
        "model": {"type": "mmjax.models.FusionModel", "fusion": fusion},
        "objectives": [{"type": "mmjax.objectives.CrossEntropy", "weight": 1.0}],
        "training": {"steps": 400, "seed": seed},
        "evaluation": [],
    }
    environment = {
        "versions": {"jax": "0.10.2"},
        "devices": ["TestDevice"],
        "command": f"mmjax train digits.py --seed {seed}",
        "data": {"digits.npy": "60303ae22b99"},
    }
    lines: list[dict[str, Any]] = []
    for step in range(2, 401, 2):
        lines.append(
            {"step": step, "train/loss": 2.0 / step, "train/gradient_norm": 1.0 + step % 7}
        )
        if step % 100 == 0:
            lines.append({"step": step, "valid/loss": 3.0 / step, "valid/accuracy": step / 500})
    timing = [
        {"step": s, "examples_per_second": 900.0 + s, "step_ms": 5.0} for s in (100, 200, 300)
    ]
    outcome = {
        "name": name,
        "metrics": {"valid/accuracy": 0.8, "test/loss": 0.5, "test/accuracy": 0.75 + seed / 100},
        "steps": 400,
        "seconds": 75.0,
        "seed": seed,
        "directions": {},
        "details": {"test/confusion": [[9, 1], [3, 7]]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps(environment))
    _write_lines(folder / "metrics.jsonl", lines)
    _write_lines(folder / "timing.jsonl", timing)
    (folder / "result.json").write_text(json.dumps(outcome | result))
    return folder


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _make_cell(*values: float | None, **published: Any) -> dict[str, Any]:
    """What a row's seeds gave in one metric, and the published number beside it, if any."""
    known = [value for value in values if value is not None]
    cell: dict[str, Any] = {
        "values": list(values),
        "n": len(known),
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
        "interval": confidence_interval(known),
    }
    if published:
        cell["published"] = {
            "source": "Doe 2020, Table 2",
            "certainty": "unverified",
            "std": None,
            "runs": 0,
            "difference": None if not known else cell["mean"] - published["value"],
            "verdict": "no verdict",
            "reason": "There is a reason.",
        } | published
    return cell


def _make_row(name: str, cells: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A row of `results.json` whose cells have no run directory."""
    seeds = list(range(len(next(iter(cells.values()))["values"]))) if cells else []
    row = {
        "name": name,
        "overrides": {},
        "after": "",
        "seeds": seeds,
        "runs": [f"{name}/seed{seed}" for seed in seeds],
        "failed": [],
        "cells": cells,
    }
    return row | changes


def _make_study(folder: Path, **changes: Any) -> Path:
    """A study of two rows and two seeds; the second row has a published number, a stage, too."""
    for name in ("concat", "gated"):
        for seed in (0, 1):
            _make_run(folder / name / f"seed{seed}", name=name, seed=seed)
    published = {"value": 0.7321, "verdict": "worse", "reason": "It lies outside the interval."}
    gated = {
        "test/accuracy": _make_cell(0.65, 0.67, **published),
        "test/loss": _make_cell(0.75, 0.71),
    }
    concat = {"test/accuracy": _make_cell(0.75, 0.76), "test/loss": _make_cell(0.51, 0.49)}
    overrides = {"model.fusion": {"type": "a.Gated"}}
    test = {"a": "concat", "b": "gated", "n": 2, "difference": 0.095}
    study = {
        "schema": 3,
        "name": "fusions",
        "title": "Which fusion is best?",
        "command": "mmjax ablate fusions.py --seeds 2",
        "date": "2025-01-01",
        "machine": "a machine",
        "commits": ["abc1234"],
        "versions": {"jax": ["0.10.2"]},
        "data": [{"rows": ["concat", "gated"], "hashes": {"digits.npy": "60303ae22b99"}}],
        "columns": ["test/accuracy", "test/loss"],
        "shown": ["test/accuracy"],
        "directions": {},
        "baseline": "",
        "rows": [
            _make_row("concat", concat),
            _make_row("gated", gated, overrides=overrides, after="concat"),
        ],
        "tests": {
            "test/accuracy": [
                test | {"interval": [0.0315, 0.1585], "p": 0.0335, "p_corrected": 0.0335}
            ]
        },
        "notes": ["A note of the study."],
    }
    (folder / "results.json").write_text(json.dumps(study | changes))
    return folder


def _words(path: Path) -> str:
    """The text of a page that a reader sees, without its styles, scripts and tags."""
    page = re.sub(r"<(style|script)>.*?</\1>", "", path.read_text(), flags=re.DOTALL)
    page = page.replace("<wbr>", "")
    page = re.sub(r"<title>.*?</title>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Any]:
    return _make_run


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Any]:
    return _make_study


@pytest.fixture(scope="session")
def make_cell() -> Callable[..., Any]:
    return _make_cell


@pytest.fixture(scope="session")
def make_row() -> Callable[..., Any]:
    return _make_row


@pytest.fixture(scope="session")
def words() -> Callable[..., Any]:
    return _words


@pytest.fixture(scope="session")
def write_lines() -> Callable[..., Any]:
    return _write_lines
