"""A modality that is missing: with and without modality dropout, stand-ins, and a taught student.

    mmjax train experiments/missing_modality.py --run-dir runs/missing_modality_teacher
    mmjax ablate experiments/missing_modality.py

The noisy written and spoken digits of `spoken_digits.py`. Every model is trained on complete pairs,
and tested on both modalities, on the picture alone and on the sound alone. The student reads the
picture only, and learns from what the teacher of the first command, which has both, says of the
training pairs.

Expected, three seeds: trained on complete pairs 0.950 ± 0.001 with both, 0.713 ± 0.013 with the
picture alone and 0.679 ± 0.013 with the sound alone; with modality dropout 0.948 ± 0.003, 0.775 ±
0.006 and 0.744 ± 0.019. Stand-ins change little. Models of one modality reach 0.806 ± 0.005 and
0.764 ± 0.019; the taught student, 0.799 ± 0.007, is no better. 15 minutes on two processor cores.
"""

from mmjax.data import SpokenDigits
from mmjax.encoders import LeNet, LogMelCNN
from mmjax.evaluation import Classification, Subsets
from mmjax.fusion import Concat
from mmjax.heads import Classifier
from mmjax.models import FusionModel, LearnedStandIn, MeanStandIn, ModalityDropout
from mmjax.objectives import CrossEntropy, Distillation
from mmjax.studies import Study
from mmjax.training import AdamW, Cosine, Experiment, Taught, Training

data = SpokenDigits(image_noise=0.8, audio_noise=2.0)

experiment = Experiment(
    name="missing-modality",
    data=data,
    model=FusionModel(
        encoders={
            "image": LeNet(blocks=3, channels=8, kernel=5, width=64, batch_norm=True),
            "audio": LogMelCNN(channels=8, bands=32, frame_ms=32.0, hop_ms=16.0, batch_norm=True),
        },
        fusion=Concat(),
        heads={"label": Classifier(hidden=(64,), dropout=0.2)},
    ),
    objectives=(CrossEntropy(),),
    optimizer=AdamW(learning_rate=2e-3, weight_decay=1e-2, schedule=Cosine(warmup_steps=50)),
    training=Training(steps=400, batch_size=128, log_every=100, final_splits=("test",)),
    evaluation=(Classification(), Subsets()),
)

alone = {"evaluation": (Classification(),)}
hidden = {"model.dropout": ModalityDropout(0.4)}

study = Study(
    rows={
        "complete pairs": {},
        "modality dropout": hidden,
        "modality dropout, mean as stand-in": {**hidden, "model.stand_in": MeanStandIn()},
        "modality dropout, learned stand-in": {**hidden, "model.stand_in": LearnedStandIn()},
        "image alone": {"model.modalities": ("image",), **alone},
        "audio alone": {"model.modalities": ("audio",), **alone},
        "image alone, taught by both": {
            "model.modalities": ("image",),
            "data": Taught(data, "runs/missing_modality_teacher"),
            "objectives": (CrossEntropy(weight=0.5), Distillation(weight=0.5, temperature=2.0)),
            **alone,
        },
    },
    columns=("test/accuracy", "test/accuracy_of_image", "test/accuracy_of_audio"),
    seeds=3,
)
