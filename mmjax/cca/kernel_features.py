"""Finite features whose products approximate a Gaussian kernel, exp(-|x - x'|^2 / (2 b^2))."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float

from mmjax.errors import ConfigError, check_sizes

_SAMPLE = 500  # rows for the median distance: 125,000 pairs

# From rows [N, D] to their features [N, F].
FeatureMap = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RandomFourier:
    """Cosines and sines of random projections: unbiased, kernel errors of about 1 / sqrt(count).

    Attributes:
        count: number of features, even.
        bandwidth: b; by the median heuristic if not given.
        seed: seed of the random projections.

    Reference:
        Rahimi and Recht, Random Features for Large-Scale Kernel Machines, NIPS 2007.
    """

    count: int = 512
    bandwidth: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_sizes(self, "count", least=2)
        if self.count % 2:
            raise ConfigError(f"RandomFourier.count is {self.count}: it must be even")
        _check_bandwidth(self.bandwidth)

    def prepare(self, sample: Float[np.ndarray, "N D"], view: int) -> FeatureMap:
        """The feature map of one view.

        Args:
            sample: rows of the view, for the bandwidth.
            view: its position; each view gets its own random projections.
        """
        rng = np.random.default_rng((self.seed, view))
        bandwidth = self.bandwidth or median_distance(sample, rng)
        frequencies = rng.standard_normal((sample.shape[1], self.count // 2))
        return _FourierMap(frequencies, bandwidth)


@dataclass(frozen=True)
class Nystrom:
    """The kernel with landmarks, whitened: exact on the landmarks, best where spectra decay fast.

    Attributes:
        count: number of landmarks, drawn from the sample of `prepare`; all of it if smaller.
        bandwidth: b; by the median heuristic if not given.
        seed: seed of the draw.

    Reference:
        Williams and Seeger, Using the Nyström Method to Speed Up Kernel Machines, NIPS 2001.
    """

    count: int = 512
    bandwidth: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_sizes(self, "count")
        _check_bandwidth(self.bandwidth)

    def prepare(self, sample: Float[np.ndarray, "N D"], view: int) -> FeatureMap:
        """The feature map of one view.

        Args:
            sample: rows of the view, for the landmarks and the bandwidth.
            view: its position.
        """
        rng = np.random.default_rng((self.seed, view))
        bandwidth = self.bandwidth or median_distance(sample, rng)
        chosen = rng.permutation(len(sample))[: self.count]
        landmarks = sample[np.sort(chosen)] / bandwidth
        eigenvalues, V = scipy.linalg.eigh(_gaussian(landmarks, landmarks))
        # Repeated landmarks and smooth kernels give eigenvalues that are only rounding.
        kept = eigenvalues > len(landmarks) * np.finfo(np.float64).eps * eigenvalues[-1]
        root = V * np.where(kept, 1 / np.sqrt(np.where(kept, eigenvalues, 1)), 0)
        return _NystromMap(landmarks, bandwidth, root)


def median_distance(sample: Float[np.ndarray, "N D"], rng: np.random.Generator) -> float:
    """The median of the nonzero distances between up to 500 rows; 1 if all rows are equal."""
    if len(sample) > _SAMPLE:
        sample = sample[rng.permutation(len(sample))[:_SAMPLE]]
    largest = float(np.abs(sample).max(initial=0.0)) or 1.0
    from scipy.spatial.distance import pdist  # here, because the import takes half a second

    distances = pdist(sample / largest)
    distances = distances[distances > 0]
    bandwidth = float(np.median(distances)) * largest if len(distances) else 1.0
    return bandwidth or 1.0


@dataclass(frozen=True)
class _FourierMap:
    frequencies: np.ndarray
    bandwidth: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        phases = _scaled(x, self.bandwidth) @ self.frequencies
        return np.concatenate([np.cos(phases), np.sin(phases)], axis=1) / np.sqrt(phases.shape[1])


@dataclass(frozen=True)
class _NystromMap:
    landmarks: np.ndarray
    bandwidth: float
    root: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return _gaussian(_scaled(x, self.bandwidth), self.landmarks) @ self.root


def _scaled(x: np.ndarray, bandwidth: float) -> np.ndarray:
    """The rows over the bandwidth, clipped to 1e150 so that squared distances do not overflow."""
    with np.errstate(over="ignore"):
        return np.clip(x / bandwidth, -1e150, 1e150)


def _gaussian(x: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    from scipy.spatial.distance import cdist  # here, because the import takes half a second

    # cdist squares differences, which keeps the precision of close rows far from zero.
    return np.exp(-cdist(x, landmarks, "sqeuclidean") / 2)


def _check_bandwidth(bandwidth: float | None) -> None:
    if bandwidth is not None and not 0 < bandwidth < np.inf:
        raise ConfigError(f"bandwidth={bandwidth} must be above 0 and finite")
