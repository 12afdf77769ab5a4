"""The base class of models, and the encoding of the modalities of a batch."""

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
        """Runs the model on a batch; `rngs` holds a `dropout` stream in training.

        A model that generates text (captions, answers) also has a method `generate(batch)`, which
        returns target -> `Prediction` of token ids [B, L].
        """
        ...


class Model(abc.ABC):
    """Base of the model configs."""

    @property
    def frozen_paths(self) -> tuple[tuple[str, ...], ...]:
        """Prefixes of the paths of frozen parameters, which no gradient and no decay change."""
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
            ConfigError: model and data set do not fit together.
        """


def in_use(encoders: Mapping[str, Encoder], modalities: tuple[str, ...]) -> dict[str, Encoder]:
    """The encoders of these modalities, or all if none is named; ConfigError for an unknown one."""
    for name in modalities:
        if name not in encoders:
            raise unknown_name("encoder for the modality", name, encoders)
    return {name: encoders[name] for name in modalities or tuple(encoders)}


def build_encoders(
    encoders: Mapping[str, Encoder],
    modalities: Mapping[str, Modality],
    *,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
    frozen: tuple[str, ...] = (),
) -> nnx.Dict:
    """Builds the encoders; see `Model.build`.

    They are in the order of their names, as NNX has them after a merge. All names in `frozen` must
    have an encoder.
    """
    if not encoders:
        raise ConfigError("The model has no encoder: add at least one to `encoders`.")
    for name in encoders:
        if name not in modalities:
            raise unknown_name("modality", name, modalities)
    for name in frozen:
        if name not in encoders:
            raise unknown_name("encoder, for `frozen`,", name, encoders)

    def build(name: str) -> Any:
        try:
            return encoders[name].build(modalities[name], dtype=dtype, rngs=rngs)
        except ConfigError as error:
            raise ConfigError(f"The encoder of {name!r}: {error}") from error

    return nnx.Dict({name: build(name) for name in sorted(encoders)})


def encode(
    encoders: nnx.Dict,
    batch: Batch,
    *,
    train: bool,
    rngs: nnx.Rngs | None,
    frozen: tuple[str, ...] = (),
) -> dict[str, Features]:
    """Encodes every modality that has an encoder; `frozen` encoders run in evaluation mode.

    The input of an absent modality, even NaN, has no effect: it is replaced by zeros before the
    encoder, and its tokens are masked after it.
    """
    batch, features = jax.tree.map(jnp.asarray, batch), {}
    for name, encoder in encoders.items():
        present = batch.present[name] & (batch.weight > 0)
        x = jax.tree.map(functools.partial(_present_only, present), batch.inputs[name])
        trained = name not in frozen
        encoded = encoder(
            x,
            batch.masks.get(name),
            present,
            train=train and trained,
            rngs=rngs if trained else None,
        )
        features[name] = encoded.replace(mask=encoded.mask & present[:, None])
    return features


def _present_only(present: jax.Array, x: jax.Array) -> jax.Array:
    """The rows [B, ...] that are present, with uint8 scaled to [0, 1]; all others are zero."""
    rows = present.reshape(-1, *[1] * (x.ndim - 1))
    return unit_floats(jnp.where(rows, x, jnp.zeros((), x.dtype)))


def abstract_outputs(
    module: Any, modalities: Mapping[str, Modality], targets: Mapping[str, Target]
) -> Outputs:
    """The shapes of a module's outputs for two examples; nothing is computed."""
    batch = _blank(modalities, targets)
    return jax.eval_shape(lambda batch: module(batch, train=False, rngs=None), batch)


def abstract_generated(
    module: Any, modalities: Mapping[str, Modality], targets: Mapping[str, Target]
) -> dict[str, Prediction]:
    """The shapes of a module's generated tokens for two examples: target -> ids [2, L], mask."""
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
    """Prefixes of the parameter paths of these encoders, in a module with `encoders`."""
    return tuple(("encoders", name) for name in names)


def embeddings_of(features: Mapping[str, Features]) -> tuple[dict[str, jax.Array], dict]:
    """The pooled embedding [B, D] of each modality, and the examples [B] that have it."""
    pooled = {name: feature.pooled for name, feature in features.items()}
    return pooled, {name: feature.present for name, feature in features.items()}
