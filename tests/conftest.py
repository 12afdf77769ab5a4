import os
from pathlib import Path

import jax
import pytest

# Before any backend starts: two devices for every test, and a compile cache beside the sources.
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update(
    "jax_compilation_cache_dir", str(Path(__file__).parents[1] / ".pytest_cache" / "jax")
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)  # tests compile small things

_BESIDE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data; skips where there is none."""
    folder = Path(os.environ.get("MMJAX_DATA") or _BESIDE)
    if not folder.is_dir():
        pytest.skip("real data is not here: set MMJAX_DATA to the folder that holds it")
    return folder
