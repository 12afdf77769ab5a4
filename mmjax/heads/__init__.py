"""Heads: one file for each, from fused features to the prediction of one target."""

from collections.abc import Mapping

from mmjax.errors import ConfigError
from mmjax.heads.classifier import Classifier
from mmjax.heads.head import Head, HeadModule
from mmjax.heads.multi_label import MultiLabel
from mmjax.heads.regressor import Regressor
from mmjax.heads.token_decoder import TokenDecoder
from mmjax.structs import Target

__all__ = [
    "DEFAULTS",
    "Classifier",
    "Head",
    "HeadModule",
    "MultiLabel",
    "Regressor",
    "TokenDecoder",
    "default_head",
]

# Kind of target -> its default head.
DEFAULTS: Mapping[str, type[Head]] = {
    "class": Classifier,
    "labels": MultiLabel,
    "number": Regressor,
    "tokens": TokenDecoder,
}


def default_head(name: str, target: Target) -> Head:
    """The default head of a target.

    Raises:
        ConfigError: the kind of the target has no default head.
    """
    if target.kind not in DEFAULTS:
        raise ConfigError(
            f"The target {name!r} is of the kind {target.kind!r}, which has no default head: set "
            f"one in `heads`, as in FusionModel(..., heads={{{name!r}: ...}})."
        )
    return DEFAULTS[target.kind]()
