"""The gate of a GMU finds the hidden switch, after Arevalo et al. 2017, section 4.1.

    mmjax ablate experiments/arevalo2017_gmu_synthetic.py

Of two numbers, one carries the class and the other is noise; a switch that the model never sees
says which. `gate_correlation` is the correlation between the visual gate and the switch on the test
split; the paper reports 1. The gate should open where the visual number carries the class.

Expected, three seeds: 1.00 with one unit on encoders with a hidden layer. On linear encoders, as in
the paper, some seeds end in a local minimum in which the gate does not follow the switch: 0.62 ±
0.65. Two minutes on two processor cores.
"""

from mmjax.data import GMUSynthetic
from mmjax.encoders import MLP
from mmjax.evaluation import Classification, GateCorrelation
from mmjax.fusion import GMU, AttentionFusion, Concat
from mmjax.heads import Classifier
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.studies import Published, Study
from mmjax.training import AdamW, Cosine, Experiment, Training

encoders = {name: MLP((16,), width=8) for name in ("textual", "visual")}
linear = {name: MLP((), width=1) for name in ("textual", "visual")}
heads = {"label": Classifier()}
gate = GateCorrelation("visual", "switch", 1)

experiment = Experiment(
    name="arevalo2017-gmu-synthetic",
    data=GMUSynthetic(),
    model=FusionModel(encoders, GMU(1), heads),
    objectives=(CrossEntropy(),),
    optimizer=AdamW(learning_rate=3e-2, schedule=Cosine()),
    training=Training(steps=2000, batch_size=128, log_every=500, final_splits=("test",)),
    evaluation=(Classification(), gate),
)

study = Study(
    rows={
        "GMU, one unit": {},
        "GMU, one unit, linear encoders": {"model": FusionModel(linear, GMU(1), heads)},
        "GMU, 8 units": {"model": FusionModel(encoders, GMU(8), heads)},
        "attention, 8 units": {"model": FusionModel(encoders, AttentionFusion(8), heads)},
        "concatenation": {
            "model": FusionModel(encoders, Concat(), heads),
            "evaluation": (Classification(),),
        },
        "visual alone": {
            "model": FusionModel({"visual": encoders["visual"]}, Concat(), heads),
            "evaluation": (Classification(),),
        },
    },
    columns=("test/accuracy", "test/gate_correlation"),
    published={
        "GMU, one unit": {
            "test/gate_correlation": Published(
                1.0, "Arevalo et al. 2017, section 4.1, synthetic gate test", "paper"
            )
        }
    },
    seeds=3,
)
