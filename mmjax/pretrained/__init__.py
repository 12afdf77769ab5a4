"""Published weights that load exactly: BERT, ViT, ResNet, VGG, AlexNet and EfficientNet-Lite0.

minilm = mmjax.pretrained.load("all-MiniLM-L6-v2")      # a folder with safetensors
minilm.pooled(minilm.preprocess(["A dog runs."]))       # [1, 384]
"""

from mmjax.data.preprocessing import Pictures, Texts
from mmjax.pretrained.pretrained import Pretrained, load
from mmjax.pretrained.published import Published

__all__ = ["Pictures", "Pretrained", "Published", "Texts", "load"]
