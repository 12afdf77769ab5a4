"""Reads the files of a run directory for the reports.

What a file lacks or what was cut off becomes a note; what is damaged is an error that names it.
Numbers are read as they are: what is not finite is counted, and the charts leave it out.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmjax.studies.files import damaged, read_bytes, read_json

RESTORE = "restore it, or run again"
CHECK = "check that the folder is one of a run"

Curves = dict[str, dict[float, float]]  # metric name -> step -> value


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """The files of a run directory; `notes` are sentences about what is missing or not finite."""

    folder: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    result: Mapping[str, Any] | None
    metrics: Curves
    timing: Curves
    notes: tuple[str, ...]

    @property
    def last_step(self) -> int:
        """The last step of which a metric or a time was written; 0 where none was."""
        curves = [*self.metrics.values(), *self.timing.values()]
        return int(max((step for curve in curves for step in curve), default=0))


def read_run(run_dir: Path) -> RunFiles:
    """Reads a run directory, finished or not.

    Args:
        run_dir: a folder with `config.json`, `environment.json` and `metrics.jsonl`, and where the
            run got so far `timing.jsonl` and `result.json`.

    Raises:
        RunError: if a file is missing or damaged.
    """
    notes = []
    curves: list[Curves] = []
    config = read_json(run_dir / "config.json", {}, RESTORE, CHECK, nan=True)
    environment = read_json(run_dir / "environment.json", {}, RESTORE, CHECK, nan=True)
    for name, needed in (("metrics.jsonl", True), ("timing.jsonl", False)):
        lines, cut = (
            _read_lines(run_dir / name) if needed or (run_dir / name).exists() else ([], False)
        )
        if cut:
            notes.append(
                f"The last line of {name} was cut off when the run was stopped; it is left out."
            )
        curves.append(_curves(lines))
        broken = [
            (s, key) for key, c in curves[-1].items() for s, v in c.items() if not math.isfinite(v)
        ]
        if broken:
            step, key = min(broken)
            what = "1 value" if len(broken) == 1 else f"{len(broken):,} values"
            notes.append(
                f"Not finite, and left out of the charts: {what} of {name}, "
                f"first {key} at step {int(step):,}."
            )
    path = run_dir / "result.json"
    result = read_json(path, {"metrics": dict}, RESTORE, nan=True) if path.exists() else None
    return RunFiles(run_dir, config, environment, result, curves[0], curves[1], tuple(notes))


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The objects of a JSON-lines file, and whether a last line was cut in half and left out."""
    *complete, rest = read_bytes(path, CHECK).split(b"\n")
    lines: list[dict[str, Any]] = []
    for index, line in enumerate([*complete, rest], start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            float(value["step"])
        except (ValueError, TypeError, KeyError):
            if index > len(complete):
                return lines, True
            reason = f"line {index} is not a JSON object with a step"
            raise damaged(path, reason, "remove that line, or run again") from None
        lines.append(value)
    return lines, False


def _curves(lines: Sequence[Mapping[str, Any]]) -> Curves:
    """Metric name -> step -> value, by ascending step; of a step written twice the later counts."""
    curves: Curves = {}
    for line in sorted(lines, key=lambda line: float(line["step"])):
        for name, value in line.items():
            if name != "step" and not isinstance(value, (str, list, dict, bool)):
                curves.setdefault(name, {})[float(line["step"])] = number_or_nan(value)
    return curves


def number_or_nan(value: Any) -> float:
    """A JSON value as a float; NaN where it is not a number."""
    return float(value) if isinstance(value, (int, float)) else math.nan


def setting(config: Mapping[str, Any], *path: str) -> Any:
    """A nested value of a config; None where it is not there."""
    value: Any = config
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
