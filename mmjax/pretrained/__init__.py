"""Published weights that load exactly, from BERT to silero-vad: `architectures` lists them.

minilm = mmjax.pretrained.load("all-MiniLM-L6-v2")      # a folder with safetensors
minilm.pooled(minilm.preprocess(["A dog runs."]))       # [1, 384]
"""

from mmjax.data.preprocessing import Pictures, Texts
from mmjax.pretrained.clip import PretrainedCLIP
from mmjax.pretrained.frozen_features import FrozenFeatures
from mmjax.pretrained.pretrained import Pretrained, load
from mmjax.pretrained.published import Published
from mmjax.pretrained.sounds import FilterBanks, Waveforms

__all__ = [
    "FilterBanks",
    "FrozenFeatures",
    "Pictures",
    "Pretrained",
    "PretrainedCLIP",
    "Published",
    "Texts",
    "Waveforms",
    "load",
]
