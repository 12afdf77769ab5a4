"""Optimizers and learning-rate schedules: configs that build optax transformations."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax

from mmjax.errors import ConfigError, check_sizes, unknown_name


class Schedule(abc.ABC):
    """Base of the learning-rate schedules."""

    @abc.abstractmethod
    def build(self, peak: float, steps: int) -> optax.Schedule:
        """Makes the schedule for a run of `steps` steps with the peak learning rate `peak`."""


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """Linear warm-up from 0, then the peak learning rate.

    Attributes:
        warmup_steps: steps of the warm-up; fewer than the run has.
    """

    warmup_steps: int = 0

    def build(self, peak: float, steps: int) -> optax.Schedule:
        """See `Schedule.build`."""
        _check_warmup(self.warmup_steps, steps)
        return optax.warmup_constant_schedule(
            0.0 if self.warmup_steps else peak, peak, self.warmup_steps
        )


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """Linear warm-up from 0, then cosine decay until the end of the run.

    Attributes:
        warmup_steps: steps of the warm-up; fewer than the run has.
        final: final learning rate, as a fraction of the peak; 0 or more.
    """

    warmup_steps: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(self, "final", least=0)

    def build(self, peak: float, steps: int) -> optax.Schedule:
        """See `Schedule.build`."""
        _check_warmup(self.warmup_steps, steps)
        return optax.warmup_cosine_decay_schedule(
            0.0 if self.warmup_steps else peak,
            peak,
            self.warmup_steps,
            steps,
            end_value=self.final * peak,
        )


def _check_warmup(warmup_steps: int, steps: int) -> None:
    if not 0 <= warmup_steps < steps:
        raise ConfigError(
            f"A warm-up of {warmup_steps} steps does not fit in a run of {steps} steps: set "
            f"optimizer.schedule.warmup_steps to a value from 0 to {steps - 1}."
        )


class Optimizer(abc.ABC):
    """Base of the optimizers."""

    @abc.abstractmethod
    def build(self, steps: int) -> optax.GradientTransformation:
        """Makes the optax transformation for a run of `steps` steps."""


class Rated(Optimizer):
    """Base of the optimizers with one learning rate."""

    learning_rate: float
    schedule: Schedule
    clip_norm: float

    def __post_init__(self) -> None:
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise ConfigError(f"optimizer.learning_rate is {rate!r}: it must be a number.")
        if not self.learning_rate > 0:
            raise ConfigError(
                f"optimizer.learning_rate is {self.learning_rate}: it must be above 0."
            )
        check_sizes(self, *({"weight_decay", "clip_norm"} & set(vars(self))), least=0)
        for field in sorted({"b1", "b2", "momentum"} & set(vars(self))):
            if not 0 <= getattr(self, field) < 1:
                raise ConfigError(
                    f"optimizer.{field} is {getattr(self, field)}: it must be from 0 to below 1."
                )
        epsilon = vars(self).get("epsilon", 1)
        if not epsilon > 0:  # a gradient of 0 would be divided by it
            raise ConfigError(f"optimizer.epsilon is {epsilon}: it must be above 0.")


def clip(norm: float) -> optax.GradientTransformation:
    """Clips gradients to a global norm; 0 does not clip."""
    return optax.clip_by_global_norm(norm) if norm else optax.identity()


@dataclasses.dataclass(frozen=True)
class AdamW(Rated):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Attributes:
        learning_rate: peak learning rate, above 0.
        schedule: learning-rate schedule.
        weight_decay: per step, times the learning rate; on matrices and kernels, not on vectors
            (biases, scales of norms).
        b1: decay of the first moment, in [0, 1).
        b2: decay of the second moment, in [0, 1).
        epsilon: added to the square root of the second moment; above 0.
        clip_norm: gradients are clipped to this global norm; 0 does not clip.
    """

    learning_rate: float = 1e-3
    schedule: Schedule = Constant()
    weight_decay: float = 1e-4
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float = 0.0

    def build(self, steps: int) -> optax.GradientTransformation:
        """See `Optimizer.build`."""
        return optax.chain(
            clip(self.clip_norm),
            optax.adamw(
                self.schedule.build(self.learning_rate, steps),
                b1=self.b1,
                b2=self.b2,
                eps=self.epsilon,
                weight_decay=self.weight_decay,
                mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params),
            ),
        )


@dataclasses.dataclass(frozen=True)
class SGD(Rated):
    """Stochastic gradient descent with momentum.

    Attributes:
        learning_rate: peak learning rate, above 0.
        schedule: learning-rate schedule.
        momentum: momentum coefficient, in [0, 1).
        clip_norm: gradients are clipped to this global norm; 0 does not clip.
    """

    learning_rate: float = 1e-1
    schedule: Schedule = Constant()
    momentum: float = 0.9
    clip_norm: float = 0.0

    def build(self, steps: int) -> optax.GradientTransformation:
        """See `Optimizer.build`."""
        rate = self.schedule.build(self.learning_rate, steps)
        return optax.chain(clip(self.clip_norm), optax.sgd(rate, momentum=self.momentum))


@dataclasses.dataclass(frozen=True)
class PerPart(Optimizer):
    """A separate optimizer for each part of the parameters; each clips the gradient of its part.

    Attributes:
        parts: dotted prefix of parameter names, such as `encoders.image`, `heads` or
            `objectives` -> optimizer. The longest matching prefix applies.
        others: the optimizer of all other parameters.
    """

    parts: Mapping[str, Optimizer]
    others: Optimizer = AdamW()

    def build(self, steps: int) -> optax.GradientTransformation:
        """See `Optimizer.build`.

        Raises:
            ConfigError: by its `init`: a part has no parameters.
        """
        optimizers = {name: optimizer.build(steps) for name, optimizer in self.parts.items()}
        return optax.partition(optimizers | {"": self.others.build(steps)}, self._labels)

    def _labels(self, params: Any) -> Any:
        """A tree like the parameters with the part of each as its leaf; "" for the others."""
        names = jax.tree_util.tree_map_with_path(lambda path, _: part_name(path), params)
        all_names = jax.tree.leaves(names)
        for part in self.parts:
            if not any(in_part(name, part) for name in all_names):
                possible = dict.fromkeys(".".join(name.split(".")[:2]) for name in all_names)
                raise unknown_name("part of the parameters, for PerPart,", part, possible)

        def longest(name: str) -> str:
            return max((part for part in self.parts if in_part(name, part)), key=len, default="")

        return jax.tree.map(longest, names)


def part_name(path: tuple[Any, ...]) -> str:
    """The dotted name of a parameter, such as `encoders.image.project.kernel`.

    Parameters of the model are named as in the model; those of objectives begin with `objectives`.
    """
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return name.removeprefix("model.")


def in_part(name: str, part: str) -> bool:
    """Whether a dotted parameter name lies in the part with the dotted name `part`."""
    return f"{name}.".startswith(f"{part}.")
