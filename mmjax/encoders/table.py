"""Tables: one row of numbers and categories per example, with missing cells."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape
from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.structs import Features, Modality

_PARTS = ("numbers", "known", "categories")


@dataclasses.dataclass(frozen=True)
class TableEncoder(Encoder):
    """One token per column: a linear function of a number, or the embedding of a category.

        token_j = x_j w_j + b_j     if number j is known
        token_j = m_j               if number j is missing
        token_j = e_j[c_j]          for category c_j, which is 0 if it is missing

    The modality has these parts; `numbers` or `categories` may be left out:

        "numbers": Modality("vector", (n,)), on similar scales, because they are not standardised
        "known": Modality("vector", (n,), "bool"), which numbers are known; by default all
        "categories": Modality("vector", (m,), "int32", vocabulary=C), ids below C in every column

    The values of unknown numbers are ignored, but must be finite. A category outside the vocabulary
    is an error if it is among the first examples of a split; in later examples, it makes the tokens
    of its example NaN, which stops training.

    Attributes:
        width: D of the tokens.

    Reference:
        Gorishniy, Rubachev, Khrulkov and Babenko, Revisiting Deep Learning Models for Tabular Data,
        NeurIPS 2021, section 3.3 (the tokens).
    """

    width: int = 64
    kinds: ClassVar[tuple[str, ...]] = ("table",)

    def __post_init__(self) -> None:
        check_sizes(self, "width")

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "TableTokens":
        """See `Encoder.build`."""
        self.check_kind(modality)
        parts = modality.parts
        for name in parts:
            if name not in _PARTS:
                raise unknown_name("part that TableEncoder reads, called", name, _PARTS)
        if not parts.keys() & {"numbers", "categories"}:
            raise ConfigError(
                "A table has neither `numbers` nor `categories`: declare at least one in its "
                "`parts`."
            )
        known, numbers = (parts[n].shape if n in parts else None for n in ("known", "numbers"))
        if known is not None and known != numbers:
            raise ConfigError(
                f"The part `known` of a table has the shape {known}, but `numbers` has {numbers}: "
                "declare both with the same shape."
            )
        if "categories" in parts and parts["categories"].vocabulary < 2:
            raise ConfigError(
                f"The part `categories` of a table has the vocabulary "
                f"{parts['categories'].vocabulary}: declare the number of categories, including "
                "category 0, which stands for a missing cell."
            )
        return TableTokens(self.width, parts, dtype=dtype, rngs=rngs)


class TableTokens(nnx.Module):
    """The module that `TableEncoder` builds."""

    def __init__(
        self, width: int, parts: Mapping[str, Modality], *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        def random_normal(*shape: int) -> nnx.Param:
            values = jax.random.normal(rngs.params(), (*shape, width), jnp.float32)
            return nnx.Param(values / width**0.5)

        self.columns = {name: parts[name].shape[0] if name in parts else 0 for name in _PARTS}
        self.dtype = dtype
        if numbers := self.columns["numbers"]:
            self.kernel, self.bias = random_normal(numbers), random_normal(numbers)
        if self.columns["known"]:
            self.missing = random_normal(numbers)
        if categories := self.columns["categories"]:
            self.vocabulary = parts["categories"].vocabulary
            self.embedding = random_normal(categories, self.vocabulary)
        self.features = FeatureShape(tokens=numbers + categories, width=width)

    def __call__(
        self,
        x: Mapping[str, jax.Array],
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """A dict of the parts, [B, n] and [B, m], to n + m tokens."""
        tokens = []
        if self.columns["numbers"]:
            numbers = x["numbers"].astype(self.dtype)
            known = x["known"] if self.columns["known"] else jnp.ones(numbers.shape, bool)
            numbers = jnp.where(known, numbers, 0)[:, :, None]
            kernel, bias = (param[...].astype(self.dtype) for param in (self.kernel, self.bias))
            of_numbers = numbers * kernel + bias
            if self.columns["known"]:
                missing = self.missing[...].astype(self.dtype)
                of_numbers = jnp.where(known[:, :, None], of_numbers, missing)
            tokens.append(of_numbers)
        if self.columns["categories"]:
            ids = x["categories"]
            column = jnp.arange(ids.shape[1])
            inside = (ids >= 0) & (ids < self.vocabulary)
            embedded = self.embedding[...].astype(self.dtype)[column, jnp.where(inside, ids, 0)]
            tokens.append(jnp.where(inside[:, :, None], embedded, jnp.nan))
        joined = jnp.concatenate(tokens, axis=1)
        return Features(joined, jnp.ones(joined.shape[:2], bool) if mask is None else mask)
