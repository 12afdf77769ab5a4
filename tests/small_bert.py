"""Small published weights of a BERT, with their tokenizer, for tests."""

import json
import re

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mmjax.encoders import BERT
from mmjax.pretrained.architectures import _bert_rules
from mmjax.pretrained.names import Placed, published
from mmjax.pretrained.published import leaves_of
from mmjax.structs import Modality

SIZES = {"width": 8, "layers": 2, "heads": 2, "hidden": 16, "positions": 12}
DESCRIPTION = {"model_type": "bert", "num_attention_heads": 2, "layer_norm_eps": 1e-12}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "runs"]


def names_of_bert():
    """Published name -> where it goes, of a BERT of 2 blocks, as transformers writes it."""
    block = [
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "attention.output.LayerNorm",
        "intermediate.dense",
        "output.dense",
        "output.LayerNorm",
    ]
    layers = [f"encoder.layer.{index}.{part}" for index in range(2) for part in block]
    tables = [f"embeddings.{name}_embeddings.weight" for name in ("word", "position", "token_type")]
    pairs = [
        f"{layer}.{part}"
        for layer in [*layers, "embeddings.LayerNorm", "pooler.dense"]
        for part in ("weight", "bias")
    ]
    return tables + pairs


def write_bert(folder):
    """Writes a small BERT: weights, config.json and tokenizer.json."""
    random = np.random.default_rng(0)
    module = nnx.eval_shape(
        lambda: BERT(**SIZES).build(
            Modality("text", (12,), vocabulary=len(WORDS)),
            dtype=jnp.dtype("float32"),
            rngs=nnx.Rngs(0),
        )
    )
    ours = {
        path: random.standard_normal(leaf.shape).astype(np.float32)
        for path, leaf in leaves_of(module).items()
    }
    placed = {}
    for name in names_of_bert():
        for rule in _bert_rules(BERT(**SIZES)):
            if match := re.fullmatch(rule.name, name):
                placed[name] = Placed((match.expand(rule.path),), rule.transform)
                break
    assert len(placed) == len(ours) == len(names_of_bert())
    save_file(published(ours, placed, {}), str(folder / "model.safetensors"))
    (folder / "config.json").write_text(json.dumps(DESCRIPTION))
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
