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
from mmjax.encoders import AST, BERT, CLIPText, SileroVAD
from mmjax.encoders.backbone import Backbone, BackboneModule, ImageBackbone
from mmjax.encoders.silero_vad import CHUNK, RATE
from mmjax.errors import DataError
from mmjax.layers import merge_adapters
from mmjax.pretrained.architecture import Description, Tensors
from mmjax.pretrained.architectures import find
from mmjax.pretrained.clip import PretrainedCLIP, both_towers, split
from mmjax.pretrained.files import read_json, read_tensors, sha256_of, weights_file
from mmjax.pretrained.names import Placed, published
from mmjax.pretrained.published import Published, dotted, leaves_of, placed_in
from mmjax.pretrained.sounds import FilterBanks, Waveforms, filter_banks_of
from mmjax.structs import Features, Modality

Preprocessing = Pictures | Texts | Waveforms | FilterBanks
TABLES_OF_WORDS = ("word_embeddings.weight", "token_embedding.weight")
SIDE = 224  # of the images, in pixels, where nothing else says it


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """Published weights, ready for use.

    Attributes:
        encoder: what an experiment puts among its encoders to start from these weights; its own
            `encoder` is their architecture, without the classification layer.
        module: the module that holds the weights, with the classification layer if there is one.
        shape: of one input: (height, width, 3), (the most word pieces,), (the fewest samples,),
            or of an AST (frames, bands).
        preprocessing: from raw pictures, texts or sound to inputs; None if nothing tells how.
        where: the file that they were read from.
        placed: published name -> where it went in the module.
        left_out: published name -> tensor that the module does not have.
    """

    encoder: Published
    module: BackboneModule
    shape: tuple[int, ...]
    preprocessing: Preprocessing | None
    where: Path
    placed: Mapping[str, Placed]
    left_out: Mapping[str, np.ndarray]

    def preprocess(self, raw: Any, **options: Any) -> np.ndarray:
        """Raw pictures, texts or sound to inputs.

        See `Pictures`, `Texts`, `Waveforms` and `FilterBanks`.

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
            inputs: what `preprocess` gives: [B, height, width, 3], ids [B, L], waveforms [B, S],
                or of an AST [B, frames, bands].
            mask: valid positions [B, L] of texts or [B, S] of waveforms; None: the ids that are not
                0 (CLIP: those up to the end of the text), the samples that are not NaN.

        Raises:
            DataError: the shape, the type or an id is not one that the weights read.
        """
        inputs = self._checked(np.asarray(inputs))
        if mask is None and isinstance(self.config, SileroVAD):
            mask = ~np.isnan(inputs)
        if mask is not None:
            mask = np.asarray(mask).astype(bool)
            if mask.shape != inputs.shape:
                raise DataError(
                    f"The mask is {mask.shape}, but the inputs are {inputs.shape}: a mask is for "
                    "texts and sound, with one value for each id or sample."
                )
        return _features(*self._parts, jnp.asarray(inputs), mask)

    def tokens(self, inputs: Any, mask: Any = None) -> jax.Array:
        """The tokens [B, T, D] of preprocessed inputs; see `features`."""
        return self.features(inputs, mask).tokens

    def pooled(self, inputs: Any, mask: Any = None) -> jax.Array:
        """The architecture's summary [B, D] of preprocessed inputs; see `features`.

        Of CLIP: the projected embedding, which transformers' `get_image_features` and
        `get_text_features` give; not divided by its norm.
        """
        return _pooled(*self._parts, self.features(inputs, mask))

    def logits(self, inputs: Any, mask: Any = None) -> jax.Array:
        """The class logits [B, classes] of preprocessed inputs; see `features`.

        Of silero-vad: the logits of speech [B, T], one for each chunk.

        Raises:
            DataError: the weights have no classification layer; else as `features`.
        """
        if not hasattr(self.module, "classifier"):
            raise DataError(f"The weights in {self.where} have no classification layer.")
        return _logits(*self._parts, self.features(inputs, mask))

    def speech(self, inputs: Any, mask: Any = None) -> jax.Array:
        """The probability of speech in each chunk, [B, T]; 0 in those that are not valid.

        For sound that comes in pieces, `module.listen` goes on from what was heard before.

        Raises:
            DataError: the weights are of no voice activity detector; else as `features`.
        """
        if not isinstance(self.config, SileroVAD):
            raise DataError(f"The weights in {self.where} do not tell speech: use silero-vad.")
        features = self.features(inputs, mask)
        return jnp.where(features.mask, nnx.sigmoid(_logits(*self._parts, features)), 0)

    def trained(self, module: nnx.Module) -> "Pretrained":
        """These weights after training in a run, such as to `export` them.

        Args:
            module: of a run whose encoder began with them, as `run.model.encoders["text"]`; the
                adapters of `LoRA` are merged. The classification layer stays as it is, as such an
                encoder has none.

        Raises:
            DataError: the module is not of this architecture.
        """
        own, given = leaves_of(self.module), leaves_of(merge_adapters(module))
        values = {name: own[name] for name in own if name.startswith("classifier")} | given
        other = sorted(own.keys() ^ values.keys()) or sorted(
            name for name in own if own[name].shape != values[name].shape
        )
        if other:
            raise DataError(
                f"The module is of another architecture than the weights in {self.where}, as "
                f"{other[0]!r} shows: give the encoder of a run that began with these weights."
            )
        return dataclasses.replace(self, module=_with_values(self.module, values))

    def export(self, file: str | Path) -> None:
        """Writes the weights, as they are now, to a safetensors file with the published names.

        Positions that were interpolated for `image_size` are written as they were interpolated.
        """
        save_file(self.published(), str(file))

    def published(self) -> dict[str, np.ndarray]:
        """Published name -> tensor, of the weights as they are now; see `export`."""
        return published(leaves_of(self.module), self.placed, self.left_out)

    @property
    def config(self) -> Backbone:
        """The architecture, without the classification layer."""
        return self.encoder.encoder

    @functools.cached_property
    def _parts(self) -> tuple[Any, Any]:
        return nnx.split(self.module)

    def _checked(self, inputs: np.ndarray) -> np.ndarray:
        if isinstance(self.config, BERT | CLIPText):
            reads, kind = f"up to {self.shape[0]}", "an integer type"
            integer = np.issubdtype(inputs.dtype, np.integer)
            good = inputs.ndim == 2 and 1 <= inputs.shape[1] <= self.shape[0] and integer
            if good and inputs.size:
                self._check_ids(inputs)
        elif isinstance(self.config, SileroVAD):
            reads, kind = f"at least {self.shape[0]}", "a floating type"
            good = inputs.ndim == 2 and inputs.shape[1] >= self.shape[0]
            good = good and np.issubdtype(inputs.dtype, np.floating)
        else:
            reads, kind = ", ".join(map(str, self.shape)), "a floating type"
            good = inputs.shape[1:] == self.shape and np.issubdtype(inputs.dtype, np.floating)
        images = isinstance(self.config, ImageBackbone)
        if not good:
            raise DataError(
                f"The inputs are {inputs.shape} of {inputs.dtype}, but these weights read [B, "
                f"{reads}] of {kind}: use what `preprocess` gives"
                + (", or load them with image_size=(height, width)." if images else ".")
            )
        return inputs

    def _check_ids(self, ids: np.ndarray) -> None:
        words = self.module.embed.num_embeddings  # type: ignore[attr-defined]
        if not 0 <= ids.min() <= ids.max() < words:
            raise DataError(
                f"The ids go from {ids.min()} to {ids.max()}, but the vocabulary has {words}: use "
                "the tokenizer of these weights."
            )
        end = self.config.end if isinstance(self.config, CLIPText) else 0
        endless = np.flatnonzero((ids != end).all(axis=-1) & (end > 0))
        if endless.size:
            raise DataError(
                f"Text {endless[0]} has no end (id {end}), whose token is CLIP's summary: use what "
                "`preprocess` gives."
            )


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
    frames: int | None = None,
) -> Pretrained | PretrainedCLIP:
    """Loads published weights exactly, and says what was loaded.

    Args:
        folder: with `model.safetensors` (or the only file of that kind) and the `config.json`,
            `tokenizer.json` and `preprocessor_config.json` that were published with it; or such a
            file, where its names alone tell the architecture.
        image_size: height and width of the inputs; None: those of the preprocessing, else 224.
            Positions are interpolated.
        preprocessing: of pictures, where nothing beside the weights tells it.
        frames: of the filter banks of an AST, 10 ms each; None: as published. The first positions
            are kept, or they are interpolated.

    Returns:
        The weights; of a CLIP with both towers, a `PretrainedCLIP`. Nothing is downloaded.

    Raises:
        DataError: a file is missing, damaged, a pickle, or of another architecture than mmjax
            loads, or a tensor does not fit.
    """
    path = Path(folder)
    file = weights_file(path)
    # Beside a file that was named by itself, the other files may be of other weights.
    folder_of_it = file.parent if path.is_dir() else None
    description, tensors = read_json(folder_of_it, "config.json"), read_tensors(file)
    options = (path, file, folder_of_it, description, image_size, preprocessing, frames)
    if not both_towers(tensors, description):
        return _loaded(tensors, *options)
    image, text, scale = split(tensors, str(file))
    return PretrainedCLIP(_loaded(image, *options), _loaded(text, *options), scale, file)


def _loaded(
    tensors: Tensors,
    given: Path,
    file: Path,
    folder: Path | None,
    description: Description,
    image_size: tuple[int, int] | None,
    preprocessing: Pictures | None,
    frames: int | None,
) -> Pretrained:
    """The weights of one encoder; see `load`."""
    found_config, rules_of = find(tensors, description, str(file))
    config: Any = found_config
    process: Preprocessing | None
    if isinstance(config, BERT | CLIPText):
        longest = config.positions
        if isinstance(config, BERT):
            config = _sentence(config, folder)
            said = int(read_json(folder, "sentence_bert_config.json").get("max_seq_length", 0))
            longest = min(said or longest, longest)
        words = next(len(x) for name, x in tensors.items() if name.endswith(TABLES_OF_WORDS))
        process = None
        if folder and (folder / "tokenizer.json").exists():
            tokenizer = folder / "tokenizer.json"
            process = Texts(str(tokenizer), longest, sha256_of(tokenizer), words)
            process.tokenizer  # noqa: B018 - a damaged one is refused now
        modality = Modality("text", (config.positions,), vocabulary=words)
    elif isinstance(config, AST):
        config, banks = filter_banks_of(config, read_json(folder, "preprocessor_config.json"), file)
        if frames:
            config = dataclasses.replace(config, frames=frames)
            banks = banks and FilterBanks(config)
        process = banks
        modality = Modality("audio", (config.samples,), sample_rate=config.sample_rate)
    elif isinstance(config, SileroVAD):
        modality = Modality("audio", (CHUNK,), sample_rate=RATE)
        process = Waveforms(RATE, least=CHUNK)
    else:
        assert isinstance(config, ImageBackbone)
        process = pictures = preprocessing or pictures_of(
            description, read_json(folder, "preprocessor_config.json")
        )
        if pictures and image_size:
            pictures = _resized(pictures, image_size)
        size = image_size or (pictures.size if pictures else (SIDE, SIDE))
        if pictures:
            config = dataclasses.replace(config, mean=pictures.mean, std=pictures.std)
        modality = Modality("image", (*size, 3))
    module, found, placed = placed_in(config, found_config, modality, tensors, rules_of, file)
    module = _with_values(module, found)
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
        folder=str(given),
        sha256=sha256_of(file),
        words=modality.vocabulary,
        preprocessing=process if isinstance(process, Pictures | Texts) else None,
    )
    shape = (config.frames, config.bands) if isinstance(config, AST) else modality.shape
    return Pretrained(encoder, module, shape, process, file, placed, left_out)


def _with_values(module: Any, values: Mapping[str, Any]) -> Any:
    """A module like another, with the values at their dotted paths."""
    graph, state = nnx.split(module)
    filled = jax.tree_util.tree_map_with_path(
        lambda at, leaf: jnp.asarray(values[dotted(at)]) if dotted(at) in values else leaf, state
    )
    return nnx.merge(graph, filled)


def _sentence(config: BERT, folder: Path | None) -> BERT:
    """The summary of a sentence encoder, as sentence-transformers writes it beside the weights."""
    pooling = read_json(folder, "1_Pooling/config.json")
    if not pooling:
        return config
    if not pooling.get("pooling_mode_mean_tokens"):
        raise DataError(
            f"The sentence encoder in {folder} pools otherwise than by the mean of its tokens, "
            "which mmjax does not do: remove 1_Pooling/config.json to use the pooler of BERT."
        )
    modules = read_json(folder, "modules.json")
    kinds = [str(module.get("type", "")) for module in modules.get("list", [])]
    unit = any(kind.endswith("Normalize") for kind in kinds)
    return dataclasses.replace(config, pooling="mean", unit=unit)


def _resized(process: Pictures, size: tuple[int, int]) -> Pictures:
    """The preprocessing for another size of the inputs, with the same share cropped."""
    if isinstance(process.resize, tuple):
        return dataclasses.replace(process, size=size, resize=size)
    resize = round(process.resize * min(size) / min(process.size))
    return dataclasses.replace(process, size=size, resize=resize)
