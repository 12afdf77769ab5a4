"""A bag of words: the embeddings of a text's words, without their order."""

import dataclasses
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from mmjax.encoders.encoder import Encoder, FeatureShape, valid_steps
from mmjax.errors import check_sizes, unknown_name
from mmjax.structs import Features, Modality


@dataclasses.dataclass(frozen=True)
class BagOfWords(Encoder):
    """The sum or the mean of the embeddings of all words; a linear function of their counts.

    A text without words gives zeros, and a token that is masked.

    Attributes:
        width: D of the embeddings.
        output: `mean` or `sum`, one token; or `tokens`, one per word.

    Reference:
        Iyyer, Manjunatha, Boyd-Graber and Daumé 2015, Deep Unordered Composition Rivals Syntactic
        Methods for Text Classification, section 2 (neural bag of words).
    """

    width: int = 64
    output: Literal["mean", "sum", "tokens"] = "mean"
    kinds: ClassVar[tuple[str, ...]] = ("text",)

    def __post_init__(self) -> None:
        check_sizes(self, "width")
        if self.output not in ("mean", "sum", "tokens"):
            raise unknown_name("output of BagOfWords", self.output, ("mean", "sum", "tokens"))

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> "BagOfWordsModule":
        """See `Encoder.build`."""
        self.check_kind(modality)
        return BagOfWordsModule(self, modality, dtype=dtype, rngs=rngs)


class BagOfWordsModule(nnx.Module):
    """The module that `BagOfWords` builds."""

    def __init__(
        self, config: BagOfWords, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ) -> None:
        self.embed = nnx.Embed(modality.vocabulary, config.width, dtype=dtype, rngs=rngs)
        self.output = config.output
        words = modality.shape[0] if config.output == "tokens" else 1
        self.features = FeatureShape(tokens=words, width=config.width)

    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None,
        present: jax.Array,
        *,
        train: bool,
        rngs: nnx.Rngs | None,
    ) -> Features:
        """[B, L] word ids to one token, or to one for each word; id 0 is padding."""
        mask = valid_steps(x, mask)
        words = Features(self.embed(x), mask)
        if self.output == "tokens":
            return words
        bag = words.pooled  # zeros without words
        if self.output == "sum":
            bag = bag * mask.sum(axis=1, keepdims=True).astype(bag.dtype)
        return Features.of_vector(bag, mask.any(axis=1))
