"""What stacking and the gate do with their inputs before they are fitted."""

import numpy as np

from mmjax.errors import ConfigError


class Standard:
    """Shifts and scales columns to mean 0 and variance 1 of the rows [N, D] it is made of."""

    def __init__(self, x: np.ndarray) -> None:
        self.mean, spread = x.mean(axis=0), x.std(axis=0)
        # What does not vary but for rounding is left at 0 rather than blown up.
        self.scale = np.where(spread > 1e-9 * (1 + np.abs(self.mean)), spread, 1.0)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Rows [N, D] of any number, shifted and scaled like those it is made of."""
        return (x - self.mean) / self.scale


def rows(values: np.ndarray) -> np.ndarray:
    """[M, N, D] to [N, M D], member by member."""
    return np.moveaxis(values, 0, 1).reshape(values.shape[1], -1)


def checked_strength(strength: float | int) -> float:
    """The strength of a penalty; ConfigError for one below 1e-6, almost none, or inf."""
    if not 1e-6 <= strength < np.inf:
        raise ConfigError(
            f"strength={strength} must be 1e-6 or more, and finite: 1 is a good choice."
        )
    return float(strength)
