"""An encoder of an experiment that starts from published weights."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.data.preprocessing import Pictures, Texts
from mmjax.encoders import AST, CLIPImage, CLIPText, Encoder, ViT
from mmjax.encoders.backbone import Backbone
from mmjax.errors import ConfigError, DataError
from mmjax.pretrained.architectures import find
from mmjax.pretrained.clip import both_towers, split
from mmjax.pretrained.files import read_json, read_tensors, sha256_of, weights_file
from mmjax.pretrained.names import Placed, Rule, place
from mmjax.pretrained.positions import resized_positions, sound_positions
from mmjax.structs import Modality


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published(Encoder):
    """An encoder whose parameters start from published weights; see `mmjax.pretrained.load`.

    The weights are read when a new run begins. After that the run has all that it needs: its
    checkpoints hold the parameters, and `published/` in its directory holds the tokenizer.

    Attributes:
        encoder: their architecture. Its output and the like can be changed, its sizes cannot.
        folder: the folder or file with the weights, as in `mmjax.pretrained.load`.
        sha256: of the safetensors file; empty: not checked.
        words: size of the vocabulary of text weights; 0 for other weights.
        preprocessing: from raw pictures or texts to inputs; None if nothing tells how. Inputs of
            an experiment's images are in [0, 1] or uint8: the encoder subtracts the mean itself.
    """

    encoder: Backbone
    folder: str
    sha256: str = ""
    words: int = 0
    preprocessing: Pictures | Texts | None = None

    @property
    def kinds(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `Encoder`."""
        return self.encoder.kinds

    def build(self, modality: Modality, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> Any:
        """Makes the module, with random parameters; see `Encoder.build`.

        Raises:
            ConfigError: another kind of modality, or more words or positions than the weights have.
        """
        self.check_kind(modality)
        if modality.vocabulary > self.words > 0:
            raise ConfigError(
                f"The texts have token ids up to {modality.vocabulary - 1}, but the weights in "
                f"{self.folder} know {self.words} words: make the ids with their tokenizer, as "
                "mmjax.pretrained.load(folder).preprocess(texts) does."
            )
        if self.words:
            modality = dataclasses.replace(modality, vocabulary=self.words)
        module = self.encoder.build(modality, dtype=dtype, rngs=rngs)
        module.published = _Origin(self, modality.shape, modality.sample_rate)
        return module

    def values(self, shape: tuple[int, ...], sample_rate: int = 0) -> dict[str, np.ndarray]:
        """Dotted path in the module -> the published value, float32.

        Args:
            shape: of one input; positions of images are interpolated for it.
            sample_rate: of sound, in Hz.

        Raises:
            DataError: the weights are missing, damaged, not those of `sha256`, or do not fit.
        """
        path = Path(self.folder)
        file = weights_file(path)
        if self.sha256 and sha256_of(file) != self.sha256:
            raise DataError(
                f"The weights {file} are not those that the experiment names by their SHA-256: put "
                "that file back, or load the weights again with mmjax.pretrained.load."
            )
        tensors: Mapping[str, np.ndarray] = read_tensors(file)
        description = read_json(file.parent if path.is_dir() else None, "config.json")
        if both_towers(tensors, description):
            image, text, _ = split(tensors, str(file))
            tensors = text if isinstance(self.encoder, CLIPText) else image
        found, rules_of = find(tensors, description, str(file))
        whole = dataclasses.replace(self.encoder, classes=found.classes)
        if type(whole) is not type(found):
            raise DataError(
                f"The weights {file} are of {type(found).__name__}, but the experiment's encoder "
                f"is {type(whole).__name__}: load the weights again with mmjax.pretrained.load."
            )
        modality = Modality(self.kinds[0], shape, "", self.words, sample_rate)
        _, values, _ = placed_in(whole, found, modality, tensors, rules_of, file)
        own = leaves_of(shapes_of(self.encoder, modality))  # without the classification layer
        return {name: values[name] for name in own}

    def provenance(self) -> dict[str, str]:
        """What `environment.json` says of the weights."""
        file = weights_file(Path(self.folder))
        return {"file": str(file), "sha256": sha256_of(file)}


@dataclasses.dataclass(frozen=True)
class _Origin:
    """Where the parameters of a module start; a static part of it."""

    encoder: Published
    shape: tuple[int, ...]
    sample_rate: int

    def values(self) -> dict[str, np.ndarray]:
        """See `Published.values`."""
        return self.encoder.values(self.shape, self.sample_rate)


def placed_in(
    config: Backbone,
    found: Backbone,
    modality: Modality,
    tensors: Mapping[str, np.ndarray],
    rules_of: Callable[[Any], list[Rule]],
    file: Path,
) -> tuple[Any, dict[str, np.ndarray], dict[str, Placed]]:
    """The tensors of a file in the places that a module has for them.

    Args:
        config: of the module.
        found: the config that the file is of; its positions may be of other inputs.
        modality: what the module reads.
        tensors: published name -> array.
        rules_of: the table of names of a config.
        file: the file, for the error.

    Returns:
        (the module, with shapes only; dotted path -> value; published name -> where it went)

    Raises:
        DataError: see `place`.
    """
    if isinstance(config, AST) and isinstance(found, AST) and config.frames != found.frames:
        tensors = sound_positions(tensors, found, config.frames)
    if isinstance(config, ViT | CLIPImage):
        height, width, _ = modality.shape
        tensors = resized_positions(tensors, config, (height, width))
    module = shapes_of(config, modality)
    shapes = {name: leaf.shape for name, leaf in leaves_of(module).items()}
    return module, *place(tensors, rules_of(config), shapes, f"{file} ({config})")


def shapes_of(config: Backbone, modality: Modality) -> Any:
    """The module that a config builds, with shapes in place of arrays."""
    return nnx.eval_shape(
        lambda: config.build(modality, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    )


def leaves_of(module: nnx.Module) -> dict[str, Any]:
    """Dotted path -> array, of every parameter and running statistic."""
    leaves = jax.tree_util.tree_leaves_with_path(nnx.state(module, (nnx.Param, nnx.BatchStat)))
    return {dotted(at): leaf for at, leaf in leaves}


def dotted(at: tuple[Any, ...]) -> str:
    """The path of a leaf as one string."""
    return ".".join(str(key.key) for key in at if hasattr(key, "key"))
