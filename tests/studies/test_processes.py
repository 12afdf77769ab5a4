"""Processes of a study: their last words, the time that they take, and that none is left behind."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mmjax.data import DigitsHalves
from mmjax.encoders import MLP
from mmjax.errors import ConfigError, RunError
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.studies import Study
from mmjax.studies.processes import Launch, check_experiments
from mmjax.studies.rows import Cell, rows_of
from mmjax.studies.study_progress import estimate
from mmjax.training import Experiment, Training
from mmjax.training.loop import Interrupted

EXPERIMENT = Experiment(
    name="grid",
    data=DigitsHalves(),
    model=FusionModel({"left": MLP(hidden=(8,), width=4)}),
    objectives=(CrossEntropy(),),
    training=Training(steps=4, batch_size=32),
)


@dataclasses.dataclass(frozen=True)
class Coded(Launch):
    """Starts a process with code of ours, in the place of one that checks."""

    code: str = ""

    def words(self, *what: str) -> list[str]:
        return [sys.executable, "-c", self.code, *what]


@pytest.mark.parametrize(
    ("code", "error", "sentence"),
    [
        ("import sys; sys.exit('mmjax: It is so.')", RunError, "It is so."),
        ("print('mmjax: No.', file=sys.stderr); sys.exit(2)", ConfigError, "No."),
        (
            "e = KeyError('mine'); e.add_note('a note'); raise e",
            RunError,
            "The rows cannot be checked: the process ended with status 1 (KeyError: 'mine'); ",
        ),
        ("sys.exit(' last line')", RunError, "ended with status 1 (last line); `mmjax train`"),
        ("sys.exit(4)", RunError, "ended with status 4 (without any output); "),
        (
            "print('mmjax: 2 of 5 are encoded', file=sys.stderr, flush=True)\n"
            "os.kill(os.getpid(), 9)",
            RunError,
            "The rows cannot be checked: the process was ended by SIGKILL",
        ),
        ("os.kill(os.getpid(), 9)", RunError, "was ended by SIGKILL (out of memory, perhaps); "),
    ],
)
def test_why_a_check_failed_is_one_sentence(code, error, sentence):
    with pytest.raises(error) as caught:
        check_experiments({}, Coded(None, None, code=f"import os, sys\n{code}"))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_check_tells_is_shown_while_it_runs(monkeypatch, capsys):
    monkeypatch.setattr("mmjax.studies.processes.QUIET", 0.2)
    code = (
        "import sys, time; tell = lambda x: print(x, file=sys.stderr, flush=True)\n"
        "tell('mmjax: 2 of 5 are encoded'); tell('a warning'); time.sleep(1)\n"
        "tell('mmjax: It is so.'); sys.exit(2)"
    )
    with pytest.raises(ConfigError, match=r"^It is so\.$"):
        check_experiments({}, Coded(None, None, code=code))
    assert capsys.readouterr().err == "mmjax: 2 of 5 are encoded\n"


def test_a_check_reads_and_prints_as_much_as_it_likes():
    code = "import shutil, sys; from pathlib import Path; sys.stderr.write('x' * 1000000)"
    code += (
        "; folder = Path(sys.argv[2]); shutil.copy(folder / 'rows.json', folder / 'hashes.json')"
    )
    rows = {"a": {"config": "y" * 1000000}}
    assert check_experiments(rows, Coded(None, None, code=code)) == rows


def test_a_check_is_stopped_by_a_signal_and_leaves_no_process(tmp_path):
    code = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    launch = Coded(None, None, code=f"{code}; time.sleep(60)")
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Interrupted, match="Stopped by SIGTERM while the rows were checked"):
        check_experiments({}, launch)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.slow
def test_a_check_ends_with_its_parent(tmp_path):
    (tmp_path / "slow.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)")
    (tmp_path / "rows.json").write_text("{}")
    process = subprocess.Popen(
        Launch(tmp_path / "slow.py", None).words("check", str(tmp_path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == b"begun\n"
    begun = time.monotonic()
    process.stdin.close()  # as the kernel does when the parent is gone
    assert process.wait() == -signal.SIGTERM
    assert time.monotonic() - begun < 30
    process.stdout.close()


def test_an_estimate_counts_no_more_jobs_than_cells(tmp_path):
    row = rows_of(Study(rows={"a": {}}), EXPERIMENT)["a"]
    done, *todo = (Cell(row, seed, tmp_path) for seed in range(3))
    assert estimate(todo, [], jobs=1) is None
    done.run_dir.mkdir(parents=True)
    result = {"metrics": {}, "directions": {}, "seconds": 60.0, "steps": 4}
    (done.run_dir / "result.json").write_text(json.dumps(result))
    assert estimate(todo, [done], jobs=1) == 120.0
    assert estimate(todo, [done], jobs=100) == 60.0
    assert estimate(todo, [done], jobs=2, more=15.0) == 75.0
    assert estimate([], [done], jobs=2) == 0.0


def test_cells_of_no_steps_say_nothing_of_a_step(tmp_path):
    rows = rows_of(Study(rows={"raw": {"training.steps": 0}, "one": {}, "two": {}}), EXPERIMENT)
    raw, one, two = (Cell(row, 0, tmp_path) for row in rows.values())

    def finish(cell, seconds, steps):
        cell.run_dir.mkdir(parents=True)
        result = {"metrics": {}, "directions": {}, "seconds": seconds, "steps": steps}
        (cell.run_dir / "result.json").write_text(json.dumps(result))

    finish(raw, 30.0, 0)
    assert estimate([one, two], [raw], jobs=1) == 60.0  # a cell is all there is to go by
    steps = one.row.experiment.training.steps
    finish(one, 2.0 * steps, steps)
    assert estimate([two], [raw, one], jobs=1) == 2.0 * steps
    again = Cell(rows["raw"], 1, tmp_path)
    assert estimate([again], [raw, one], jobs=1) == 30.0
