"""Dropout with a check of its rate."""

from flax import nnx

from mmjax.errors import ConfigError


def checked_dropout(rate: float) -> nnx.Dropout:
    """An `nnx.Dropout` that stores no random stream; ConfigError for a rate outside [0, 1)."""
    if not 0 <= rate < 1:
        raise ConfigError(f"A dropout rate is {rate}: it must be 0 or more and less than 1.")
    return nnx.Dropout(rate)
