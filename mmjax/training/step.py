"""The learner, the train state and the pure train step."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct

from mmjax.data import Modality, Target
from mmjax.errors import ConfigError, unknown_name
from mmjax.layers import is_marked_frozen
from mmjax.models import Model, abstract_outputs
from mmjax.objectives import Objective, PureObjective, Unimodal
from mmjax.structs import Batch, Outputs, Term
from mmjax.training.balance import Balance, NoBalance, balanced
from mmjax.training.optimizer import in_part, part_name
from mmjax.training.sharding import state_shardings


class Learner(nnx.Module):
    """A model and its objectives as one module: everything that is trained and saved.

    Args:
        model: made by `Model.build`.
        objectives: made by `Objective.build`, in the order of the experiment.
    """

    def __init__(self, model: Any, objectives: list[Any]) -> None:
        self.model = model
        self.objectives = nnx.List(objectives)


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """The static part of the train state: no arrays, constant over the run.

    Attributes:
        graphdef: the structure of the `Learner`.
        optimizer: the optax transformation.
        objectives: configs of the objectives; the loss is the sum of weight times value.
        balance: changes the gradients of the encoders.
    """

    graphdef: Any
    optimizer: optax.GradientTransformation
    objectives: tuple[Objective, ...]
    balance: Balance = NoBalance()


@struct.dataclass
class TrainState:
    """Everything that changes during training; a checkpoint holds its arrays."""

    step: Any  # [] int32, steps done
    params: Any  # trained parameters of the model and of the objectives
    variables: Any  # not trained: running statistics of both, caches
    opt_state: Any
    key: Any  # root PRNG key; the key of a step is fold_in(key, step)
    program: Program = struct.field(pytree_node=False)
    frozen: Any = struct.field(default_factory=dict)  # parameters that are not trained


def state_maker(
    model: Model,
    modalities: Mapping[str, Modality],
    targets: Mapping[str, Target],
    objectives: tuple[Objective, ...],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    dtype: jnp.dtype,
    frozen: tuple[str, ...] = (),
    balance: Balance | None = None,
) -> Callable[[], TrainState]:
    """A function, which JAX can trace, that initialises a state.

    Args:
        model: the model's config.
        modalities: of the data set.
        targets: of the data set.
        objectives: configs of the objectives.
        optimizer: the optax transformation.
        seed: seed of the parameters and of all randomness in training.
        dtype: of the computation; parameters are float32.
        frozen: dotted names of frozen parts, besides those that the model itself freezes.
        balance: of the gradients; None for none.

    Raises:
        ConfigError: by the function: model, objectives and data set do not fit together, a frozen
            part has no parameters, or all parameters are frozen.
    """
    programs = []
    parts = [*frozen, *(".".join(path) for path in model.frozen_paths)]

    def is_frozen(path: tuple[Any, ...], variable: Any) -> bool:
        name = ".".join(map(str, path)).removeprefix("model.")
        return is_marked_frozen(variable) or any(in_part(name, part) for part in parts)

    def make() -> TrainState:
        key = jax.random.key(seed)
        # `dropout` is for modules that keep a stream of their own: `nnx.Dropout(rate, rngs=rngs)`.
        streams = {"params": 0, "dropout": 3}
        rngs = nnx.Rngs({name: jax.random.fold_in(key, at) for name, at in streams.items()})
        module = model.build(modalities, targets, dtype=dtype, rngs=rngs)
        shapes = Outputs({}, {})
        if not all(isinstance(objective, PureObjective) for objective in objectives):
            shapes = abstract_outputs(module, modalities, targets)
        rngs = nnx.Rngs(params=jax.random.fold_in(key, 2))
        built = [objective.build(shapes, rngs=rngs) for objective in objectives]
        learner = Learner(module, built)
        graphdef, kept, params, variables = nnx.split(  # type: ignore[misc]
            learner, nnx.All(nnx.Param, is_frozen), nnx.Param, ...
        )
        kept, params, variables = map(nnx.as_pure, (kept, params, variables))
        _check_frozen(frozen, kept, params)
        # Traced once for the shapes and once for the values; both use the first program.
        programs.append(Program(graphdef, optimizer, objectives, balance or NoBalance()))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            variables=variables,
            opt_state=optimizer.init(params),
            key=jax.random.fold_in(key, 1),
            program=programs[0],
            frozen=kept,
        )

    return make


def _check_frozen(parts: tuple[str, ...], kept: Any, params: Any) -> None:
    """Refuses a frozen part without parameters, and a model without others; ConfigError."""
    frozen, trained = (
        [part_name(path) for path, _ in jax.tree.leaves_with_path(tree)] for tree in (kept, params)
    )
    for part in parts:
        if not any(in_part(name, part) for name in frozen):
            beginnings = dict.fromkeys(
                ".".join(name.split(".")[:depth])
                for name in (*frozen, *trained)
                for depth in range(1, part.count(".") + 2)
            )
            raise unknown_name("part of the parameters, for training.frozen,", part, beginnings)
    if frozen and not trained:
        raise ConfigError(
            "All parameters of the model are frozen, so nothing can be trained: remove an encoder "
            "from model.frozen, or a part from training.frozen."
        )


def abstract_state(make: Callable[[], TrainState], mesh: jax.sharding.Mesh) -> TrainState:
    """The shapes and shardings of a state, without making it."""
    abstract = jax.eval_shape(make)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract,
        state_shardings(abstract, mesh),
    )


def create_state(
    make: Callable[[], TrainState], mesh: jax.sharding.Mesh, options: dict[str, Any] | None = None
) -> TrainState:
    """Makes a state in one jitted call, sharded from the start.

    Args:
        make: of `state_maker`.
        mesh: the devices.
        options: of the compiler.
    """
    shardings = state_shardings(jax.eval_shape(make), mesh)
    with jax.set_mesh(mesh):
        return jax.jit(make, out_shardings=shardings, compiler_options=options)()


def merged(state: TrainState, params: Any) -> Learner:
    """The learner with `params` and the other arrays of the state, for use within one trace."""
    return nnx.merge(state.program.graphdef, params, state.frozen, state.variables)


def apply(
    state: TrainState,
    params: Any,
    batch: Batch,
    *,
    train: bool = False,
    key: jax.Array | None = None,
    method: str = "",
) -> Any:
    """Runs the model, or another method of it, with `params`.

    Args:
        state: everything else that the model needs.
        params: the trained parameters.
        batch: the input.
        train: whether dropout and batch statistics are in training mode.
        key: PRNG key of the dropout.
        method: a method that takes the batch only, such as "generate"; empty calls the model.
    """
    model = merged(state, params).model
    if method:
        return getattr(model, method)(batch)
    return model(batch, train=train, rngs=None if key is None else nnx.Rngs(dropout=key))


def loss_of(
    state: TrainState, params: Any, batch: Batch, *, key: jax.Array | None = None
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
    """The loss of a training step, with its logged values and the new variables.

    Args:
        state: before the step.
        params: the trained parameters.
        batch: the global batch.
        key: PRNG key of the step.

    Returns:
        The loss, the sum over the objectives of weight times mean; the logged values, each mean
        under its objective's name and further values of an objective as `name/key` (the second
        objective of the same name is called `name_2`, and so on); and the variables after the step.
    """
    losses, aux, _ = _losses(state, params, batch, key=key)
    total = jnp.zeros((), jnp.float32)
    for loss in losses:
        total += loss
    return total, aux


def _losses(
    state: TrainState, params: Any, batch: Batch, *, key: jax.Array | None
) -> tuple[list[jax.Array], tuple[dict[str, jax.Array], Any], Outputs]:
    """Weight times mean of each objective, what `loss_of` returns beside them, and the outputs."""
    learner = merged(state, params)
    rngs = None if key is None else nnx.Rngs(dropout=key)
    outputs = learner.model(batch, train=True, rngs=rngs)
    configs, losses = state.program.objectives, []
    values: dict[str, jax.Array] = {}
    for name, config, objective in zip(
        metric_names(configs), configs, learner.objectives, strict=True
    ):
        term: Term = objective(outputs, batch, train=True, rngs=rngs)
        losses.append(config.weight * term.mean)
        values[name] = term.mean
        values.update({f"{name}/{key}": scalar for key, scalar in term.telemetry.items()})
    values.update(outputs.statistics)
    variables = nnx.as_pure(nnx.state(learner, nnx.Not(nnx.Param)))
    return losses, (values, jax.lax.stop_gradient(variables)), outputs


def metric_names(objectives: tuple[Objective, ...]) -> list[str]:
    """The names of the objectives among the metrics; each is different."""
    taken = ["loss", "gradient_norm"]  # the other metrics of a step
    for objective in objectives:
        name, number = objective.name, 2
        while name in taken:
            name, number = f"{objective.name}_{number}", number + 1
        taken.append(name)
    return taken[2:]


def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """One training step, a pure function.

    Args:
        state: donated by the loop.
        batch: the global batch.

    Returns:
        The state after the step, and scalars to log: `loss`, `gradient_norm` and the value of every
        objective by its name, with the parameters before the step.
    """
    key = jax.random.fold_in(state.key, state.step)

    def loss(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        return loss_of(state, params, batch, key=key)

    if isinstance(state.program.balance, NoBalance):
        both, gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
        total, (values, variables) = both
    else:
        total, values, variables, gradients = _balanced(state, state.program.balance, batch, key)
    updates, opt_state = state.program.optimizer.update(gradients, state.opt_state, state.params)
    metrics = {"loss": total, "gradient_norm": optax.tree.norm(gradients), **values}
    next_state = dataclasses.replace(
        state,
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        variables=variables,
        opt_state=opt_state,
    )
    return next_state, metrics


def _balanced(
    state: TrainState, balance: Balance, batch: Batch, key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array], Any, Any]:
    """Loss, logged values, variables, and the gradients after the rule."""
    alone = [isinstance(each, Unimodal) for each in state.program.objectives]

    def groups(params: Any) -> tuple[tuple[jax.Array, jax.Array], Any]:
        losses, aux, outputs = _losses(state, params, batch, key=key)
        parts = [jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)]
        for loss, place in zip(losses, alone, strict=True):
            parts[place] += loss
        return (parts[0], parts[1]), (aux, jax.lax.stop_gradient(outputs))

    (joint, of_one), pull, ((values, variables), outputs) = jax.vjp(
        groups, state.params, has_aux=True
    )
    one, zero = jnp.ones((), joint.dtype), jnp.zeros((), joint.dtype)
    gradients, logged = balanced(
        balance,
        *(pull((one, zero))[0], pull((zero, one))[0]),
        outputs,
        batch,
        jax.random.fold_in(key, 1),
    )
    return joint + of_one, values | logged, variables, gradients


def eval_step(state: TrainState, batch: Batch) -> Outputs:
    """The model's outputs on a batch, without dropout and with the running statistics."""
    return apply(state, state.params, batch)
