"""Four encoders of sound on spoken digits: the official split, and each speaker left out.

    mmjax ablate experiments/fsdd_audio.py --data-dir DATA

The digit is predicted from one second of sound at 8 kHz. The official split has all six speakers
in training; in the other rows, the named speaker is heard in `test` only, which asks more.

Expected on the official split, three seeds: MFCC + GRU 0.901 ± 0.018, log-mel CNN 0.976 ± 0.007,
CRNN 0.977 ± 0.003; AST, small 0.86 (one seed). One to two minutes for each run on two processor
cores. With a speaker left out, the log-mel CNN reaches (one seed) 0.60 for george, 0.69 jackson,
0.82 lucas, 0.70 nicolas, 0.93 theo and 0.89 yweweler, 0.77 on average; the other rows with a
speaker left out have not been run yet.
"""

from mmjax.data import FsddAudio
from mmjax.encoders import CRNN, MFCCGRU, AudioTransformer, LogMelCNN
from mmjax.evaluation import Classification
from mmjax.heads import Classifier
from mmjax.layers import SpecAugment
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.studies import Study
from mmjax.training import AdamW, Cosine, Experiment, Training

augment = SpecAugment(frequency_width=8, time_width=15)

experiment = Experiment(
    name="fsdd-audio",
    data=FsddAudio(),
    model=FusionModel(
        encoders={"audio": LogMelCNN(batch_norm=True, augment=augment)},
        heads={"label": Classifier()},
    ),
    objectives=(CrossEntropy(),),
    optimizer=AdamW(learning_rate=3e-3, weight_decay=1e-2, schedule=Cosine(warmup_steps=50)),
    training=Training(
        steps=600, batch_size=64, eval_every=100, monitor="accuracy", final_splits=("test",)
    ),
    evaluation=(Classification(),),
)

encoders = {
    "MFCC + GRU": MFCCGRU(augment=augment),
    "log-mel CNN": LogMelCNN(batch_norm=True, augment=augment),
    "CRNN": CRNN(batch_norm=True, channels=16, augment=augment),
    "AST, small": AudioTransformer(
        patch=(16, 8), stride=(16, 8), layers=3, dropout=0.1, augment=augment
    ),
}

study = Study(
    rows={
        f"{name}, {speaker} left out" if speaker else name: {
            "model.encoders.audio": encoder,
            "data.held_out": speaker,
        }
        for speaker in ("", *FsddAudio.speakers)
        for name, encoder in encoders.items()
    },
    columns=("test/accuracy", "test/macro_f1"),
    seeds=3,
)
