"""A run killed at any moment and started again ends as one that was never disturbed, to the bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from mmjax.training.checkpoints import Checkpoints
from mmjax.training.restore import restore_run

EXPERIMENT = """
from mmjax.data import DigitsHalves, DropModality
from mmjax.encoders import MLP
from mmjax.evaluation import Classification, HeldOutCorrelation
from mmjax.models import FusionModel
from mmjax.objectives import DCCA, NOI, CrossEntropy
from mmjax.training import Cosine, AdamW, Experiment, Training

views = ("left", "right")
experiment = Experiment(
    name="resumed",
    data=DigitsHalves(),
    model=FusionModel({view: MLP(hidden=(32,), width=6, dropout=0.3) for view in views}),
    objectives=(CrossEntropy(), DCCA(weight=0.1, views=views), NOI(weight=0.01, views=views)),
    optimizer=AdamW(schedule=Cosine(warmup_steps=5)),
    training=Training(
        steps=150, batch_size=32, log_every=1, eval_every=50, save_every=10, monitor="accuracy"
    ),
    evaluation=(Classification(), HeldOutCorrelation(views=views, k=4)),
    transforms=(DropModality("left", 0.2),),
)
"""
STEPS = 150
# Trains each of the run directories named, and prints the status of each.
COMMANDS = """
import sys
from mmjax.cli import main
for run in sys.argv[2:]:
    print("status", main(["train", sys.argv[1], "--run-dir", run]), flush=True)
"""


def start(folder, devices, *runs):
    """`mmjax train` in each of these directories, one after the other, in one other process."""
    experiment = folder / "resumed.py"
    experiment.write_text(EXPERIMENT)
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",  # each start compiles the same programs
    }
    return subprocess.Popen(
        [sys.executable, "-c", COMMANDS, str(experiment), *map(str, runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )


def said_until_status(process):
    """What the process says until a command has ended: its lines, and the status."""
    lines = []
    for line in process.stdout:
        if line.startswith("status "):
            return lines, int(line.split()[1])
        lines.append(line.rstrip())
    raise AssertionError("\n".join(lines))


def lines_of(run):
    path = run / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def steps_logged(run):
    return sum("train/loss" in line for line in lines_of(run))


def send_at_a_random_step(process, run, number, after=0):
    """Waits for a random number of steps to be logged, then sends a signal; returns that number."""
    moment = random.SystemRandom().randint(after + 2, after + 30)
    while steps_logged(run) < moment:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.0005)
    process.send_signal(number)
    return moment


def arrays_of(run):
    _, state = restore_run(run, "last", None)
    return [
        np.asarray(jax.random.key_data(leaf) if leaf is state.key else leaf)
        for leaf in jax.tree.leaves(state)
    ]


def assert_same(run, undisturbed, moments):
    assert (run / "metrics.jsonl").read_bytes() == (undisturbed / "metrics.jsonl").read_bytes(), (
        f"interrupted after the steps {moments}"
    )
    first, second = (json.loads((each / "result.json").read_text()) for each in (run, undisturbed))
    first.pop("seconds"), second.pop("seconds")
    assert first == second
    assert (
        Checkpoints(run / "checkpoints").steps() == Checkpoints(undisturbed / "checkpoints").steps()
    )
    for a, b in zip(arrays_of(run), arrays_of(undisturbed), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2], ids=["one device", "two devices"])
def test_stopped_by_sigterm_then_ctrl_c_and_killed(tmp_path, devices):
    undisturbed, run = tmp_path / "undisturbed", tmp_path / "disturbed"
    process = start(tmp_path, devices, undisturbed, run, run, run)
    output, status = said_until_status(process)
    assert status == 0, output
    steps = [json.loads(line)["step"] for line in lines_of(undisturbed) if "train/loss" in line]
    assert steps == list(range(1, STEPS + 1))

    moments, saved = [], 0
    for number in (signal.SIGTERM, signal.SIGINT):
        moments.append(send_at_a_random_step(process, run, number, after=saved))
        output, status = said_until_status(process)
        assert status == 1, output
        saved = Checkpoints(run / "checkpoints").steps()[-1]
        assert output[-1].startswith(f"mmjax: Stopped at step {saved} of {STEPS} by {number.name}")
        assert saved >= moments[-1]
        assert steps_logged(run) == saved  # nothing of what was done is lost

    moments.append(send_at_a_random_step(process, run, signal.SIGKILL, after=saved))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert f"Continuing from the checkpoint of step {saved}" in output
    assert not (run / "result.json").exists()

    saved = Checkpoints(run / "checkpoints").steps()[-1]
    process = start(tmp_path, devices, run)
    output, status = said_until_status(process)
    assert status == 0, output
    assert any(f"Continuing from the checkpoint of step {saved}" in line for line in output)
    assert process.wait(timeout=120) == 0
    process.stdout.close()
    assert_same(run, undisturbed, moments)
