"""Balance between modalities: how the gradient of each encoder is changed before the optimizer."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from mmjax.errors import ConfigError
from mmjax.objectives.objective import label_of
from mmjax.structs import Batch, Outputs
from mmjax.training.optimizer import part_name

Leaves = list[jax.Array]  # the gradients of the parameters of one encoder


class Balance(abc.ABC):
    """Base of the rules. They change the gradients of the encoders; all others stay as they are.

    Objectives come in two groups: the losses of `Unimodal`, each of one modality alone, and all
    others. A step with a rule costs a backward pass for each group. It logs, of each encoder before
    the rule, `gradient_norm/MODALITY`, and `conflict/MODALITY`: the cosine between the gradients of
    the two groups, below 0 where one undoes the other, and 0 without the one or the other.
    """

    needs_unimodal: ClassVar[bool] = True  # the objective `Unimodal`

    @abc.abstractmethod
    def __call__(
        self,
        joint: Mapping[str, Leaves],
        alone: Mapping[str, Leaves],
        outputs: Outputs,
        batch: Batch,
        key: jax.Array,
    ) -> tuple[dict[str, Leaves], dict[str, jax.Array]]:
        """The gradients that the optimizer gets.

        Args:
            joint: modality -> gradients of all objectives but `Unimodal`, of its encoder.
            alone: the same of `Unimodal`; zeros without it.
            outputs: of the model in training.
            batch: the batch.
            key: PRNG key of the rule in this step.

        Returns:
            modality -> gradients, and further scalars to log.
        """


@dataclasses.dataclass(frozen=True)
class Unchanged(Balance):
    """Changes nothing: for runs that are to log norms and conflicts only."""

    needs_unimodal: ClassVar[bool] = False

    def __call__(
        self,
        joint: Mapping[str, Leaves],
        alone: Mapping[str, Leaves],
        outputs: Outputs,
        batch: Batch,
        key: jax.Array,
    ) -> tuple[dict[str, Leaves], dict[str, jax.Array]]:
        """See `Balance.__call__`."""
        return {name: _sum(joint[name], alone[name]) for name in joint}, {}


@dataclasses.dataclass(frozen=True)
class NoBalance(Unchanged):
    """Changes nothing and logs nothing, in one backward pass."""


@dataclasses.dataclass(frozen=True)
class OGMGE(Balance):
    """On-the-fly gradient modulation with generalisation enhancement.

        k_m = 1 - tanh(alpha r_m) if r_m > 1, else 1,    r_m = s_m / mean of s over the others

    where s_m is the mean probability that modality m alone gives to the true class. The gradient of
    encoder m is multiplied by k_m, and Gaussian noise is added that has, for each parameter array,
    the standard deviation of its gradient. In the paper, s_m comes from the part of a joint linear
    layer that reads modality m; here from the heads of `FusionModel(unimodal=True)`, which need the
    objective `Unimodal` to be trained. With more than two modalities, r_m compares with the mean of
    the others, of which the paper says nothing.

    Attributes:
        target: name of a target of the kind `class`.
        alpha: how strongly the dominant modality is held back, above 0.
        noise: whether the noise is added (GE).

    Reference:
        Peng, Wei, Deng, Wang and Hu, Balanced Multimodal Learning via On-the-fly Gradient
        Modulation, CVPR 2022, equations 8 to 13.
    """

    target: str = "label"
    alpha: float = 0.5
    noise: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.alpha < float("inf"):
            raise ConfigError(f"OGMGE: alpha is {self.alpha}; choose it above 0.")

    def __call__(
        self,
        joint: Mapping[str, Leaves],
        alone: Mapping[str, Leaves],
        outputs: Outputs,
        batch: Batch,
        key: jax.Array,
    ) -> tuple[dict[str, Leaves], dict[str, jax.Array]]:
        """See `Balance.__call__`."""
        scores = true_class_scores(outputs, batch, self.target)
        total, others = sum(scores.values()), max(len(scores) - 1, 1)
        changed, logged = {}, {}
        for place, name in enumerate(sorted(joint)):
            # A batch without any of the others says nothing of the balance.
            rest = (total - scores[name]) / others
            ratio = jnp.where(rest > 0, scores[name] / jnp.where(rest > 0, rest, 1), 1)
            factor = jnp.where(ratio > 1, 1 - jnp.tanh(self.alpha * ratio), 1)
            leaves = [factor * leaf for leaf in _sum(joint[name], alone[name])]
            if self.noise:
                keys = jax.random.split(jax.random.fold_in(key, place), len(leaves))
                leaves = [
                    leaf + jnp.std(leaf) * jax.random.normal(each, leaf.shape, leaf.dtype)
                    for leaf, each in zip(leaves, keys, strict=True)
                ]
            changed[name], logged[f"modulation/{name}"] = leaves, factor
        return changed, logged


@dataclasses.dataclass(frozen=True)
class MMPareto(Balance):
    """Gradient surgery between the joint loss and the loss of one modality, for each encoder.

        h = 2 a g_joint + 2 (1 - a) g_alone,    then  gamma max(1, |g_joint + g_alone| / |h|) h

    with a = 1/2 where the two do not conflict (their product is positive), else the a in [0, 1] of
    the shortest h, which is a direction of descent of both. Norms are over an encoder as a whole;
    the published code takes the last two for each array.

    Attributes:
        gamma: factor of the length of h, above 0.

    Reference:
        Wei and Hu, MMPareto: Boosting Multimodal Learning with Innocent Unimodal Assistance, ICML
        2024, section 3.4 and algorithm 1.
    """

    gamma: float = 1.5

    def __post_init__(self) -> None:
        if not 0 < self.gamma < float("inf"):
            raise ConfigError(f"MMPareto: gamma is {self.gamma}; choose it above 0.")

    def __call__(
        self,
        joint: Mapping[str, Leaves],
        alone: Mapping[str, Leaves],
        outputs: Outputs,
        batch: Batch,
        key: jax.Array,
    ) -> tuple[dict[str, Leaves], dict[str, jax.Array]]:
        """See `Balance.__call__`."""
        changed, logged = {}, {}
        for name in joint:
            of_joint, of_alone = joint[name], alone[name]
            across = _product(of_joint, of_alone)
            lengths = _product(of_joint, of_joint), _product(of_alone, of_alone)
            apart = lengths[0] + lengths[1] - 2 * across  # of the difference of the two
            shortest = (lengths[1] - across) / jnp.where(apart > 0, apart, 1)
            weight = jnp.where((across > 0) | (apart <= 0), 0.5, jnp.clip(shortest, 0, 1))
            combined = [
                2 * weight * one + 2 * (1 - weight) * other
                for one, other in zip(of_joint, of_alone, strict=True)
            ]
            length = jnp.sqrt(_product(combined, combined))
            plain = jnp.sqrt(lengths[0] + lengths[1] + 2 * across)
            # Opposite gradients have a shortest h of 0, of which rounding leaves any direction.
            exact = length > 1e-4 * jnp.sqrt(lengths[0] + lengths[1])
            scale = jnp.maximum(1, plain / jnp.where(exact, length, jnp.inf))
            changed[name] = [self.gamma * scale * leaf for leaf in combined]
            logged[f"pareto/{name}"] = weight
        return changed, logged


def balanced(
    balance: Balance,
    joint: Any,
    alone: Any,
    outputs: Outputs,
    batch: Batch,
    key: jax.Array,
) -> tuple[Any, dict[str, jax.Array]]:
    """The gradients of all parameters after a rule, and what it logs.

    Args:
        balance: the rule.
        joint: gradients of all objectives but `Unimodal`.
        alone: those of `Unimodal`.
        outputs: of the model.
        batch: the batch.
        key: PRNG key of the step.
    """
    paths, tree = jax.tree.flatten_with_path(joint)
    others = jax.tree.leaves(alone)
    places: dict[str, list[int]] = {}
    for place, (path, _) in enumerate(paths):
        part, *rest = part_name(path).split(".")
        if part == "encoders":
            places.setdefault(rest[0], []).append(place)
    of_joint = {name: [paths[place][1] for place in at] for name, at in places.items()}
    of_alone = {name: [others[place] for place in at] for name, at in places.items()}
    changed, logged = balance(of_joint, of_alone, outputs, batch, key)
    for name in places:
        whole = _sum(of_joint[name], of_alone[name])
        logged[f"gradient_norm/{name}"] = optax.tree.norm(whole)
        norms = optax.tree.norm(of_joint[name]) * optax.tree.norm(of_alone[name])
        cosine = _product(of_joint[name], of_alone[name]) / jnp.where(norms > 0, norms, 1)
        logged[f"conflict/{name}"] = cosine
    leaves = [one + other for (_, one), other in zip(paths, others, strict=True)]
    for name, at in places.items():
        for place, leaf in zip(at, changed[name], strict=True):
            leaves[place] = leaf
    return jax.tree.unflatten(tree, leaves), logged


def true_class_scores(outputs: Outputs, batch: Batch, target: str) -> dict[str, jax.Array]:
    """Modality -> the mean probability that its own head gives to the true class, [].

    Over the examples that have the modality and a known label; 0 without any.
    """
    if not outputs.unimodal:
        raise ConfigError(
            "The model has no heads of one modality, which the balance reads: choose "
            "FusionModel(unimodal=True)."
        )
    labels, weight = label_of(batch, target)
    scores = {}
    for name, predictions in sorted(outputs.unimodal.items()):
        p = jax.nn.softmax(predictions[target].values.astype(jnp.float32))
        chosen = jnp.take_along_axis(p, jnp.maximum(labels, 0)[:, None], axis=1)[:, 0]
        rows = (weight > 0) & outputs.present[name]
        total = jnp.sum(jnp.where(rows, chosen, 0))
        scores[name] = jax.lax.stop_gradient(total / jnp.maximum(rows.sum(), 1))
    return scores


def _sum(one: Leaves, other: Leaves) -> Leaves:
    return [a + b for a, b in zip(one, other, strict=True)]


def _product(one: Leaves, other: Leaves) -> jax.Array:
    """The inner product of two lists of arrays, in float32."""
    pairs = zip(one, other, strict=True)
    return sum(
        (jnp.vdot(a.astype(jnp.float32), b.astype(jnp.float32)) for a, b in pairs),
        start=jnp.zeros(()),
    )
