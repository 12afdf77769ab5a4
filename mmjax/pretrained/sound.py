"""Weights that hear sound: how they are recognised, and the tables of their names."""

from mmjax.encoders import SileroVAD
from mmjax.encoders.silero_vad import CONVOLUTIONS, WINDOW
from mmjax.errors import DataError
from mmjax.pretrained.architecture import Architecture, Description, Tensors
from mmjax.pretrained.names import Rule, convolution_of_time

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
