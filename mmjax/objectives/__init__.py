"""Objectives: pure functions of arrays, and beside each the small config that experiments list.

`dcca_loss`, `dcca_loss_and_telemetry`, `squared_cca_loss`, `canonical_correlations`, `dgcca_loss`,
`dmcca_loss`, `dtcca_loss`, `eckart_young_loss`, `noi_loss`, `soft_cca_loss`, `info_nce`,
`sigmoid_contrastive`, `barlow_twins`, `vicreg`, `joint_embedding`, `dimensionwise_correlation`,
`relative_distance`, `unit_distance`, `squared_reconstruction`, `bernoulli_reconstruction`,
`kl_divergence`, `cross_entropy`, `distillation`, `focal`, `binary_cross_entropy` and
`squared_error` need nothing else of mmjax. The estimators of `mmjax.cca` (`LinearCCA`, `KernelCCA`,
...) can be imported from here too.
"""

from mmjax.cca import (
    GCCA,
    MCCA,
    KernelCCA,
    LinearCCA,
    Moments,
    Nystrom,
    PartialCCA,
    RandomFourier,
)
from mmjax.objectives.auxiliary_loss import AuxiliaryLoss
from mmjax.objectives.binary_cross_entropy import BinaryCrossEntropy, binary_cross_entropy
from mmjax.objectives.cca_solvers import newton_schulz_error
from mmjax.objectives.cca_squared import SquaredDCCA, squared_cca_loss
from mmjax.objectives.class_weights import EffectiveNumber, InverseFrequency
from mmjax.objectives.contrastive import (
    InfoNCE,
    SigmoidContrastive,
    info_nce,
    sigmoid_contrastive,
)
from mmjax.objectives.cross_entropy import CrossEntropy, cross_entropy
from mmjax.objectives.dcca import (
    DCCA,
    canonical_correlations,
    dcca_loss,
    dcca_loss_and_telemetry,
)
from mmjax.objectives.dgcca import DGCCA, dgcca_loss
from mmjax.objectives.distillation import Distillation, distillation
from mmjax.objectives.dmcca import DMCCA, dmcca_loss
from mmjax.objectives.domains import CORAL, SourceAdversary
from mmjax.objectives.dtcca import DTCCA, dtcca_loss
from mmjax.objectives.eckart_young import EckartYoung, eckart_young_loss
from mmjax.objectives.focal import Focal, focal
from mmjax.objectives.joint_embedding import JointEmbedding, joint_embedding
from mmjax.objectives.noi import NOI, noi_loss
from mmjax.objectives.objective import Objective, ObjectiveModule, PureObjective
from mmjax.objectives.pair_distances import (
    DimensionwiseCorrelation,
    RelativeDistance,
    UnitDistance,
    dimensionwise_correlation,
    relative_distance,
    unit_distance,
)
from mmjax.objectives.reconstruction import (
    BernoulliReconstruction,
    KLDivergence,
    SquaredReconstruction,
    bernoulli_reconstruction,
    kl_divergence,
    squared_reconstruction,
)
from mmjax.objectives.redundancy import BarlowTwins, VICReg, barlow_twins, vicreg
from mmjax.objectives.running_covariance import RunningCovariance
from mmjax.objectives.soft_cca import SoftCCA, soft_cca_loss
from mmjax.objectives.squared_error import SquaredError, squared_error
from mmjax.objectives.unimodal import Unimodal

__all__ = [
    "CORAL",
    "DCCA",
    "DGCCA",
    "DMCCA",
    "DTCCA",
    "GCCA",
    "MCCA",
    "NOI",
    "AuxiliaryLoss",
    "BarlowTwins",
    "BernoulliReconstruction",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "DimensionwiseCorrelation",
    "Distillation",
    "EckartYoung",
    "EffectiveNumber",
    "Focal",
    "InfoNCE",
    "InverseFrequency",
    "JointEmbedding",
    "KLDivergence",
    "KernelCCA",
    "LinearCCA",
    "Moments",
    "Nystrom",
    "Objective",
    "ObjectiveModule",
    "PartialCCA",
    "PureObjective",
    "RandomFourier",
    "RelativeDistance",
    "RunningCovariance",
    "SigmoidContrastive",
    "SoftCCA",
    "SourceAdversary",
    "SquaredDCCA",
    "SquaredError",
    "SquaredReconstruction",
    "Unimodal",
    "UnitDistance",
    "VICReg",
    "barlow_twins",
    "bernoulli_reconstruction",
    "binary_cross_entropy",
    "canonical_correlations",
    "cross_entropy",
    "dcca_loss",
    "dcca_loss_and_telemetry",
    "dgcca_loss",
    "dimensionwise_correlation",
    "distillation",
    "dmcca_loss",
    "dtcca_loss",
    "eckart_young_loss",
    "focal",
    "info_nce",
    "joint_embedding",
    "kl_divergence",
    "newton_schulz_error",
    "noi_loss",
    "relative_distance",
    "sigmoid_contrastive",
    "soft_cca_loss",
    "squared_cca_loss",
    "squared_error",
    "squared_reconstruction",
    "unit_distance",
    "vicreg",
]
