"""An experiment: a tree of frozen dataclasses that defines a run completely."""

import dataclasses
import importlib.util
from typing import Literal

from mmjax.data import Dataset, Selection, Transform
from mmjax.data.checks import check_declaration
from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.evaluation import Evaluator
from mmjax.evaluation.embeddings import shapes_of
from mmjax.models import Model
from mmjax.objectives import Objective, Unimodal
from mmjax.training.balance import Balance, NoBalance
from mmjax.training.config import check_seeds, check_types
from mmjax.training.optimizer import AdamW, Optimizer
from mmjax.training.sharding import Mesh
from mmjax.training.start import Start


@dataclasses.dataclass(frozen=True)
class Training:
    """Length, batches, evaluations, checkpoints and devices of a run.

    Attributes:
        steps: training steps; 0 evaluates the model without training.
        batch_size: examples per step, over all devices.
        seed: seed of parameters, dropout and the order of the data.
        precision: of the model's computation; parameters, objectives and optimizer are float32.
            GPUs of NVIDIA multiply float32 in TF32, unless JAX_DEFAULT_MATMUL_PRECISION=highest.
        log_every: steps between two lines of training metrics.
        eval_every: steps between two evaluations on `valid`; 0 evaluates at the end only.
        save_every: steps between two checkpoints; 0 saves at evaluations and at the end.
        eval_batch_size: examples per batch in evaluations; 0 takes `batch_size`.
        monitor: metric on `valid`, such as `accuracy`: the checkpoint with its best value is kept
            and evaluated at the end. If empty, the last checkpoint is.
        final_splits: splits that are evaluated at the end; if empty, all except `train`.
        mesh: how many devices share the batch, the parameters and the layers.
        data_threads: threads that read and batch the data.
        data_workers: processes that do so instead of threads; 0 for threads.
        deterministic: whether a GPU computes the same bits every time, which exact resume needs.
            False lets XLA choose kernels by their speed of the day, and atomic sums. CPUs always
            compute the same bits.
        tensorboard: whether to write TensorBoard events as well (needs the extra `tensorboard`).
        frozen: dotted names of parts of the model whose parameters stay as they are, such as
            `encoders.text.blocks.0` or `fusion`: they have no gradient and no optimizer state.
            Dropout and batch statistics in them go on; `model.frozen` stops those too, of whole
            encoders.
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
    deterministic: bool = True
    tensorboard: bool = False
    frozen: tuple[str, ...] = ()

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
    """The complete configuration of one run.

    Attributes:
        name: letters, digits, `-`, `_` and `.`; part of the name of the run directory.
        data: the data set.
        model: the model.
        objectives: the loss is the sum of weight times value over these; may be empty if
            `training.steps` is 0.
        optimizer: the optimizer and its learning-rate schedule.
        training: length, batches, evaluations, checkpoints and devices.
        evaluation: the evaluators, which compute the metrics.
        transforms: transforms of training batches, applied in order.
        start: the run whose parameters initialise this one; None initialises at random.
        balance: changes the gradients of the encoders, so that no modality is left behind.
        selections: choose which records of `train` are used and how often, applied in order.
            Evaluations on `train`, and fits on it, use the selected records too.
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
    balance: Balance = NoBalance()

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "-_." for c in self.name):
            raise ConfigError(
                f"The experiment's name {self.name!r} cannot name a folder: use letters, digits, "
                "'-', '_' and '.'."
            )


def check(experiment: Experiment) -> None:
    """Checks that the parts of an experiment fit together, before any data is read.

    Raises:
        ConfigError: they do not; names the option and the fix.
    """
    check_types(experiment)
    check_seeds(experiment)
    check_declaration(experiment.data)
    for transform in experiment.transforms:
        transform.check(experiment.data.modalities)
    training = experiment.training
    if training.steps and not experiment.objectives:
        raise ConfigError(
            "The experiment has no objective: list at least one in `objectives`, such as "
            "CrossEntropy(), or set training.steps to 0 to evaluate the model as it is."
        )
    if training.monitor and "valid" not in experiment.data.splits:
        raise ConfigError(
            f"training.monitor is set, but the data set {experiment.data.name!r} has no 'valid' "
            "split to measure it on: leave training.monitor empty."
        )
    if training.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ConfigError(
            "training.tensorboard needs the package tensorboardX: pip install 'mmjax[tensorboard]'."
        )
    for split in training.final_splits:
        experiment.data.check_split(split)
    if len(set(training.final_splits)) != len(training.final_splits):
        raise ConfigError(
            f"training.final_splits {training.final_splits} has a split twice: name each once."
        )
    for selection in experiment.selections:
        if selection.needs_labels and selection.target not in experiment.data.targets:
            raise unknown_name("target", selection.target, experiment.data.targets)
    for objective in experiment.objectives:
        _check_targets(objective, experiment.data)
    if experiment.balance.needs_unimodal and not any(
        isinstance(each, Unimodal) for each in experiment.objectives
    ):
        raise ConfigError(
            f"{type(experiment.balance).__name__} needs losses of one modality: add "
            "Unimodal(objective=CrossEntropy()) to `objectives`, and choose "
            "FusionModel(unimodal=True)."
        )
    for evaluator in experiment.evaluation:
        evaluator.check(experiment)


def untrained_heads(experiment: Experiment) -> list[str]:
    """A sentence for each target that the model predicts but no objective reads."""
    read = {name for objective in experiment.objectives for name in objective.targets_read}
    return [
        f"The model predicts {name!r}, but no objective reads that target, so its head is not "
        "trained: add an objective for it, or choose the heads, as in FusionModel(heads=...)."
        for name in shapes_of(experiment).predictions
        if experiment.training.steps and name not in read
    ]


def _check_targets(objective: Objective, data: Dataset) -> None:
    """Checks that the targets of an objective exist and have a kind that it supports."""
    for name, kinds in objective.targets_read.items():
        if name not in data.targets:
            raise unknown_name(
                f"target of {data.name}, for {type(objective).__name__},", name, data.targets
            )
        kind = data.targets[name].kind
        if kind not in kinds:
            raise ConfigError(
                f"{type(objective).__name__} needs a target of the kind {' or '.join(kinds)}, but "
                f"{name!r} is of the kind {kind}: choose another objective or another target."
            )
