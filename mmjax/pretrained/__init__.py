"""Published weights that load exactly: BERT, ViT, CLIP, ResNet, VGG, AlexNet, EfficientNet-Lite0.

minilm = mmjax.pretrained.load("all-MiniLM-L6-v2")      # a folder with safetensors
minilm.pooled(minilm.preprocess(["A dog runs."]))       # [1, 384]
"""

from mmjax.pretrained.clip import PretrainedCLIP
from mmjax.pretrained.preprocessing import Pictures, Texts
from mmjax.pretrained.pretrained import Pretrained, load

__all__ = ["Pictures", "Pretrained", "PretrainedCLIP", "Texts", "load"]
