"""Folders of runs and studies as reports find them, and the words of a page."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


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


def _make_study(folder: Path, **changes: Any) -> Path:
    """A study of two rows and two seeds; the second row has a published number."""
    rows = []
    for name, overrides in (("concat", {}), ("gated", {"model.fusion": {"type": "a.Gated"}})):
        runs = [f"{name}/seed{seed}" for seed in (0, 1)]
        for seed, run in enumerate(runs):
            _make_run(folder / run, name=name, seed=seed)
        cell = {"mean": 0.755, "std": 0.00707, "n": 2, "values": [0.75, 0.76]}
        if overrides:
            cell |= {"mean": 0.655, "values": [0.65, 0.66], "published": 0.7321}
        rows.append(
            {"name": name, "overrides": overrides, "cells": {"test/accuracy": cell}, "runs": runs}
        )
    study = {
        "name": "fusions",
        "title": "Which fusion is best?",
        "command": "mmjax ablate fusions.py --seeds 2",
        "columns": ["test/accuracy"],
        "rows": rows,
        "machine": "a machine",
        "date": "2025-01-01",
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
def words() -> Callable[..., Any]:
    return _words


@pytest.fixture(scope="session")
def write_lines() -> Callable[..., Any]:
    return _write_lines
