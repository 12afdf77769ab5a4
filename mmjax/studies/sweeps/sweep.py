"""A sweep as values: the ranges of an experiment to search, and the metric to choose by.

    sweep = Sweep(
        space={
            "optimizer.learning_rate": LogUniform(1e-4, 1e-2),
            "model.heads.label.dropout": Uniform(0.0, 0.5),
            "model.encoders.image.channels": Integers(4, 32, log=True),
            "model.fusion": Choice({"concat": Concat(), "mean": Mean(width=64)}),
        },
        metric="accuracy",
    )

It stands beside `experiment` in the experiment file; `mmjax sweep` runs it.
"""

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

from mmjax.errors import ConfigError, unknown_name
from mmjax.training.config import check_seeds, check_types
from mmjax.training.experiment import Experiment
from mmjax.training.overrides import defined, is_within, part_at, replace_at

Direction = Literal["max", "min"]
Parameters = Mapping[str, Any]  # dotted path -> number, or the name of a choice

SPLITS = ("train", "valid", "test")
# What the sweep itself sets in every trial.
OWN = {
    "name": "names the directory, not the method",
    "training.seed": "is the same in all trials",
    "training.monitor": "is the metric of the sweep",
    "training.final_splits": "keeps the trials away from `test`",
}


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Numbers from `low` to `high`, all equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        low, high = self.low, self.high
        for end in (low, high):
            if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
                raise ConfigError(f"{self} has the end {end!r}: it must be a finite number.")
        if not low < high:
            raise ConfigError(f"{self} is empty: its low end must be below its high end.")
        log = self.log if isinstance(self, Integers) else isinstance(self, LogUniform)
        if log and low <= 0:
            raise ConfigError(f"{self} has no logarithm at its low end: choose one above 0.")


@dataclasses.dataclass(frozen=True)
class LogUniform(Uniform):
    """Numbers from `low` to `high` whose logarithms are all equally likely: for learning rates."""


@dataclasses.dataclass(frozen=True)
class Integers(Uniform):
    """Integers from `low` to `high`, both included; with `log` by their logarithm."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ConfigError(
                f"{self} has an end that is not an integer: use Uniform or LogUniform for floats."
            )


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values: named ones of any kind, or numbers and strings that name themselves.

    Attributes:
        options: name -> value, such as {"concat": Concat()}; or the values, such as (32, 64, 128).
    """

    options: Mapping[str, Any] | Sequence[str | int | float | bool]

    def __post_init__(self) -> None:
        if isinstance(self.options, str) or not self.options:
            raise ConfigError(
                "A Choice needs options: name them, as in Choice({'mean': Mean()}), or list them, "
                "as in Choice((32, 64))."
            )
        if not isinstance(self.options, Mapping):
            if not all(isinstance(each, str | int | float | bool) for each in self.options):
                raise ConfigError(
                    "A Choice lists an option that is neither a number nor a string: give the "
                    "options names, as in Choice({'mean': Mean()})."
                )
            if len(self.named) < len(self.options):
                raise ConfigError(f"{self} lists an option twice: list each once.")
        elif not all(isinstance(name, str) and name for name in self.options):
            raise ConfigError(
                f"The names of a Choice are {list(self.options)}: make all of them strings."
            )

    @property
    def named(self) -> dict[str, Any]:
        """Name -> value."""
        if isinstance(self.options, Mapping):
            return dict(self.options)
        return {str(value): value for value in self.options}


Range = Uniform | Choice


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Which values of an experiment are searched, and by which metric of `valid` they are chosen.

    Attributes:
        space: dotted path of the experiment -> the range of its values.
        metric: of the split `valid`, without the split, such as `accuracy`.
        direction: whether the largest (`max`) or the smallest (`min`) is the best; the same as the
            metric itself says.
        pruning: whether trials that are worse than the median of the others are stopped early.
        seed: of what the sampler suggests; the trials have the seed of the experiment.
    """

    space: Mapping[str, Range]
    metric: str
    direction: Direction = "max"
    pruning: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.space:
            raise ConfigError(
                "The sweep's space is empty: name at least one range, as in "
                "{'optimizer.learning_rate': LogUniform(1e-4, 1e-2)}."
            )
        for path, each in self.space.items():
            if not isinstance(each, Range):
                raise ConfigError(
                    f"The sweep's range of {path!r} is {each!r}: make it a Uniform, LogUniform, "
                    "Integers or Choice."
                )
            for own, why in OWN.items():
                if own == path or is_within(own, path):
                    raise ConfigError(f"{path!r} cannot be swept, for {own} {why}.")
            for outer in self.space:
                if is_within(path, outer):
                    raise ConfigError(
                        f"The sweep has ranges of {outer!r} and of {path!r} within it: put the "
                        f"values of both into one Choice of {outer!r}."
                    )
        split, slash, metric = self.metric.partition("/")
        if slash and split in SPLITS:
            raise ConfigError(
                f"The sweep's metric is {self.metric!r}: trials are chosen on `valid` only, so "
                f"write {metric!r}."
            )
        if not self.metric:
            raise ConfigError("The sweep has no metric: name one of `valid`, such as 'accuracy'.")
        if self.direction not in typing.get_args(Direction):
            raise unknown_name(
                "direction of a sweep", str(self.direction), typing.get_args(Direction)
            )
        check_seeds(self, "Sweep")

    def apply(self, experiment: Experiment, parameters: Parameters) -> Experiment:
        """The experiment with parameters of the space in their places.

        Args:
            experiment: what to change.
            parameters: a value for every path of the space; a Choice by the name of its option.

        Raises:
            ConfigError: for a path or an option that is not there, or values that do not fit.
        """
        for path in parameters.keys() | self.space.keys():
            if path not in self.space:
                raise unknown_name("range in the sweep's space for", path, self.space)
            if path not in parameters:
                raise ConfigError(f"The parameters name no value for {path!r}: name one.")
        left = {path: self._value(path, parameters[path]) for path in self.space}
        while left:  # two values may fit each other, and one of them not what was there before
            waiting = {}
            for path, value in left.items():
                try:
                    experiment = replace_at(experiment, path, value)
                except ConfigError as error:
                    waiting[path] = value
                    reason = f"{path} = {parameters[path]!r}: {error}"
            if len(waiting) == len(left):
                raise ConfigError(reason)
            left = waiting
        return experiment

    def monitored(self, experiment: Experiment) -> Experiment:
        """The experiment with the metric of the sweep as its `monitor`."""
        return replace_at(experiment, "training.monitor", self.metric)

    def trial(self, experiment: Experiment, parameters: Parameters | None = None) -> Experiment:
        """What a trial runs: parameters in place, chosen on `valid`, and `test` never evaluated."""
        if parameters is not None:
            experiment = self.apply(experiment, parameters)
        return replace_at(self.monitored(experiment), "training.final_splits", ("valid",))

    def check_direction(self, directions: Mapping[str, str]) -> None:
        """Refuses the direction that the metric itself does not have.

        Args:
            directions: of a run's `result.json`: metric with its split -> `min` or `none`; of all
                others more is better.

        Raises:
            ConfigError: where the sweep takes for the best what is the worst.
        """
        better = directions.get(f"valid/{self.metric}", "max")
        if better != self.direction:
            raise ConfigError(
                f"Sweep.direction is {self.direction!r}, but of the metric {self.metric!r} "
                f"{'less' if better == 'min' else 'more'} is better: set it to {better!r}, and "
                "start the sweep anew with another --run-dir."
            )

    def check(self, experiment: Experiment) -> None:
        """Refuses a sweep that does not fit the experiment, before the first trial.

        Raises:
            ConfigError: for a path that is not there, a range of another kind than the value, or a
                data set without `valid`.
        """
        if "valid" not in experiment.data.splits:
            raise ConfigError(
                f"The data set {experiment.data.name!r} has no 'valid' split to choose trials on: "
                "sweep on one that has."
            )
        for path, each in self.space.items():
            try:
                part_at(experiment, path)
            except ConfigError as error:
                raise ConfigError(f"The sweep's {path!r}: {error}") from error
            for option in each.named if isinstance(each, Choice) else (each.low, each.high):
                try:
                    changed = replace_at(experiment, path, self._value(path, option))
                except ConfigError:  # it may fit with other values of the space
                    continue
                try:
                    check_types(changed)
                except ConfigError as error:
                    raise ConfigError(f"The sweep's {path!r}: {error}") from error

    def _value(self, path: str, parameter: Any) -> Any:
        """What a parameter stands for."""
        each = self.space[path]
        if isinstance(each, Choice):
            if parameter not in each.named:
                raise unknown_name(f"option of {path} called", str(parameter), each.named)
            return each.named[parameter]
        return int(parameter) if isinstance(each, Integers) else float(parameter)


def sweep_of(module: ModuleType) -> Sweep:
    """The `sweep` of an experiment file that `load_module` has run; ConfigError without one."""
    return defined(module, "sweep", Sweep, "mmjax.studies.Sweep(space=..., metric=...)")
