"""Low-rank adaptation of an encoder."""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder
from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.layers import adapt, mark_frozen
from mmjax.structs import Modality


@dataclasses.dataclass(frozen=True)
class LoRA(Encoder):
    """An encoder whose parameters stay as they are, with trained low-rank changes of its layers.

        h = W0 x + (alpha / rank) B A x,    A [rank, input] at random, B [output, rank] at 0

    for each of the linear layers that `layers` names; W0 and all other parameters have no gradient
    and no optimizer state. At first the encoder computes what it did before. Dropout goes on, and
    so do the statistics of batch normalisation. After the training,
    `mmjax.layers.merge_adapters(run.model)` adds the changes to the kernels.

    Attributes:
        encoder: such as `mmjax.pretrained.load(folder).encoder`.
        rank: of each change.
        alpha: the changes are scaled by alpha / rank; above 0.
        layers: names of the linear layers to change, in every block. Those of attention are
            `query`, `key`, `value` and `out`, those of the dense layers after it `up` and `down`.

    Reference:
        Hu et al. 2021, LoRA: Low-Rank Adaptation of Large Language Models, equation 3, and section
        4.2 for `query` and `value`. A is normal with the variance 1 / input.
    """

    encoder: Encoder
    rank: int = 8
    alpha: float = 16.0
    layers: tuple[str, ...] = ("query", "value")

    def __post_init__(self) -> None:
        check_sizes(self, "rank")
        if not self.alpha > 0:
            raise ConfigError(f"LoRA.alpha is {self.alpha}: choose it above 0.")
        if isinstance(self.layers, str) or not self.layers:
            raise ConfigError(
                f"LoRA.layers is {self.layers!r}: list names, such as ('query', 'value')."
            )

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Encoder`."""
        return self.encoder.kinds

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> Any:
        """Makes the module of `encoder`, with adapters in it; see `Encoder.build`.

        Raises:
            ConfigError: no linear layer has one of the names.
        """
        module = self.encoder.build(modality, dtype=dtype, rngs=rngs)
        mark_frozen(module)
        there = adapt(module, self.layers, self.rank, self.alpha / self.rank, rngs=rngs)
        for name in self.layers:
            if name not in there:
                raise unknown_name("linear layer, for LoRA.layers,", name, there)
        return module
