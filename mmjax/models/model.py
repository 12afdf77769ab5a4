"""What a model is, and how it encodes the modalities of a batch."""

import abc
import functools
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.encoders import Encoder
from mmjax.errors import ConfigError, unknown_name
from mmjax.structs import Batch, Features, Modality, Outputs, Prediction, Target, unit_floats


class ModelModule(Protocol):
    """What `Model.build` returns (an `nnx.Module`)."""

    def __call__(self, batch: Batch, *, train: bool, rngs: nnx.Rngs | None) -> Outputs:
        """Runs the model on a batch; `rngs` holds a `dropout` stream while training.

        A model that writes (captions, answers) has a method `generate(batch)` beside this, which
        gives target -> `Prediction` of token ids [B, L].
        """
        ...


class Model(abc.ABC):
    """Base of the model configs."""

    @property
    def frozen_paths(self) -> tuple[tuple[str, ...], ...]:
        """How the paths of the parameters begin that are held fixed: no gradient, no optimizer."""
        return ()

    @abc.abstractmethod
    def build(
        self,
        modalities: Mapping[str, Modality],
        targets: Mapping[str, Target],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ) -> Any:
        """Makes the `ModelModule` for a data set.

        Args:
            modalities: of the data set.
            targets: of the data set.
            dtype: of the computation; parameters are float32.
            rngs: initialises the parameters.

        Raises:
            ConfigError: where model and data set do not fit.
        """


def build_encoders(
    encoders: Mapping[str, Encoder],
    modalities: Mapping[str, Modality],
    *,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
    frozen: tuple[str, ...] = (),
) -> nnx.Dict:
    """Builds an encoder for each modality named; see `Model.build`.

    They come in the order of their names, which is the one that NNX gives them when it merges. Each
    name in `frozen` has to be one of theirs.
    """
    if not encoders:
        raise ConfigError("The model has no encoder: give it one for at least one modality.")
    for name in encoders:
        if name not in modalities:
            raise unknown_name("modality", name, modalities)
    for name in frozen:
        if name not in encoders:
            raise unknown_name("encoder to hold frozen, called", name, encoders)
    return nnx.Dict(
        {
            name: encoders[name].build(modalities[name], dtype=dtype, rngs=rngs)
            for name in sorted(encoders)
        }
    )


def encode(
    encoders: nnx.Dict,
    batch: Batch,
    *,
    train: bool,
    rngs: nnx.Rngs | None,
    frozen: tuple[str, ...] = (),
) -> dict[str, Features]:
    """Encodes every modality that has an encoder; the `frozen` ones as in evaluation.

    What an absent modality's input holds, NaN included, reaches nothing: it is replaced by zeros
    before the encoder, and its tokens are masked after.
    """
    batch, features = jax.tree.map(jnp.asarray, batch), {}
    for name, encoder in encoders.items():
        present = batch.present[name] & (batch.weight > 0)
        x = jax.tree.map(functools.partial(_present_only, present), batch.inputs[name])
        learns = name not in frozen
        encoded = encoder(
            x,
            batch.masks.get(name),
            present,
            train=train and learns,
            rngs=rngs if learns else None,
        )
        features[name] = encoded.replace(mask=encoded.mask & present[:, None])
    return features


def _present_only(present: jax.Array, x: jax.Array) -> jax.Array:
    """The rows [B, ...] that are present, uint8 brought to [0, 1]; zeros in all others."""
    rows = present.reshape(-1, *[1] * (x.ndim - 1))
    return unit_floats(jnp.where(rows, x, jnp.zeros((), x.dtype)))


def abstract_outputs(
    module: Any, modalities: Mapping[str, Modality], targets: Mapping[str, Target]
) -> Outputs:
    """The shapes of what a module returns for two examples; nothing is computed."""
    batch = _blank(modalities, targets)
    return jax.eval_shape(lambda batch: module(batch, train=False, rngs=None), batch)


def abstract_generated(
    module: Any, modalities: Mapping[str, Modality], targets: Mapping[str, Target]
) -> dict[str, Prediction]:
    """The shapes of what a module writes for two examples: target -> ids [2, L] and their mask."""
    if not hasattr(module, "generate"):
        return {}
    return jax.eval_shape(lambda batch: module.generate(batch), _blank(modalities, targets))


def _blank(modalities: Mapping[str, Modality], targets: Mapping[str, Target]) -> Batch:
    """Two examples of zeros."""
    return Batch.of(
        {name: modality.blank(2) for name, modality in modalities.items()},
        np.arange(2),
        targets={name: target.blank(2) for name, target in targets.items()},
    )


def encoder_paths(names: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """How the paths of these encoders' parameters begin, in a module that has `encoders`."""
    return tuple(("encoders", name) for name in names)


def embeddings_of(features: Mapping[str, Features]) -> tuple[dict[str, jax.Array], dict]:
    """The pooled embedding of each modality, and where it is present."""
    pooled = {name: feature.pooled for name, feature in features.items()}
    return pooled, {name: feature.present for name, feature in features.items()}
