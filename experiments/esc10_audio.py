"""Four encoders of sound on ten classes of environmental sounds, over the five folds.

    mmjax ablate experiments/esc10_audio.py --data-dir DATA

As in the paper, each fold of 80 clips is the test split of one run, and the four others its
training split; the first rows are the means over the folds. There is no validation split, so the
length of the training is given and nothing is selected.

Expected: log-mel CNN 0.853 ± 0.004 (three seeds; Piczak's CNN 0.8025), AST, small 0.69 ± 0.01 (two
seeds), made on a GPU. MFCC + GRU has only been run on three folds with one seed (0.41 to 0.48), and
the CRNN not at all: their recurrent layers take minutes for each run.
"""

from mmjax.data import Esc10, TimeShift
from mmjax.encoders import CRNN, MFCCGRU, AudioTransformer, LogMelCNN
from mmjax.evaluation import Classification
from mmjax.heads import Classifier
from mmjax.layers import SpecAugment
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.studies import Published, Study, axis, product
from mmjax.training import AdamW, Cosine, Experiment, Training

augment = SpecAugment(frequency_width=12, time_width=60)
sound = {"bands": 64, "frame_ms": 40.0, "hop_ms": 20.0, "augment": augment}

encoders = {
    "MFCC + GRU": MFCCGRU(coefficients=20, **sound),
    "log-mel CNN": LogMelCNN(blocks=4, width=128, batch_norm=True, **sound),
    "CRNN": CRNN(batch_norm=True, channels=16, **sound),
    "AST, small": AudioTransformer(patch=(16, 16), stride=(10, 16), layers=3, dropout=0.1, **sound),
}

experiment = Experiment(
    name="esc10-audio",
    data=Esc10(),
    transforms=(TimeShift("audio", 16_000),),
    model=FusionModel(
        encoders={"audio": encoders["log-mel CNN"]}, heads={"label": Classifier(dropout=0.3)}
    ),
    objectives=(CrossEntropy(label_smoothing=0.1),),
    optimizer=AdamW(learning_rate=2e-3, weight_decay=1e-2, schedule=Cosine(warmup_steps=50)),
    training=Training(steps=800, batch_size=32, final_splits=("test",)),
    evaluation=(Classification(),),
)

folds = range(1, 6)
study = Study(
    rows=product(
        axis("model.encoders.audio", encoders),
        axis("data.fold", {f"fold {fold}": fold for fold in folds}),
    ),
    means={name: [f"{name}, fold {fold}" for fold in folds] for name in encoders},
    columns=("test/accuracy",),
    published={
        "log-mel CNN": {
            "test/accuracy": Published(
                0.8025, "Piczak 2015 (MLSP), CNN, long clips by probability", "paper"
            )
        }
    },
    seeds=3,
)
