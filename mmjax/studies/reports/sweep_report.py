"""The report of a sweep: one `report.html` from its `sweep.json`."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from mmjax.studies.files import damaged, read_json, shape_error
from mmjax.studies.reports.charts import many_decades
from mmjax.studies.reports.drawing import Number, number
from mmjax.studies.reports.run_files import read_run
from mmjax.studies.reports.run_report import write_page, write_report_of
from mmjax.studies.reports.sweep_charts import Dot, bar_chart, scatter_chart

SUMMARY, REPORT = "sweep.json", "report.html"
FEWEST = 10  # complete trials, before the importance of the parameters is estimated
TESTS = 3  # metrics of `test` on the page's cards

# The shape of `sweep.json`; see `shape_error`.
_NUMBER, _MAYBE = (int, float), (int, float, NoneType)
_TRIAL = {
    **dict.fromkeys(("state", "reason", "run"), str),
    **dict.fromkeys(("value", "seconds"), _MAYBE),
    "number": int,
    "parameters": {str: object},
    "last_step": (int, NoneType),
}
_BEST = {
    "number": int,
    "value": _NUMBER,
    "parameters": {str: object},
    "overrides": [str],
    "by_file": [str],
    "file": str,
    "test": ({str: _MAYBE}, NoneType),
}
_RANGE = (
    {"type": str, "low": _NUMBER, "high": _NUMBER, "log?": object},
    {"type": str, "options": ([object], {str: object})},
)
_SUMMARY = {
    **dict.fromkeys(("name", "command", "date", "metric", "direction"), str),
    "asked": int,
    "space": {str: _RANGE},
    "trials": [_TRIAL],
    "importance": {str: _NUMBER},
    "best": (_BEST, NoneType),
    "tested": [{"number": int, "trials": int, "test": {str: _MAYBE}}],
    "notes": [str],
}
FIX = "run the sweep's command again, which writes it again"


def write_sweep_report(sweep_dir: Path) -> Path:
    """Writes `report.html` into the directory of a sweep, finished or not.

    Args:
        sweep_dir: that `mmjax sweep` made.

    Returns:
        The path of the report.

    Raises:
        RunError: where `sweep.json` is missing or damaged, or the report cannot be written.
    """
    summary = read_json(sweep_dir / SUMMARY, _SUMMARY, FIX)
    if wrong := _contradiction(summary):
        raise damaged(sweep_dir / SUMMARY, wrong, FIX)
    for trial in summary["trials"]:
        run = sweep_dir / trial["run"]
        ended = trial["state"] in ("complete", "pruned")
        if ended and (run / "environment.json").exists() and not (run / REPORT).exists():
            write_report_of(read_run(run), f"trial {trial['number']}", f"../../{REPORT}")
    return write_page(sweep_dir / REPORT, "sweep.html", _page(summary, sweep_dir))


def _contradiction(summary: Mapping[str, Any]) -> str:
    """What is inconsistent in a summary of the right shape; empty where nothing is."""
    for place, trial in enumerate(summary["trials"]):
        if trial["number"] != place:
            return f"trial {place} has the number {trial['number']}"
        if trial["parameters"].keys() != summary["space"].keys():
            return f"trial {place} has other parameters than the space"
        for name, value in trial["parameters"].items():
            options = summary["space"][name].get("options")
            if (
                str(value) not in map(str, options)
                if options
                else shape_error(value, _NUMBER, name)
            ):
                return f"{name!r} of trial {place} is not in its range"
    best = summary["best"]
    there = not best or 0 <= best["number"] < len(summary["trials"])
    return "" if there else "its best trial is not among its trials"


def _page(summary: Mapping[str, Any], sweep_dir: Path) -> dict[str, Any]:
    trials, best = summary["trials"], summary["best"]
    states = [trial["state"] for trial in trials]
    ended = len(states) - states.count("running")
    counts = {
        name: states.count(state)
        for state, name in (("pruned", "stopped early"), ("failed", "failed"), ("running", "left"))
    }
    spent = sum(trial["seconds"] or 0.0 for trial in trials)
    tests = [
        (name, math.nan if value is None else value)
        for name, value in ((best or {}).get("test") or {}).items()
    ]
    tests.sort(key=lambda each: each[0] != f"test/{summary['metric']}")
    return {
        "name": summary["name"],
        "metric": summary["metric"],
        "direction": summary["direction"],
        "facts": [
            ("trials", number(len(trials))),
            *((name, number(count)) for name, count in counts.items() if count),
            ("training in all", f"{number(spent / 60, 3)} min"),
            ("date", summary["date"]),
        ],
        "notes": summary["notes"],
        "finished": ended >= summary["asked"],
        "best": {**best, "link": _link(sweep_dir, trials[best["number"]])} if best else None,
        "tests": tests[:TESTS],
        "tested": len(summary["tested"]),
        "file": shlex.quote(best["file"]) if best else "",
        "words": shlex.join(best["overrides"]) if best else "",
        "importance": summary["importance"]
        and bar_chart(summary["importance"], label="importance of each parameter"),
        "fewest": FEWEST,
        "complete": states.count("complete"),
        "charts": _charts(summary),
        "trials": [{**trial, "link": _link(sweep_dir, trial)} for trial in trials],
        "names": list(summary["space"]),
        "command": summary["command"],
    }


def _charts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(title, chart): value by trial, and by each parameter."""
    trials = [trial for trial in summary["trials"] if trial["value"] is not None]
    metric, best = f"valid/{summary['metric']}", summary["best"]
    values = [trial["value"] for trial in trials if trial["state"] == "complete"]
    log = many_decades(values)

    def dots(x: Sequence[Number]) -> list[Dot]:
        found = [
            Dot(at, trial["value"], _kind(trial, best), _hover(trial, metric))
            for at, trial in zip(x, trials, strict=True)
        ]
        return sorted(found, key=lambda dot: ("pruned", "complete", "best").index(dot.kind))

    so_far: list[tuple[Number, Number]] = []
    better = max if summary["direction"] == "max" else min
    for trial in trials:
        if trial["state"] == "complete":
            before = [so_far[-1][1]] if so_far else []
            so_far.append((trial["number"], better([*before, trial["value"]])))
    last = max(len(summary["trials"]) - 1, 1)
    charts = [
        (
            f"{metric} by trial",
            scatter_chart(
                dots([trial["number"] for trial in trials]),
                label=f"{metric} by trial",
                x_label="trial",
                x_range=(0, last),
                log_y=log,
                line=so_far,
            ),
        )
    ]
    for name, each in summary["space"].items():
        options = [str(option) for option in each.get("options", ())]
        x = [trial["parameters"][name] for trial in trials]
        chart = scatter_chart(
            dots([options.index(str(value)) for value in x] if options else x),
            label=f"{metric} by {name}",
            x_label=name,
            x_range=None if options else (each["low"], each["high"]),
            names=options,
            log_x=bool(each.get("log")) or str(each["type"]).endswith(".LogUniform"),
            log_y=log,
        )
        charts.append((name, chart))
    return charts


def _kind(trial: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    if best and trial["number"] == best["number"]:
        return "best"
    return "complete" if trial["state"] == "complete" else "pruned"


def _hover(trial: Mapping[str, Any], metric: str) -> str:
    """The hover text of a dot."""
    early = f", stopped at step {trial['last_step']:,}" if trial["state"] == "pruned" else ""
    lines = [f"trial {trial['number']}: {metric} {number(trial['value'])}{early}"]
    for name, value in trial["parameters"].items():
        lines.append(f"{name} {number(value) if isinstance(value, float) else value}")
    return "\n".join(lines)


def _link(sweep_dir: Path, trial: Mapping[str, Any]) -> str:
    """The report of a trial, or its directory; empty before it begins."""
    for name in (f"{trial['run']}/{REPORT}", f"{trial['run']}/"):
        if (sweep_dir / name).exists():
            return name
    return ""
