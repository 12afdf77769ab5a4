"""Encoders: one file per family, each from one modality to `Features`."""

from mmjax.encoders.audio_spectrogram_transformer import AST
from mmjax.encoders.audio_transformer import AudioTransformer
from mmjax.encoders.bag_of_words import BagOfWords
from mmjax.encoders.bert import BERT
from mmjax.encoders.clip import CLIPImage, CLIPText
from mmjax.encoders.crnn import CRNN
from mmjax.encoders.efficientnet import EfficientNetLite0
from mmjax.encoders.encoder import Encoder, EncoderModule, FeatureShape
from mmjax.encoders.flatten import Flatten
from mmjax.encoders.frames import Frames
from mmjax.encoders.graph import GraphEncoder
from mmjax.encoders.lenet import LeNet
from mmjax.encoders.log_mel_cnn import LogMelCNN
from mmjax.encoders.lora import LoRA
from mmjax.encoders.lstm import LSTM
from mmjax.encoders.mfcc_gru import MFCCGRU
from mmjax.encoders.mlp import MLP
from mmjax.encoders.resnet import ResNet
from mmjax.encoders.sequence_cnn import SequenceCNN
from mmjax.encoders.sequence_rnn import SequenceRNN
from mmjax.encoders.sequence_transformer import SequenceTransformer
from mmjax.encoders.silero_vad import SileroVAD
from mmjax.encoders.table import TableEncoder
from mmjax.encoders.text_transformer import TextTransformer
from mmjax.encoders.tubelet_vit import TubeletViT
from mmjax.encoders.vgg import VGG, AlexNet
from mmjax.encoders.vit import ViT

__all__ = [
    "AST",
    "BERT",
    "CRNN",
    "LSTM",
    "MFCCGRU",
    "MLP",
    "VGG",
    "AlexNet",
    "AudioTransformer",
    "BagOfWords",
    "CLIPImage",
    "CLIPText",
    "EfficientNetLite0",
    "Encoder",
    "EncoderModule",
    "FeatureShape",
    "Flatten",
    "Frames",
    "GraphEncoder",
    "LeNet",
    "LoRA",
    "LogMelCNN",
    "ResNet",
    "SequenceCNN",
    "SequenceRNN",
    "SequenceTransformer",
    "SileroVAD",
    "TableEncoder",
    "TextTransformer",
    "TubeletViT",
    "ViT",
]
