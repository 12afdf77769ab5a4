import gc
import hashlib
import os
from pathlib import Path

import jax
import pytest

_ROOT = Path(__file__).parents[1]


def _compile_cache() -> Path:
    """A folder that all checkouts with these locked versions share, from one run to the next."""
    lock = hashlib.sha256((_ROOT / "requirements.lock").read_bytes()).hexdigest()[:16]
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmjax-tests" / lock


# Most of the time of these tests is compiling. Without optimisations that takes a third of it, and
# rounds in other places: that found a wrong gradient. `XLA_FLAGS= python -m pytest` compiles as
# users do, and so does `make demo`. Processes that tests start inherit the flags.
_OLD_EMITTERS = " --xla_cpu_use_fusion_emitters=false" if jax.__version_info__ < (0, 12) else ""
# One piece of code per program, not 32 for as many threads, halves the compiling of small ones.
_QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
os.environ.setdefault("XLA_FLAGS", _QUICK + _OLD_EMITTERS)
# What JAX has traced stays: looking for garbage among it takes a tenth of the time.
gc.set_threshold(50_000, 20, 50)
# Before any backend starts: two devices for every test, and compiled programs kept between runs.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_compilation_cache_dir", str(_compile_cache()))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # tests compile small things

_BESIDE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data; skips where there is none."""
    folder = Path(os.environ.get("MMJAX_DATA") or _BESIDE)
    if not folder.is_dir():
        pytest.skip("real data is not here: set MMJAX_DATA to the folder that holds it")
    return folder
