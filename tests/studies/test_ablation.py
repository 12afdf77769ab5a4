"""Studies in processes: killed and continued, with cells that fail, and refused before any runs.

The command runs in the process of the tests, where nothing has to kill it; its checks and cells run
in processes of their own.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import pytest

from mmjax.cli import main

GRID = '''
"""A grid, as small as it gets."""

from mmjax.data import DigitsHalves
from mmjax.encoders import MLP
from mmjax.evaluation import Classification
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.studies import Published, Stage, Study
from mmjax.training import SGD, Experiment, Training

experiment = Experiment(
    name="grid",
    data=DigitsHalves(),
    model=FusionModel({view: MLP(hidden=(8,), width=4) for view in ("left", "right")}),
    objectives=(CrossEntropy(),),
    training=Training(steps=12, batch_size=32, log_every=1, save_every=3),
    evaluation=(Classification(),),
)
study = Study(
    rows={"both": {}, "left": {"model.modalities": ("left",)}, ROWS},
    columns=("test/accuracy",),
    published={"left": {"test/accuracy": Published(0.9, "Doe 2020, Table 1")}},
    seeds=2,
)
'''
STAGE = '"left, longer": Stage("left", {"model.modalities": ("left",), "training.steps": 4})'
TABLES = ("results.json", "table.md", "table.csv", "report.html")


@pytest.fixture(autouse=True)
def compiled(monkeypatch):
    """What the cells compile is kept from one run of the tests to the next, as in `conftest.py`."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


@pytest.fixture
def ablate(tmp_path, monkeypatch, capsys):
    """Writes the grid, and runs `mmjax ablate` in its folder; gives status, output and errors."""

    def run(*words, rows="", name="a"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "grid.py").write_text(GRID.replace("ROWS", rows))
        monkeypatch.chdir(folder)
        capsys.readouterr()
        code = main(["ablate", "grid.py", "--run-dir", "study", *words])
        return code, *capsys.readouterr()

    return run


def tables(folder: Path) -> dict[str, str]:
    """The tables, but for the day on which the study was begun."""
    contents = {name: (folder / "study" / name).read_text() for name in TABLES}
    return {name: re.sub(r"\d{4}-\d\d-\d\d", "DAY", text) for name, text in contents.items()}


@pytest.mark.slow
def test_a_study_that_was_killed_ends_with_the_same_tables(tmp_path, ablate):
    begun = time.monotonic()
    # Two rows at a time, and one that starts from the second of them.
    words = ("--jobs", "2", "--rows", "both,left, longer", "--seeds", "1")
    code, out, err = ablate(*words, rows=STAGE, name="undisturbed")
    assert code == 0, err
    assert "3 cells, 3 to run, 2 at a time" in out
    assert "[3/3]" in out
    took = time.monotonic() - begun

    (tmp_path / "killed").mkdir()
    (tmp_path / "killed/grid.py").write_text(GRID.replace("ROWS", STAGE))
    command = [sys.executable, "-m", "mmjax.cli", "ablate", "grid.py", "--run-dir", "study", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    killed = subprocess.Popen(command, cwd=tmp_path / "killed", **pipes)
    next((line for line in killed.stdout if " to run, " in line), "")
    moment = random.uniform(0.0, 0.8) * took  # after the first cells have begun
    time.sleep(moment)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    code, _, err = ablate(*words, rows=STAGE, name="killed")
    assert code == 0, err
    assert tables(tmp_path / "killed") == tables(tmp_path / "undisturbed"), moment
    for path in (tmp_path / "undisturbed/study").rglob("metrics.jsonl"):
        twin = tmp_path / "killed/study" / path.relative_to(tmp_path / "undisturbed/study")
        assert twin.read_bytes() == path.read_bytes(), moment


@pytest.mark.slow
def test_a_cell_that_fails_is_recorded_and_the_others_run_on(tmp_path, ablate):
    rows = '"steep": {"optimizer": SGD(1e30)}, "on it": Stage("steep")'
    words = ("--jobs", "2", "--seeds", "1", "--rows", "left,on it")
    code, out, err = ablate(*words, rows=rows)
    study = tmp_path / "a/study"
    assert code == 1
    assert err.startswith("mmjax: The cell steep/seed0 failed, and 1 more failed: The ")
    assert err.count("\n") == 1
    assert "steep, seed 0: failed: The " in out
    found = {row["name"]: row for row in json.loads((study / "results.json").read_text())["rows"]}
    assert [len(row["runs"]) for row in found.values()] == [1, 0, 0]
    assert "is not finite" in found["steep"]["failed"][0]["reason"]
    assert found["on it"]["failed"][0]["reason"] == (
        "The run that it starts from, 'steep/seed0', failed."
    )
    for name in ("table.md", "report.html"):
        assert "of step 2 is not finite" in (study / name).read_text()
    # A failed cell is tried again, and the rest is not.
    code, out, err = ablate(*words, "--dry-run", rows=rows)
    assert code == 0, err
    assert "left/seed0: finished\n" in out
    assert "steep/seed0: to run again; it failed: The " in out
    assert re.search(r"3 cells, 2 to run, about .* of training with --jobs 2", out)


@pytest.mark.slow
def test_sigterm_saves_and_says_how_to_go_on(tmp_path, ablate):
    study, over = tmp_path / "a/study", threading.Event()

    def terminate():
        while not over.wait(0.05):
            if (study / "both/seed0/metrics.jsonl").exists():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    threading.Thread(target=terminate).start()
    try:
        code, _, err = ablate("--seeds", "1", "--training.steps", "1000000")
    finally:
        over.set()
    assert code == 1
    assert err.startswith("mmjax: Stopped by SIGTERM with 2 of 2 cells unfinished; what is done is")
    assert [path.name for path in (study / "both/seed0/checkpoints").iterdir()]
    assert not (study / "left").exists()


@pytest.mark.parametrize(
    ("words", "rows", "sentence"),
    [
        (
            ("--training.batch-size", "5000"),
            "",
            "Row 'both': training.batch_size is 5000, but the train split",
        ),
        pytest.param(
            ("--rows", "both after it"),
            '"both after it": Stage("left")',
            "Row 'both after it': The row 'left' that it starts from is of another model "
            "(parameter encoders.right",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_cell(tmp_path, ablate, words, rows, sentence):
    code, _, err = ablate(*words, rows=rows)
    assert code == 2
    assert err.startswith(f"mmjax: {sentence}")
    assert err.count("\n") == 1
    assert os.listdir(tmp_path / "a") == ["grid.py"]
