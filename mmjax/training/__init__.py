"""From an experiment to a trained model: state, step, loop, optimizer, sharding, checkpoints."""

from mmjax.evaluation import Evaluator
from mmjax.training.balance import OGMGE, Balance, MMPareto, NoBalance, Unchanged
from mmjax.training.experiment import Experiment, Training
from mmjax.training.layer_wise import LayerWise
from mmjax.training.loop import Interrupted, train
from mmjax.training.optimizer import SGD, AdamW, Constant, Cosine, Optimizer, PerPart, Schedule
from mmjax.training.sharding import Mesh
from mmjax.training.start import Start
from mmjax.training.step import Learner, TrainState, eval_step, train_step
from mmjax.training.taught import Taught

__all__ = [
    "OGMGE",
    "SGD",
    "AdamW",
    "Balance",
    "Constant",
    "Cosine",
    "Evaluator",
    "Experiment",
    "Interrupted",
    "LayerWise",
    "Learner",
    "MMPareto",
    "Mesh",
    "NoBalance",
    "Optimizer",
    "PerPart",
    "Schedule",
    "Start",
    "Taught",
    "TrainState",
    "Training",
    "Unchanged",
    "eval_step",
    "train",
    "train_step",
]
