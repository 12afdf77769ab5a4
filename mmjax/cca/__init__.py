"""Canonical correlation analysis: estimators in scikit-learn's manner, in float64.

`LinearCCA`, `PartialCCA` (two views given a third), `MCCA` and `GCCA` (two or more views) and
`KernelCCA` (by `RandomFourier` or `Nystrom` features) are fitted in one pass over batches, from the
`Moments` of the views. They need nothing else of mmjax. The losses of deep CCA (`DCCA`, `DGCCA`,
...) are in `mmjax.objectives`.
"""

from mmjax.cca.kernel_cca import KernelCCA
from mmjax.cca.kernel_features import Nystrom, RandomFourier
from mmjax.cca.linear_cca import LinearCCA
from mmjax.cca.moments import Moments
from mmjax.cca.multiview_cca import GCCA, MCCA
from mmjax.cca.partial_cca import PartialCCA
from mmjax.cca.view_estimator import NotFittedError

__all__ = [
    "GCCA",
    "MCCA",
    "KernelCCA",
    "LinearCCA",
    "Moments",
    "NotFittedError",
    "Nystrom",
    "PartialCCA",
    "RandomFourier",
]
