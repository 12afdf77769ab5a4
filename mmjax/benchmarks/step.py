"""Throughput of an experiment's train step: examples/s, TFLOP/s, MFU, memory and data wait."""

import dataclasses
import resource
import statistics
import time
from contextlib import closing
from pathlib import Path

import jax
import jax.numpy as jnp

from mmjax.benchmarks.flops import PEAKS, step_flops
from mmjax.errors import ConfigError
from mmjax.training.experiment import Experiment
from mmjax.training.setup import prepare


@dataclasses.dataclass(frozen=True)
class StepBenchmark:
    """The results of `bench_step`; times are medians over steps.

    Attributes:
        name: name of the experiment.
        device: number and kind of the devices.
        batch_size: examples per step.
        steps: number of timed steps.
        compile_seconds: time to trace, lower and compile the step.
        step_ms: time of one step until it is done, with its batch already on the devices.
        step_ms_quartiles: first and third quartile of `step_ms`.
        examples_per_second: batch size over `step_ms`.
        flops_per_step: FLOPs of matrix products and convolutions, three times those of the forward
            pass.
        tflops_per_second: `flops_per_step` over `step_ms`.
        peak_tflops_per_second: peak of all devices.
        peak_source: source of the peak.
        mfu: model FLOP utilisation, `tflops_per_second` over the peak.
        data_wait_ms: time that the host waits for a batch while a step runs, as in training.
        memory_mb: peak memory.
        memory_source: which memory that is.
    """

    name: str
    device: str
    batch_size: int
    steps: int
    compile_seconds: float
    step_ms: float
    step_ms_quartiles: tuple[float, float]
    examples_per_second: float
    flops_per_step: int
    tflops_per_second: float
    peak_tflops_per_second: float
    peak_source: str
    mfu: float
    data_wait_ms: float
    memory_mb: float
    memory_source: str


def bench_step(experiment: Experiment, folder: Path | None, steps: int) -> StepBenchmark:
    """Measures the train step of an experiment.

    Args:
        experiment: the experiment.
        folder: the folder of raw data, or None.
        steps: number of timed steps, after three untimed ones.

    Raises:
        ConfigError: fewer than two steps, or an experiment that cannot be trained.
    """
    if steps < 2:
        raise ConfigError(f"--steps is {steps}: it must be 2 or more.")
    training = experiment.training
    setup = prepare(experiment, folder)
    state, batches = setup.create_state(), setup.train_batches()
    with jax.set_mesh(setup.mesh), closing(batches):
        batch = setup.put(next(batches))
        flops = step_flops(state, batch)
        begun = time.perf_counter()
        step = setup.compile_step().lower(state, batch).compile()
        compile_seconds = time.perf_counter() - begun
        alone, waits = [], []
        for _ in range(steps + 3):  # the step alone, with the batch on the devices
            begun = time.perf_counter()
            state, metrics = step(state, batch)
            jax.block_until_ready(metrics)
            alone.append(1e3 * (time.perf_counter() - begun))
        for _ in range(steps + 3):  # as in training: the next batch is fetched while a step runs
            begun = time.perf_counter()
            fresh = next(batches)
            waits.append(1e3 * (time.perf_counter() - begun))
            jax.block_until_ready(metrics)
            state, metrics = step(state, setup.put(fresh))
        jax.block_until_ready(metrics)
        memory, memory_source = _memory()
        peak, peak_source = _peak(training.precision)
    alone, waits = alone[3:], waits[3:]
    median = statistics.median(alone)
    first, _, third = statistics.quantiles(alone, n=4)
    rate = flops / median / 1e9
    return StepBenchmark(
        name=experiment.name,
        device=f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        batch_size=training.batch_size,
        steps=steps,
        compile_seconds=compile_seconds,
        step_ms=median,
        step_ms_quartiles=(first, third),
        examples_per_second=1e3 * training.batch_size / median,
        flops_per_step=flops,
        tflops_per_second=rate,
        peak_tflops_per_second=peak / 1e12,
        peak_source=peak_source,
        mfu=rate * 1e12 / peak,
        data_wait_ms=statistics.median(waits),
        memory_mb=memory / 2**20,
        memory_source=memory_source,
    )


_MULTIPLIED_IN = {"float32": "TF32", "bfloat16": "bfloat16"}


def _memory() -> tuple[float, str]:
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"], "peak of one device's allocator"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "peak of the host process"


def _peak(precision: str) -> tuple[float, str]:
    """The peak FLOP/s of all devices, and its source."""
    kind = jax.devices()[0].device_kind
    known = PEAKS.get(kind, {}).get(precision)
    if known:
        source = f"data sheet of {kind}, dense, {_MULTIPLIED_IN[precision]}"
        return known * jax.device_count(), source
    size, tries = 2048, 5
    matrix = jax.random.normal(jax.random.key(0), (size, size), jnp.dtype(precision))
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    seconds = []
    for _ in range(tries):
        begun = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        seconds.append(time.perf_counter() - begun)
    rate = 2 * size**3 / min(seconds) * jax.device_count()
    return rate, f"measured: the best of {tries} {precision} {size}x{size} matrix products"
