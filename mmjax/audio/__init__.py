"""Sound: log-mel spectrograms and cepstra on the device, resampling on the host."""

from mmjax.audio.cepstra import cepstra, deltas, mfcc
from mmjax.audio.convention import HTK, LIBROSA, Convention
from mmjax.audio.kaldi import kaldi_fbank
from mmjax.audio.resample import resample
from mmjax.audio.spectrogram import frame_mask, frames, log_mel

__all__ = [
    "HTK",
    "LIBROSA",
    "Convention",
    "cepstra",
    "deltas",
    "frame_mask",
    "frames",
    "kaldi_fbank",
    "log_mel",
    "mfcc",
    "resample",
]
