"""mmjax: multimodal alignment and fusion in JAX.

    run = mmjax.train(experiment, run_dir="runs/mine")   # trains, or continues; returns a `Run`
    run = mmjax.load("runs/mine")                        # opens a finished run, best checkpoint

`import mmjax` is fast: the parts (`mmjax.objectives`, `mmjax.data`, ...) load on first use.
"""

import importlib
from typing import Any

__version__ = "0.2.0"

_PARTS = (
    "audio",
    "benchmarks",
    "cca",
    "data",
    "encoders",
    "evaluation",
    "fusion",
    "heads",
    "layers",
    "models",
    "objectives",
    "pretrained",
    "structs",
    "studies",
    "training",
)
_FUNCTIONS = ("load", "train")  # of mmjax.training.load


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"mmjax.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module("mmjax.training.load"), name)
    raise AttributeError(f"module 'mmjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PARTS, *_FUNCTIONS])
