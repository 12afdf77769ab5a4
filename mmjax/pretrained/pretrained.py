"""Loading published weights from a folder, and using and exporting them."""

import dataclasses
import functools
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from mmjax.data.preprocessing import Pictures, Texts, pictures_of
from mmjax.encoders import BERT
from mmjax.encoders.backbone import BackboneModule, ImageBackbone
from mmjax.errors import DataError
from mmjax.pretrained.architectures import find
from mmjax.pretrained.files import read_json, read_tensors, sha256_of, weights_file
from mmjax.pretrained.names import Placed, published
from mmjax.pretrained.published import Published, dotted, leaves_of, placed_in
from mmjax.structs import Features, Modality

SIDE = 224  # of the images, in pixels, where nothing else says it


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """Published weights, ready for use.

    Attributes:
        encoder: what an experiment puts among its encoders to start from these weights; its own
            `encoder` is their architecture, without the classification layer.
        module: the module that holds the weights, with the classification layer if there is one.
        shape: of one input: (height, width, 3), or (the most word pieces,).
        preprocessing: from raw pictures or texts to inputs; None if nothing tells how.
        where: the file that they were read from.
        placed: published name -> where it went in the module.
        left_out: published name -> tensor that the module does not have.
    """

    encoder: Published
    module: BackboneModule
    shape: tuple[int, ...]
    preprocessing: Pictures | Texts | None
    where: Path
    placed: Mapping[str, Placed]
    left_out: Mapping[str, np.ndarray]

    def preprocess(self, raw: Any, **options: Any) -> np.ndarray:
        """Raw pictures or texts to inputs; see `Pictures` and `Texts`.

        Raises:
            DataError: nothing beside the weights tells how, or an example cannot be read.
        """
        if self.preprocessing is None:
            raise DataError(
                f"Nothing beside the weights in {self.where} tells how inputs are preprocessed: "
                "put the published tokenizer.json or preprocessor_config.json there, or load them "
                "with preprocessing=Pictures(...)."
            )
        return self.preprocessing(raw, **options)

    def features(self, inputs: Any, mask: Any = None) -> Features:
        """The tokens and which of them are valid, of preprocessed inputs.

        Args:
            inputs: what `preprocess` gives: [B, height, width, 3] or ids [B, L].
            mask: [B, L] valid positions of texts; None: the ids that are not 0.

        Raises:
            DataError: the shape, the type or an id is not one that the weights read.
        """
        inputs = self._checked(np.asarray(inputs))
        if mask is not None:
            mask = np.asarray(mask).astype(bool)
            if mask.shape != inputs.shape:
                raise DataError(
                    f"The mask is {mask.shape}, but the inputs are {inputs.shape}: a mask is for "
                    "texts, with one value for each id."
                )
        return _features(*self._parts, jnp.asarray(inputs), mask)

    def tokens(self, inputs: Any, mask: Any = None) -> jax.Array:
        """The tokens [B, T, D] of preprocessed inputs; see `features`."""
        return self.features(inputs, mask).tokens

    def pooled(self, inputs: Any, mask: Any = None) -> jax.Array:
        """The architecture's summary [B, D] of preprocessed inputs; see `features`."""
        return _pooled(*self._parts, self.features(inputs, mask))

    def logits(self, inputs: Any, mask: Any = None) -> jax.Array:
        """The class logits [B, classes] of preprocessed inputs; see `features`.

        Raises:
            DataError: the weights have no classification layer; else as `features`.
        """
        if not hasattr(self.module, "classifier"):
            raise DataError(f"The weights in {self.where} have no classification layer.")
        return _logits(*self._parts, self.features(inputs, mask))

    def export(self, file: str | Path) -> None:
        """Writes the weights, as they are now, to a safetensors file with the published names.

        Positions that were interpolated for `image_size` are written as they were interpolated.
        """
        save_file(published(leaves_of(self.module), self.placed, self.left_out), str(file))

    @functools.cached_property
    def _parts(self) -> tuple[Any, Any]:
        return nnx.split(self.module)

    def _checked(self, inputs: np.ndarray) -> np.ndarray:
        if isinstance(self.encoder.encoder, ImageBackbone):
            expected = (*self.shape, "a floating type")
            good = inputs.shape[1:] == self.shape and np.issubdtype(inputs.dtype, np.floating)
        else:
            longest = self.shape[0]
            expected = (f"up to {longest}", "an integer type")
            integer = np.issubdtype(inputs.dtype, np.integer)
            good = inputs.ndim == 2 and 1 <= inputs.shape[1] <= longest and integer
            words = self.module.embed.num_embeddings  # type: ignore[attr-defined]
            if good and inputs.size and not 0 <= inputs.min() <= inputs.max() < words:
                raise DataError(
                    f"The ids go from {inputs.min()} to {inputs.max()}, but the vocabulary has "
                    f"{words}: use the tokenizer of these weights."
                )
        if not good:
            *sides, kind = expected
            raise DataError(
                f"The inputs are {inputs.shape} of {inputs.dtype}, but these weights read [B, "
                f"{', '.join(map(str, sides))}] of {kind}: use what `preprocess` gives, or load "
                "them with image_size=(height, width)."
            )
        return inputs


@functools.partial(jax.jit, static_argnums=0)
def _features(graph: Any, state: Any, inputs: jax.Array, mask: jax.Array | None) -> Features:
    module, present = nnx.merge(graph, state), jnp.ones(len(inputs), bool)
    return module.encode(inputs, mask, present, train=False, rngs=None)


@functools.partial(jax.jit, static_argnums=0)
def _pooled(graph: Any, state: Any, features: Features) -> jax.Array:
    return nnx.merge(graph, state).pool(features, train=False, rngs=None)


@functools.partial(jax.jit, static_argnums=0)
def _logits(graph: Any, state: Any, features: Features) -> jax.Array:
    return nnx.merge(graph, state).logits(features)


def load(
    folder: str | Path,
    *,
    image_size: tuple[int, int] | None = None,
    preprocessing: Pictures | None = None,
) -> Pretrained:
    """Loads published weights exactly, and says what was loaded.

    Args:
        folder: with `model.safetensors` (or the only file of that kind) and the `config.json`,
            `tokenizer.json` and `preprocessor_config.json` that were published with it; or such a
            file, where its names alone tell the architecture.
        image_size: height and width of the inputs; None: those of the preprocessing, else 224.
            Positions are interpolated.
        preprocessing: of pictures, where nothing beside the weights tells it.

    Returns:
        The weights. Nothing is downloaded.

    Raises:
        DataError: a file is missing, damaged, a pickle, or of another architecture than mmjax
            loads, or a tensor does not fit.
    """
    path = Path(folder)
    file = weights_file(path)
    beside = file.parent
    # Beside a file that was named by itself, the other files may be of other weights.
    read = read_json if path.is_dir() else lambda file: {}
    description, tensors = read(beside / "config.json"), read_tensors(file)
    config, rules_of = find(tensors, description, str(file))
    process: Pictures | Texts | None
    if isinstance(config, BERT):
        config = _sentence(config, beside, read)
        longest = int(read(beside / "sentence_bert_config.json").get("max_seq_length", 0))
        longest = min(longest or config.positions, config.positions)
        tokenizer = beside / "tokenizer.json"
        words = next(x for name, x in tensors.items() if name.endswith("word_embeddings.weight"))
        process = None
        if path.is_dir() and tokenizer.exists():
            process = Texts(str(tokenizer), longest, sha256_of(tokenizer), len(words))
            process.tokenizer  # noqa: B018 - a damaged one is refused now
        modality = Modality("text", (config.positions,), vocabulary=len(words))
    else:
        assert isinstance(config, ImageBackbone)
        process = preprocessing or pictures_of(
            description, read(beside / "preprocessor_config.json")
        )
        if process and image_size:
            process = _resized(process, image_size)
        size = image_size or (process.size if process else (SIDE, SIDE))
        if process:
            config = dataclasses.replace(config, mean=process.mean, std=process.std)
        modality = Modality("image", (*size, 3))
    module, found, placed = placed_in(config, modality, tensors, rules_of, file)
    graph, state = nnx.split(module)
    filled = jax.tree_util.tree_map_with_path(
        lambda at, leaf: jnp.asarray(found[dotted(at)]), state
    )
    module = nnx.merge(graph, filled)
    left_out = {name: tensors[name] for name, one in placed.items() if not one.paths}
    count = sum(leaf.size for leaf in found.values())
    print(
        f"mmjax: {type(config).__name__} from {file}: {len(placed) - len(left_out)} tensors, "
        f"{count / 1e6:.2f} M values"
        + (f"; left out: {', '.join(sorted(left_out)[:5])}" if left_out else "")
        + (" and more" if len(left_out) > 5 else ""),
        file=sys.stderr,
    )
    encoder = Published(
        encoder=dataclasses.replace(config, classes=0),
        folder=str(folder),
        sha256=sha256_of(file),
        words=modality.vocabulary,
        preprocessing=process,
    )
    return Pretrained(encoder, module, modality.shape, process, file, placed, left_out)


def _sentence(config: BERT, folder: Path, read: Any) -> BERT:
    """The summary of a sentence encoder, as sentence-transformers writes it beside the weights."""
    pooling = read(folder / "1_Pooling" / "config.json")
    if not pooling:
        return config
    if not pooling.get("pooling_mode_mean_tokens"):
        raise DataError(
            f"The sentence encoder in {folder} pools otherwise than by the mean of its tokens, "
            "which mmjax does not do: remove 1_Pooling/config.json to use the pooler of BERT."
        )
    modules = read(folder / "modules.json")
    kinds = [str(module.get("type", "")) for module in modules.get("list", [])]
    unit = any(kind.endswith("Normalize") for kind in kinds)
    return dataclasses.replace(config, pooling="mean", unit=unit)


def _resized(process: Pictures, size: tuple[int, int]) -> Pictures:
    """The preprocessing for another size of the inputs, with the same share cropped."""
    if isinstance(process.resize, tuple):
        return dataclasses.replace(process, size=size, resize=size)
    resize = round(process.resize * min(size) / min(process.size))
    return dataclasses.replace(process, size=size, resize=resize)
