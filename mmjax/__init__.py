"""mmjax: multimodal alignment and fusion in JAX.

`import mmjax` is light: the parts (`mmjax.objectives`, `mmjax.data`, ...) load when first named.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_PARTS = (
    "audio",
    "benchmarks",
    "data",
    "encoders",
    "evaluation",
    "fusion",
    "heads",
    "layers",
    "models",
    "objectives",
    "structs",
    "studies",
    "training",
)


def __getattr__(name: str) -> ModuleType:
    if name in _PARTS:
        return importlib.import_module(f"mmjax.{name}")
    raise AttributeError(f"module 'mmjax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PARTS])
