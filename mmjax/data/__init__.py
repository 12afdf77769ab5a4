"""Data sets, transforms and selections of training data, and the pipelines that make batches."""

from mmjax.data.arrays import Arrays
from mmjax.data.augment_audio import BackgroundNoise, RandomGain, TimeShift
from mmjax.data.augment_images import ColourJitter, RandomCrop, RandomErasing, RandomFlip
from mmjax.data.augment_words import DropWords, MaskWords, SwapWords
from mmjax.data.catalogue import DATASETS, find, fingerprint, resolve_folder, verify
from mmjax.data.dataset import About, ArraySource, Dataset, Modality, Source, Target
from mmjax.data.described import DescribedData
from mmjax.data.digits_halves import DigitsHalves
from mmjax.data.easy_vqa import EasyVQA
from mmjax.data.esc10 import Esc10
from mmjax.data.flickr8k import Flickr8k
from mmjax.data.fsdd_audio import FsddAudio
from mmjax.data.gmu_synthetic import GMUSynthetic
from mmjax.data.mfeat import Mfeat
from mmjax.data.mnist_halves import MNISTHalves
from mmjax.data.mosi_utterance import MOSIUtterance
from mmjax.data.noisy_mnist import NoisyMNIST
from mmjax.data.pipeline import eval_batches, train_batches
from mmjax.data.selection import Fold, LongTail, Resample, Selected, Selection, labels_of, select
from mmjax.data.shapes import Shapes
from mmjax.data.spoken_digits import SpokenDigits
from mmjax.data.transforms import AddNoise, DropModality, RandomAffine, RecordTransform, Transform
from mmjax.data.video import read_video
from mmjax.data.wikipedia import Wikipedia
from mmjax.structs import Batch

__all__ = [
    "DATASETS",
    "About",
    "AddNoise",
    "ArraySource",
    "Arrays",
    "BackgroundNoise",
    "Batch",
    "ColourJitter",
    "Dataset",
    "DescribedData",
    "DigitsHalves",
    "DropModality",
    "DropWords",
    "EasyVQA",
    "Esc10",
    "Flickr8k",
    "Fold",
    "FsddAudio",
    "GMUSynthetic",
    "LongTail",
    "MNISTHalves",
    "MOSIUtterance",
    "MaskWords",
    "Mfeat",
    "Modality",
    "NoisyMNIST",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomFlip",
    "RandomGain",
    "RecordTransform",
    "Resample",
    "Selected",
    "Selection",
    "Shapes",
    "Source",
    "SpokenDigits",
    "SwapWords",
    "Target",
    "TimeShift",
    "Transform",
    "Wikipedia",
    "eval_batches",
    "find",
    "fingerprint",
    "labels_of",
    "read_video",
    "resolve_folder",
    "select",
    "train_batches",
    "verify",
]
