"""Learning rates and starts that depend on the layer, for encoders that were trained before."""

import dataclasses
import re
from typing import Any

import jax
import optax

from mmjax.errors import ConfigError, check_sizes, unknown_name
from mmjax.training.optimizer import AdamW, Optimizer, Rated, Schedule, clip, in_part, part_name

# What the encoders of mmjax call what stands before their blocks.
_FIRST = frozenset(
    (
        *("embed", "positions", "segments", "norm_before"),
        *("patch", "class_token", "distillation_token", "stem"),
    )
)


@dataclasses.dataclass(frozen=True)
class LayerWise(Optimizer):
    """Smaller rates for earlier layers of encoders, and training from the last layer on.

    A layer at the distance d from the end of its encoder has the rate decay^d times that of the
    optimizer, and is trained from step d * unfreeze_every on; before, it stays as it is, and its
    moments start then. With L blocks, block l of 1 to L has d = L + 1 - l, and what stands before
    the blocks (words, patches, positions, a stem) has d = L + 1. Everything else has d = 0: heads,
    fusion, other encoders, and what stands after the blocks of an encoder.

    Its gradient is computed at every step, so this saves no time; the norm to which
    `optimizer.clip_norm` clips is that of all gradients.

    Attributes:
        parts: dotted names of the encoders, such as `encoders.text`. One with several lists of
            blocks is named by them, such as `encoders.audio.blocks`.
        optimizer: of all parameters.
        decay: above 0, at most 1; 1: the same rate everywhere.
        unfreeze_every: steps from the start of one layer to that of the one before; 0: all are
            trained from the start.

    Reference:
        Howard and Ruder 2018, Universal Language Model Fine-tuning for Text Classification, section
        3.3 (gradual unfreezing). Clark et al. 2020, ELECTRA, appendix A (decay of the rates); Bao
        et al. 2022, BEiT, has the distances above.
    """

    parts: tuple[str, ...]
    optimizer: Rated = AdamW()
    decay: float = 1.0
    unfreeze_every: int = 0

    def __post_init__(self) -> None:
        check_sizes(self, "unfreeze_every", least=0)
        if not 0 < self.decay <= 1:
            raise ConfigError(f"LayerWise.decay is {self.decay}: choose it above 0 and at most 1.")
        if not self.parts:
            raise ConfigError("LayerWise.parts is empty: list encoders, as in ('encoders.text',).")

    def build(self, steps: int) -> optax.GradientTransformation:
        """See `Optimizer.build`.

        Raises:
            ConfigError: by its `init`: a part has no parameters, or several lists of blocks; or
                its first layer would not be trained within the run.
        """

        def made(params: Any) -> optax.GradientTransformationExtraArgs:
            distances = self._distances(params)
            return optax.partition(
                {f"distance_{d}": self._at(d, steps) for d in set(jax.tree.leaves(distances))},
                jax.tree.map(lambda d: f"distance_{d}", distances),
            )

        inner = optax.GradientTransformation(
            lambda params: made(params).init(params),
            lambda updates, state, params=None: made(updates).update(updates, state, params),
        )
        return optax.chain(clip(self.optimizer.clip_norm), inner)

    def _at(self, distance: int, steps: int) -> optax.GradientTransformation:
        start = distance * self.unfreeze_every
        if start and start >= steps:
            raise ConfigError(
                f"The first layer would be trained from step {start} on, but the run has {steps} "
                "steps: choose fewer for LayerWise.unfreeze_every, or train longer."
            )
        optimizer = dataclasses.replace(
            self.optimizer,  # type: ignore[type-var]
            learning_rate=self.optimizer.learning_rate * self.decay**distance,
            schedule=_From(self.optimizer.schedule, start),
            clip_norm=0.0,
        ).build(steps)
        if not start:
            return optimizer
        return optax.transforms.conditionally_mask(optimizer, lambda step: step >= start)

    def _distances(self, params: Any) -> Any:
        """A tree like the parameters with the distance of each as its leaf."""
        names = jax.tree_util.tree_map_with_path(lambda path, _: part_name(path), params)
        found: dict[str, int] = {}
        for part in self.parts:
            inside = [name for name in jax.tree.leaves(names) if in_part(name, part)]
            if not inside:
                possible = dict.fromkeys(
                    ".".join(name.split(".")[: part.count(".") + 1])
                    for name in jax.tree.leaves(names)
                )
                raise unknown_name("part of the parameters, for LayerWise,", part, possible)
            found |= _distances_in(part, inside)
        return jax.tree.map(lambda name: found.get(name, 0), names)


def _distances_in(part: str, names: list[str]) -> dict[str, int]:
    """Name of a parameter of an encoder -> its distance; see `LayerWise`."""
    rest = {name: name.removeprefix(part).removeprefix(".") for name in names}
    blocks = {name: _block(path) for name, path in rest.items()}
    lists = sorted({block[0] for block in blocks.values() if block})
    if len(lists) != 1:
        few = ", ".join(f"{part}.{one}".rstrip(".") for one in lists) or "none"
        raise ConfigError(
            f"LayerWise counts the blocks of one list, but {part!r} has {len(lists)} ({few}): name "
            "one of them in LayerWise.parts, or an encoder with one list of blocks."
        )
    order = sorted({block[1] for block in blocks.values() if block})
    distances = {}
    for name, path in rest.items():
        if block := blocks[name]:
            distances[name] = len(order) - order.index(block[1])
        else:
            first = not _FIRST.isdisjoint(path.split("."))
            distances[name] = len(order) + 1 if first else 0
    return distances


def _block(path: str) -> tuple[str, tuple[int, ...]] | None:
    """The list of blocks that a parameter is in, and its numbers there: of groups.2.0, (2, 0)."""
    found = re.match(r"((?:[^\d.][^.]*\.)*)((?:\d+\.)+)", path)
    if not found:
        return None
    return found[1].rstrip("."), tuple(int(number) for number in found[2].rstrip(".").split("."))


@dataclasses.dataclass(frozen=True)
class _From(Schedule):
    """A schedule as it is from a step on, for an optimizer that counts from there."""

    schedule: Schedule
    start: int

    def build(self, peak: float, steps: int) -> optax.Schedule:
        """See `Schedule.build`."""
        rate = self.schedule.build(peak, steps)
        return lambda count: rate(count + self.start)
