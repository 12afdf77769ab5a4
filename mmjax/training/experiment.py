"""What an experiment is: a tree of frozen values that says all there is to know about a run."""

import dataclasses
import importlib.util
from typing import Literal

from mmjax.data import Dataset, Selection, Transform
from mmjax.data.checks import check_declaration
from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.evaluation import Evaluator
from mmjax.evaluation.embeddings import shapes_of
from mmjax.models import Model
from mmjax.objectives import Objective
from mmjax.training.config import check_types
from mmjax.training.optimizer import AdamW, Optimizer
from mmjax.training.sharding import Mesh
from mmjax.training.start import Start


@dataclasses.dataclass(frozen=True)
class Training:
    """How long, on what and how often.

    Attributes:
        steps: steps of the run; with 0 the model is evaluated as it is.
        batch_size: examples a step, over all devices.
        seed: of parameters, dropout and the order of the data.
        precision: of the model's computation; parameters, objectives and optimizer are float32.
        log_every: steps from one line of training metrics to the next.
        eval_every: steps from one evaluation on `valid` to the next; 0 evaluates at the end only.
        save_every: steps from one checkpoint to the next; 0 saves at evaluations and at the end.
        eval_batch_size: examples a batch of an evaluation; 0 takes `batch_size`.
        monitor: metric of `valid` whose best checkpoint is kept and evaluated at the end, such as
            `accuracy`; empty evaluates the last one.
        final_splits: splits that are evaluated at the end; none named evaluates all but `train`.
        mesh: how many devices share the batch, the parameters and the layers.
        data_threads: threads that read and batch.
        data_workers: processes that do so instead; 0 for none.
        tensorboard: whether to write TensorBoard events too (the extra `tensorboard`).
    """

    steps: int
    batch_size: int = 128
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    log_every: int = 50
    eval_every: int = 0
    save_every: int = 0
    eval_batch_size: int = 0
    monitor: str = ""
    final_splits: tuple[str, ...] = ()
    mesh: Mesh = Mesh()
    data_threads: int = 2
    data_workers: int = 0
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_sizes(self, "batch_size", "log_every", "data_threads")
        at_least_0 = (
            "steps",
            "eval_every",
            "save_every",
            "eval_batch_size",
            "data_workers",
            "seed",
        )
        check_sizes(self, *at_least_0, least=0)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One run, as values.

    Attributes:
        name: letters, digits, `-`, `_` and `.`; names the run directory.
        data: the data set.
        model: the model.
        objectives: what is minimised: the sum of their weights times their values; none is
            needed where there are no steps.
        optimizer: how.
        training: how long, on what and how often.
        evaluation: what is measured.
        transforms: what is done to training batches, in order.
        start: the run whose parameters this one begins with; None draws them at random.
        selections: which records of `train` are trained on and how often, one after the other; an
            evaluation that looks at `train`, to fit something or to measure, sees these too.
    """

    name: str
    data: Dataset
    model: Model
    objectives: tuple[Objective, ...]
    training: Training
    optimizer: Optimizer = AdamW()
    evaluation: tuple[Evaluator, ...] = ()
    transforms: tuple[Transform, ...] = ()
    start: Start | None = None
    selections: tuple[Selection, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "-_." for c in self.name):
            raise ConfigError(
                f"The experiment's name {self.name!r} cannot name a folder: use letters, digits, "
                "'-', '_' and '.'."
            )


def check(experiment: Experiment) -> None:
    """Refuses what cannot work, before any data is read.

    Raises:
        ConfigError: naming the option and the fix.
    """
    check_types(experiment)
    check_declaration(experiment.data)
    training = experiment.training
    if training.steps and not experiment.objectives:
        raise ConfigError(
            "The experiment has no objective: list at least one in `objectives`, such as "
            "CrossEntropy(), or set training.steps to 0 to evaluate the model as it is."
        )
    if training.monitor and "valid" not in experiment.data.splits:
        raise ConfigError(
            f"The data set {experiment.data.name!r} has no 'valid' split for training.monitor to "
            "choose on: leave training.monitor empty."
        )
    if training.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError(
            "training.tensorboard needs the package tensorboardX: pip install 'mmjax[tensorboard]'."
        )
    for split in training.final_splits:
        experiment.data.check_split(split)
    if len(set(training.final_splits)) != len(training.final_splits):
        raise ConfigError(
            f"training.final_splits {training.final_splits} names a split twice: name each once."
        )
    for selection in experiment.selections:
        if selection.needs_labels and selection.target not in experiment.data.targets:
            raise unknown_name("target", selection.target, experiment.data.targets)
    for objective in experiment.objectives:
        _check_targets(objective, experiment.data)
    for evaluator in experiment.evaluation:
        evaluator.check(experiment)


def untrained_heads(experiment: Experiment) -> list[str]:
    """A sentence for each target that the model predicts and no objective compares with."""
    read = {name for each in experiment.objectives for name in each.targets_read}
    return [
        f"The model predicts {name!r}, but no objective reads that target, so its head is not "
        "trained: give it an objective, or name the heads to have, as in FusionModel(heads=...)."
        for name in shapes_of(experiment).predictions
        if experiment.training.steps and name not in read
    ]


def _check_targets(objective: Objective, data: Dataset) -> None:
    """Refuses an objective on a target that is not there, or of a kind that it is not for."""
    for name, kinds in objective.targets_read.items():
        if name not in data.targets:
            raise unknown_name(
                f"target of {data.name}, for {type(objective).__name__},", name, data.targets
            )
        kind = data.targets[name].kind
        if kind not in kinds:
            raise ConfigError(
                f"{type(objective).__name__} compares with a target of the kind "
                f"{' or '.join(kinds)}, but {name!r} is of the kind {kind}: take another objective "
                "for it, or another target."
            )
