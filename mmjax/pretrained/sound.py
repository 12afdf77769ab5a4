"""Weights that hear sound: how they are recognised, and the tables of their names."""

from mmjax.encoders import AST, SileroVAD
from mmjax.encoders.silero_vad import CONVOLUTIONS, WINDOW
from mmjax.errors import DataError
from mmjax.pretrained.architecture import (
    Architecture,
    Description,
    Tensors,
    classes_of,
    count,
    needed,
)
from mmjax.pretrained.names import Rule, convolution, convolution_of_time, layer_norm, linear

# Silero's voice activity detector: the names of the safetensors file in its package.


def _is_silero(tensors: Tensors, description: Description) -> bool:
    return "stft_conv.weight" in tensors and "lstm_cell.weight_ih" in tensors


def _silero(tensors: Tensors, description: Description, where: str) -> SileroVAD:
    window = tensors["stft_conv.weight"].shape[-1]
    if window != WINDOW:  # that of 16 ms at 16 kHz, so no file need tell the sample rate
        raise DataError(
            f"The weights in {where} are of a silero-vad with spectra of {window} samples: mmjax "
            f"loads the one for 16 kHz, whose spectra are of {WINDOW}."
        )
    return SileroVAD(classes=1)


def _silero_rules(config: SileroVAD) -> list[Rule]:
    return [
        *convolution_of_time("stft_conv", "spectra"),
        *(
            rule
            for index in range(len(CONVOLUTIONS))
            for rule in convolution_of_time(f"conv{index + 1}", f"convs.{index}")
        ),
        Rule(r"lstm_cell\.weight_ih", "from_input.kernel", "linear"),
        Rule(r"lstm_cell\.bias_ih", "from_input.bias"),
        Rule(r"lstm_cell\.weight_hh", "from_state.kernel", "linear"),
        Rule(r"lstm_cell\.bias_hh", "from_state.bias"),
        Rule(r"final_conv\.weight", "classifier.kernel", "pointwise"),
        Rule(r"final_conv\.bias", "classifier.bias"),
    ]


SILERO_VAD = Architecture(_is_silero, _silero, _silero_rules)


# The Audio Spectrogram Transformer: transformers' names, with or without the prefix of its model
# with a head.

PREFIX = "audio_spectrogram_transformer."


def _is_ast(tensors: Tensors, description: Description) -> bool:
    named = description.get("model_type", "audio-spectrogram-transformer")
    tokens = any(name.endswith("embeddings.distillation_token") for name in tensors)
    return tokens and named == "audio-spectrogram-transformer"  # DeiT has such a token, too


def _ast(tensors: Tensors, description: Description, where: str) -> AST:
    bare = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    if description.get("hidden_act", "gelu") != "gelu":
        raise DataError(
            f"The weights in {where} are of an AST with the activation "
            f"{description['hidden_act']!r}: mmjax loads those with 'gelu'."
        )
    heads = needed(description, "num_attention_heads", where)
    kernel = bare["embeddings.patch_embeddings.projection.weight"]
    strides = ("time_stride", "frequency_stride")
    return AST(
        width=len(kernel),
        layers=count(bare, r"encoder\.layer\.(\d+)\."),
        heads=heads,
        hidden=len(bare["encoder.layer.0.intermediate.dense.weight"]),
        patch=kernel.shape[-1],
        stride=(needed(description, strides[0], where), needed(description, strides[1], where)),
        frames=needed(description, "max_length", where),
        bands=needed(description, "num_mel_bins", where),
        dropout=float(description.get("hidden_dropout_prob", 0.0)),
        epsilon=float(needed(description, "layer_norm_eps", where)),
        classes=classes_of(tensors, "classifier.dense.weight"),
    )


def _ast_rules(config: AST) -> list[Rule]:
    prefix = rf"(?:{PREFIX})?".replace(".", r"\.")
    embeddings = prefix + r"embeddings\."
    block, ours = prefix + r"encoder\.layer\.(\d+)\.", r"blocks.\1."
    return [
        Rule(embeddings + "cls_token", "class_token"),
        Rule(embeddings + "distillation_token", "distillation_token"),
        Rule(embeddings + "position_embeddings", "positions"),
        *convolution(embeddings + r"patch_embeddings\.projection", "patch"),
        *linear(block + r"attention\.attention\.query", ours + "attention.query"),
        *linear(block + r"attention\.attention\.key", ours + "attention.key"),
        *linear(block + r"attention\.attention\.value", ours + "attention.value"),
        *linear(block + r"attention\.output\.dense", ours + "attention.out"),
        *layer_norm(block + "layernorm_before", ours + "norm1"),
        *layer_norm(block + "layernorm_after", ours + "norm2"),
        *linear(block + r"intermediate\.dense", ours + "up"),
        *linear(block + r"output\.dense", ours + "down"),
        *layer_norm(prefix + "layernorm", "norm"),
        *layer_norm(r"classifier\.layernorm", "classifier_norm"),
        *linear(r"classifier\.dense", "classifier"),
    ]


AUDIO_SPECTROGRAM = Architecture(_is_ast, _ast, _ast_rules)
