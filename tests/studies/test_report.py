"""The reports: what they show, that nothing leaves them, and folders that are damaged."""

import html
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mmjax.errors import RunError
from mmjax.studies.charts import Dots, Series, axis_ticks, dot_chart, line_chart, number
from mmjax.studies.report import write_run_report, write_study_report

EVIL = "<script>alert('x')</script>"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


def make_run(folder: Path, *, name: str = "digits", seed: int = 0, **result: Any) -> Path:
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
    write_lines(folder / "metrics.jsonl", lines)
    write_lines(folder / "timing.jsonl", timing)
    (folder / "result.json").write_text(json.dumps(outcome | result))
    return folder


def write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def make_study(folder: Path, **changes: Any) -> Path:
    """A study of two rows and two seeds; the second row has a published number."""
    rows = []
    for name, overrides in (("concat", {}), ("gated", {"model.fusion": {"type": "a.Gated"}})):
        runs = [f"{name}/seed{seed}" for seed in (0, 1)]
        for seed, run in enumerate(runs):
            make_run(folder / run, name=name, seed=seed)
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


def words(path: Path) -> str:
    """The text of a page that a reader sees, without its styles, scripts and tags."""
    page = re.sub(r"<(style|script)>.*?</\1>", "", path.read_text(), flags=re.DOTALL)
    page = re.sub(r"<title>.*?</title>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


# A run


def test_run_report_shows_everything(tmp_path):
    path = write_run_report(make_run(tmp_path / "run"))
    assert path == tmp_path / "run" / "report.html"
    text = words(path)
    for expected in (
        "time 1 min 15 s",
        "device TestDevice",
        "0.7500 test/ accuracy",  # first card
        "accuracy 0.7500 0.8000",  # the table: test, then valid
        "valid accuracy",  # charts: of one split, and of both
        "train valid",
        "examples/s",
        "mmjax train digits.py --seed 0",
        "fusion Concat",
        "jax 0.10.2",
        "digits.npy 60303ae22b99",
        "0 0.7500 0.9000 0.8182 10",  # class 0: precision, recall, F1, examples
    ):
        assert expected in text
    assert "unfinished" not in text
    assert "true 1, predicted 0: 3 (30.0 %)" in path.read_text()
    assert "step 200\ntrain: 0.01" in path.read_text()  # hover


@pytest.mark.parametrize("kind", ["run", "study"])
def test_nothing_leaves_the_file(tmp_path, kind):
    if kind == "run":
        page = write_run_report(make_run(tmp_path / "run", name="https://example.org/")).read_text()
    else:
        page = write_study_report(make_study(tmp_path)).read_text()
    assert not re.search(r"<(link|img|iframe|object|embed|audio|video|image|use)\b", page)
    assert not re.search(r"(src|srcset|xlink:href|action)\s*=|url\(|@import|@font-face", page)
    assert all(link.startswith("./") for link in re.findall(r'href="([^"]*)"', page))
    assert "default-src 'none'" in page  # and a browser would refuse anything else
    assert str(tmp_path) not in page


def test_every_text_is_escaped(tmp_path):
    run = make_run(tmp_path / "run", name=EVIL)
    environment = {EVIL: EVIL, "command": EVIL, "data": {EVIL: EVIL}, "devices": [EVIL]}
    (run / "environment.json").write_text(json.dumps(environment))
    (run / "config.json").write_text(json.dumps({"name": EVIL, EVIL: {"type": EVIL, "a": EVIL}}))
    write_lines(run / "metrics.jsonl", [{"step": 1, f"train/{EVIL}": 1.0, f"{EVIL}/loss": 2.0}])
    result = {"metrics": {EVIL: 1.0}, "seed": EVIL}
    details = {f"test/{EVIL}": [{EVIL: EVIL}], "a/confusion": [[1]], "a/classes": [EVIL]}
    (run / "result.json").write_text(json.dumps(result | {"details": details}))
    assert write_run_report(run).read_text().count("<script") == 1  # our own

    folder = make_study(tmp_path / "study", name=EVIL, title=EVIL, command=EVIL, machine=EVIL)
    study = json.loads((folder / "results.json").read_text())
    study["rows"][0] |= {"name": EVIL, "overrides": {EVIL: EVIL}, "runs": [EVIL, "javascript:x"]}
    (folder / "results.json").write_text(json.dumps(study))
    page = write_study_report(folder).read_text()
    assert page.count("<script") == 1
    assert 'href="javascript' not in page


def test_unfinished_run_is_reported(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "result.json").unlink()
    (run / "timing.jsonl").unlink()
    text = words(write_run_report(run))
    assert "This run is unfinished. Its last line is of step 400 of 400" in text
    assert "0.8000 valid/ accuracy" in text


def test_run_killed_before_its_first_line(tmp_path):
    run = make_run(tmp_path / "run")
    (run / "result.json").unlink()
    (run / "metrics.jsonl").write_text("")
    assert "No metric was written yet" in words(write_run_report(run))


def test_last_line_cut_in_half_is_left_out_and_said(tmp_path):
    run = make_run(tmp_path / "run")
    with (run / "metrics.jsonl").open("ab") as file:
        file.write('{"step": 31337, "train/lössss'.encode()[:-5])  # within a character
    text = words(write_run_report(run))
    assert "The last line of metrics.jsonl was cut off" in text
    assert "31,337" not in text


def test_a_step_written_twice_counts_once(tmp_path):
    # A resumed run writes the steps after its checkpoint again.
    run = make_run(tmp_path / "run")
    write_lines(run / "metrics.jsonl", [{"step": s, "train/loss": v} for s, v in ((1, 7), (1, 5))])
    page = write_run_report(run).read_text()
    assert "train: 5.000" in page
    assert "train: 7.000" not in page


def test_values_that_are_not_finite_are_said_and_leave_gaps(tmp_path):
    run = make_run(tmp_path / "run", metrics={"test/loss": math.nan, "test/accuracy": None})
    values = [0.5, math.nan, 0.4, None, math.inf, 0.3]
    write_lines(
        run / "metrics.jsonl",
        [{"step": i, "train/loss": v, "train/never": math.nan} for i, v in enumerate(values)],
    )
    path = write_run_report(run)
    text = words(path)
    assert "Not finite, and left out of the charts: 9 values of metrics.jsonl" in text
    assert "first train/loss at step 1" not in text  # `never` is not finite from step 0 on
    assert "first train/never at step 0" in text
    assert "No finite value to draw" in text
    assert "not finite test/ loss" in text
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*[ ,]', path.read_text())


@pytest.mark.parametrize("name", ["config.json", "environment.json", "metrics.jsonl"])
def test_missing_file_is_named(tmp_path, name):
    run = make_run(tmp_path / "run")
    (run / name).unlink()
    with pytest.raises(RunError, match=f"{name} is missing"):
        write_run_report(run)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("config.json", '{"name": ', r"config.json is damaged \(it is not JSON\)"),
        ("config.json", "\xff", "config.json is damaged"),
        ("environment.json", "[]", "environment.json is damaged"),
        ("result.json", "{}", "result.json is damaged"),
        ("metrics.jsonl", '{"step": 1}\n{"st\n{"step": 2}\n', "metrics.jsonl is damaged: line 2"),
        ("metrics.jsonl", '{"train/loss": 1}\n', "metrics.jsonl is damaged: line 1"),
        ("timing.jsonl", "7\n", "timing.jsonl is damaged: line 1"),
    ],
)
def test_damaged_file_is_named(tmp_path, name, content, sentence):
    run = make_run(tmp_path / "run")
    (run / name).write_text(content, encoding="latin-1")
    with pytest.raises(RunError, match=sentence):
        write_run_report(run)


def test_many_classes_become_a_list_of_mistakes(tmp_path):
    counts = [[20 if i == j else 0 for j in range(40)] for i in range(40)]
    counts[3][5] = 5
    run = make_run(tmp_path / "run", details={"test/confusion": counts})
    assert "the most frequent mistakes true predicted examples share 3 5 5 0.2000" in words(
        write_run_report(run)
    )


# A study


def test_study_report_shows_everything(tmp_path):
    path = write_study_report(make_study(tmp_path))
    text = words(path)
    for expected in (
        "Which fusion is best?",
        "0.7550 ± 0.0071",
        "0.6550 ± 0.0071 published 0.7321",
        "the diamond the published number",
        "valid/accuracy",
        "model.fusion = Gated()",
        "concat as in the experiment file",
        "mmjax ablate fusions.py --seeds 2",
        "machine a machine",
    ):
        assert expected in text
    page = path.read_text()
    assert page.count('class="seed"') == 4
    assert 'href="./concat/seed0/"' in page
    write_run_report(tmp_path / "concat/seed0")
    assert 'href="./concat/seed0/report.html"' in write_study_report(tmp_path).read_text()


def test_study_names_runs_that_it_cannot_read(tmp_path):
    folder = make_study(tmp_path)
    shutil.rmtree(folder / "gated/seed1")
    text = words(write_study_report(folder))
    assert "leave out a run: gated/seed1/config.json is missing" in text


def test_study_with_missing_cells(tmp_path):
    nothing = {"mean": None, "std": None, "n": 0, "values": [None]}
    single = {"mean": 0.5, "std": None, "n": 1, "values": [0.5]}
    rows = [
        {"name": "a", "cells": {"test/x": single}},
        {"name": "b", "cells": {"test/x": nothing}},
        {"name": "c", "cells": {}},
    ]
    text = words(write_study_report(make_study(tmp_path, rows=rows, columns=["test/x"])))
    assert "a 0.5000 1 b – 0 c – 0" in text


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"rows": None}, "not a study's results"), ({"rows": [{}]}, "not a study's results")],
)
def test_damaged_study_is_named(tmp_path, changes, sentence):
    with pytest.raises(RunError, match=sentence):
        write_study_report(make_study(tmp_path, **changes))


def test_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(RunError, match=r"results\.json is missing"):
        write_study_report(tmp_path)


# Charts


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-7, 12, [-5, 0, 5, 10]), (0.301, 0.302, None)],
)
def test_ticks_are_round_and_within(low, high, ticks):
    found = axis_ticks(low, high)
    assert ticks is None or found == pytest.approx(ticks)
    assert 3 <= len(found) <= 9
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in found)


def test_number():
    shown = [number(value) for value in (12000, 0.972, 1.0, -3.1e-5, 41542.3, math.nan)]
    assert shown == ["12,000", "0.9720", "1.000", "−3.100e−05", "41,542", "not finite"]


def test_long_curves_are_thinned_to_means_with_a_band():
    noisy = Series("a", range(10_000), [float(i % 2) for i in range(10_000)]).thinned()
    assert len(noisy.x) <= 160
    assert set(noisy.low) == {0.0}
    assert set(noisy.high) == {1.0}
    assert all(0.4 < y < 0.6 for y in noisy.y)


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [0.0, 0.0], [1e-30, 1e30], [1e308, -1e308]])
def test_extreme_values_draw_within_the_frame(values):
    x = list(range(len(values)))
    for chart in (
        line_chart([Series("a", x, values)], label="a"),
        dot_chart([Dots("a", values, values[0], 0.0)], label="a"),
    ):
        numbers = [float(n) for n in re.findall(r'(?:cx|cy|x|y)="(-?[\d.]+)"', chart)]
        assert all(-1 <= n <= 400 for n in numbers)
        assert "nan" not in chart


# A browser


@pytest.mark.skipif(CHROMIUM is None, reason="No chromium was found, so no browser drew the page.")
@pytest.mark.parametrize("kind", ["run", "study"])
def test_browser_draws_it_on_a_phone(tmp_path, kind):
    """At 380 px nothing overflows, no script fails, nothing is fetched, and tables sort."""
    if kind == "run":
        report = write_run_report(make_run(tmp_path / "run", name="a_long_name_" * 9))
    else:
        report = write_study_report(make_study(tmp_path))
    listen = (
        "<script>window.faults = [];"
        "for (const kind of ['error', 'securitypolicyviolation'])"
        " addEventListener(kind, (e) => faults.push(e.message || e.blockedURI), true);</script>"
    )
    page = report.read_text().replace("<head>", "<head>" + listen)
    probe = """<script>addEventListener("load", () => {
      const frame = document.querySelector("iframe").contentWindow, page = frame.document;
      const column = () => [...page.querySelectorAll(".sortable tbody tr")].map(
        (row) => row.cells[1].dataset.value).slice(0, 2).join(" ");
      const head = page.querySelectorAll(".sortable th")[1];
      head.click(); const down = column(); head.click(); const up = column();
      const width = page.documentElement.scrollWidth;
      document.body.textContent = JSON.stringify({width, faults: frame.faults, down, up});
    });</script>"""
    # A window cannot be 380 px wide, a frame can.
    frame = (
        f'<iframe style="width:380px;height:900px;border:0" srcdoc="{html.escape(page)}"></iframe>'
    )
    (tmp_path / "probe.html").write_text(f"<!doctype html><body>{frame}{probe}</body>")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
        (tmp_path / "probe.html").as_uri(),
    ]  # fmt: skip
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    seen = json.loads(html.unescape(re.search(r"\{.*\}", dom)[0]))
    assert seen["faults"] == []
    assert seen["width"] <= 380
    ordered = {"run": ("0.75 0.5", "0.5 0.75"), "study": ("0.755 0.655", "0.655 0.755")}[kind]
    assert (seen["down"], seen["up"]) == ordered
