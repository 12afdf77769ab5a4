"""Optimizers and learning-rate schedules, as configs that build optax transformations."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import optax

from mmjax.errors import ConfigError, check_sizes, unknown_name


class Schedule(abc.ABC):
    """Base of the learning-rate schedules: what the peak rate is multiplied by, step by step."""

    @abc.abstractmethod
    def build(self, peak: float, steps: int) -> optax.Schedule:
        """Makes the schedule of a run of `steps` steps with the highest rate `peak`."""


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """A linear rise from 0 over the first steps, then the peak rate.

    Attributes:
        warmup_steps: steps of the rise; fewer than the run has.
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
    """A linear rise from 0 over the first steps, then half a cosine down to the end of the run.

    Attributes:
        warmup_steps: steps of the rise; fewer than the run has.
        final: last rate, as a share of the peak.
    """

    warmup_steps: int = 0
    final: float = 0.0

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
            f"A warm-up of {warmup_steps} steps does not fit in a run of {steps}: set "
            f"optimizer.schedule.warmup_steps from 0 to {steps - 1}, below training.steps."
        )


class Optimizer(abc.ABC):
    """Base of the optimizers."""

    @abc.abstractmethod
    def build(self, steps: int) -> optax.GradientTransformation:
        """Makes the optax transformation of a run of `steps` steps."""


class Rated(Optimizer):
    """Base of the optimizers with one learning rate."""

    learning_rate: float
    schedule: Schedule

    def __post_init__(self) -> None:
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


def _clip(norm: float) -> optax.GradientTransformation:
    return optax.clip_by_global_norm(norm) if norm else optax.identity()


@dataclasses.dataclass(frozen=True)
class AdamW(Rated):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Attributes:
        learning_rate: highest rate.
        schedule: of the rate.
        weight_decay: per step, times the rate; on matrices and kernels, not on biases and norms.
        b1: decay of the mean of gradients.
        b2: decay of the mean of squared gradients.
        epsilon: added to the root of the latter.
        clip_norm: largest global norm of a gradient; 0 clips none.
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
            _clip(self.clip_norm),
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
        learning_rate: highest rate.
        schedule: of the rate.
        momentum: share of the last update that is kept.
        clip_norm: largest global norm of a gradient; 0 clips none.
    """

    learning_rate: float = 1e-1
    schedule: Schedule = Constant()
    momentum: float = 0.9
    clip_norm: float = 0.0

    def build(self, steps: int) -> optax.GradientTransformation:
        """See `Optimizer.build`."""
        rate = self.schedule.build(self.learning_rate, steps)
        return optax.chain(_clip(self.clip_norm), optax.sgd(rate, momentum=self.momentum))


@dataclasses.dataclass(frozen=True)
class PerPart(Optimizer):
    """An optimizer for each part of the parameters; each clips the gradient of its part.

    Attributes:
        parts: dotted beginning of the names of parameters, such as `encoders.image`, `heads` or
            `objectives` -> optimizer. The longest beginning that fits counts.
        others: the optimizer of all other parameters.
    """

    parts: Mapping[str, Optimizer]
    others: Optimizer = AdamW()

    def build(self, steps: int) -> optax.GradientTransformation:
        """See `Optimizer.build`.

        Raises:
            ConfigError: by its `init`, for a part without parameters.
        """
        optimizers = {name: each.build(steps) for name, each in self.parts.items()}
        return optax.partition(optimizers | {"": self.others.build(steps)}, self._labels)

    def _labels(self, params: Any) -> Any:
        """The tree of the parameters with the part of each in its place; empty for the others."""
        names = jax.tree_util.tree_map_with_path(lambda path, _: part_name(path), params)
        known = jax.tree.leaves(names)
        for part in self.parts:
            if not any(in_part(name, part) for name in known):
                there = dict.fromkeys(".".join(name.split(".")[:2]) for name in known)
                raise unknown_name("part of the parameters, for PerPart,", part, there)

        def longest(name: str) -> str:
            return max((part for part in self.parts if in_part(name, part)), key=len, default="")

        return jax.tree.map(longest, names)


def part_name(path: tuple[Any, ...]) -> str:
    """The dotted name of a parameter, such as `encoders.image.project.kernel`.

    Those of the model are named as in the model; those of the objectives begin with `objectives`.
    """
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return name.removeprefix("model.")


def in_part(name: str, part: str) -> bool:
    """Whether the dotted name of a parameter begins with that of a part."""
    return f"{name}.".startswith(f"{part}.")
