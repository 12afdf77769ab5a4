"""Models: combinations of encoders, fusion, heads and decoders."""

from mmjax.models.autoencoder import Autoencoder
from mmjax.models.decoders import Decoder
from mmjax.models.dual_encoder import DualEncoder
from mmjax.models.fusion_model import FusionModel
from mmjax.models.late_fusion_model import LateFusionModel
from mmjax.models.modality_dropout import ModalityDropout
from mmjax.models.model import Model, ModelModule, abstract_generated, abstract_outputs
from mmjax.models.multi_encoder import MultiEncoder
from mmjax.models.stand_in import LearnedStandIn, MeanStandIn, NoStandIn, StandIn, ZeroStandIn
from mmjax.models.variational_cca import VariationalCCA

__all__ = [
    "Autoencoder",
    "Decoder",
    "DualEncoder",
    "FusionModel",
    "LateFusionModel",
    "LearnedStandIn",
    "MeanStandIn",
    "ModalityDropout",
    "Model",
    "ModelModule",
    "MultiEncoder",
    "NoStandIn",
    "StandIn",
    "VariationalCCA",
    "ZeroStandIn",
    "abstract_generated",
    "abstract_outputs",
]
