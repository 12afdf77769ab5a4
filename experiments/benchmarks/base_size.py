"""A multimodal Transformer of base size (102 M parameters): what its train step takes.

    python experiments/benchmarks/base_size.py [--batch-size 4] [--steps 0]

Pictures of 224 x 224 pixels (196 patches of 16 x 16) and 32 words, each with one layer of its own,
then 12 joint layers of width 768 in bfloat16. For plain blocks, for blocks that are scanned, and
for those that are scanned and computed again in the backward pass: parameters, seconds of
compiling, and the compiler's figures of memory and FLOPs; with `--steps`, also the time of a step.
The compiler counts the FLOPs of a scanned loop once, not for each of its 12 rounds: those of the
plain blocks are the true ones.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from mmjax.data import Arrays
from mmjax.encoders import TextTransformer, ViT
from mmjax.fusion import MultimodalTransformer
from mmjax.heads import Classifier
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.training import Experiment, Training
from mmjax.training.setup import prepare


def measure(batch_size: int, steps: int, *, scan: bool, remat: bool) -> None:
    """Prints one line."""
    rng, rows = np.random.default_rng(0), 2 * batch_size
    experiment = Experiment(
        name="base-size",
        data=Arrays(
            inputs={
                "image": rng.integers(0, 255, (rows, 224, 224, 3), dtype=np.uint8),
                "text": rng.integers(1, 1000, (rows, 32)),
            },
            targets={"label": np.arange(rows) % 4},
            name="base",
        ),
        model=FusionModel(
            {
                "image": ViT(layers=1, output="tokens"),
                "text": TextTransformer(width=768, layers=1, heads=12),
            },
            MultimodalTransformer(768, layers=12, heads=12, scan=scan, remat=remat),
            {"label": Classifier()},
        ),
        objectives=(CrossEntropy(),),
        training=Training(steps=1, batch_size=batch_size, precision="bfloat16"),
    )
    setup = prepare(experiment, None)
    batches = setup.train_batches()
    batch = setup.put(next(batches))
    batches.close()
    with jax.set_mesh(setup.mesh):
        lowered = setup.compile_step().lower(setup.abstract_state, batch)
        begun = time.perf_counter()
        compiled = lowered.compile()
        seconds = time.perf_counter() - begun
        memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
        count = sum(leaf.size for leaf in jax.tree.leaves(setup.abstract_state.params))
        print(
            f"scan={scan!s:5} remat={remat!s:5} {count / 1e6:.1f} M parameters, compiled in "
            f"{seconds:.0f} s, {memory.argument_size_in_bytes / 2**30:.2f} GiB of state and batch, "
            f"{memory.temp_size_in_bytes / 2**30:.2f} GiB of work, {cost['flops'] / 1e9:.0f} GFLOP"
        )
        if not steps:
            return
        state, times = setup.create_state(), []
        for _ in range(steps + 2):
            begun = time.perf_counter()
            state, metrics = compiled(state, batch)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - begun)
        print(f"    {1e3 * statistics.median(times[2:]):.0f} ms a step, median of {steps}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=0)
    options = parser.parse_args()
    print(jax.devices()[0].device_kind, jax.__version__)
    for scan, remat in ((False, False), (True, False), (True, True)):
        measure(options.batch_size, options.steps, scan=scan, remat=remat)
