import jax
import pytest


@pytest.fixture(autouse=True)
def optimised():
    """Numbers at the ends of their range are tested in code compiled as users compile it."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)
