"""Models: combinations of encoders, fusion, heads and decoders."""

from mmjax.models.autoencoder import Autoencoder
from mmjax.models.decoders import Decoder
from mmjax.models.dual_encoder import DualEncoder
from mmjax.models.fusion_model import FusionModel
from mmjax.models.model import Model, ModelModule, abstract_generated, abstract_outputs
from mmjax.models.multi_encoder import MultiEncoder
from mmjax.models.variational_cca import VariationalCCA

__all__ = [
    "Autoencoder",
    "Decoder",
    "DualEncoder",
    "FusionModel",
    "Model",
    "ModelModule",
    "MultiEncoder",
    "VariationalCCA",
    "abstract_generated",
    "abstract_outputs",
]
