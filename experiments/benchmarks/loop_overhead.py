"""What the training loop costs a step beyond the compiled step itself.

    python experiments/benchmarks/loop_overhead.py

A pair of three-layer perceptrons at batch 256 on `digits_halves`. Each round times the real loop
(`mmjax train`, from its own timing.jsonl) and then the bare compiled step, on the same machine
within seconds; the cost is the difference, without the wait for data, which is printed apart.

Expected: below 1 ms. On 2 cores of an AMD EPYC 0.19 ms a step (median of 7 rounds, -0.11 to 0.57)
beside 1.10 ms of the step itself; the wait for data is 0.09 ms. About 40 seconds.
"""

import json
import statistics
import tempfile
from pathlib import Path

from mmjax.benchmarks import bench_step
from mmjax.data import DigitsHalves
from mmjax.encoders import MLP
from mmjax.models import DualEncoder
from mmjax.objectives import DCCA
from mmjax.training import Experiment, Training, train

views = ("left", "right")
experiment = Experiment(
    name="loop-overhead",
    data=DigitsHalves(),
    model=DualEncoder({view: MLP(hidden=(256, 256), width=10) for view in views}),
    objectives=(DCCA(views=views),),
    training=Training(steps=1000, batch_size=256, log_every=50),
)
ROUNDS = 7


def one_round() -> tuple[float, float, float]:
    """Median ms of a step in the loop (data wait left out), of the bare step, and of the wait."""
    with tempfile.TemporaryDirectory() as folder:
        train(experiment, Path(folder) / "run", None)
        text = (Path(folder) / "run" / "timing.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()][1:]  # the first interval warms up
    wait = statistics.median(line["data_wait_ms"] for line in lines)
    loop = statistics.median(line["step_ms"] - line["data_wait_ms"] for line in lines)
    return loop, bench_step(experiment, None, 500).step_ms, wait


if __name__ == "__main__":
    rounds = [one_round() for _ in range(ROUNDS)]
    columns = {
        "step in the loop": [loop for loop, _, _ in rounds],
        "bare compiled step": [bare for _, bare, _ in rounds],
        "cost of the loop": [loop - bare for loop, bare, _ in rounds],
        "data wait": [wait for _, _, wait in rounds],
    }
    print(f"ms a step, median of {ROUNDS} rounds (lowest to highest)")
    for name, values in columns.items():
        print(f"{name:20} {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})")
