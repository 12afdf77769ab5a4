"""The learner, the train state and the pure step on it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct

from mmjax.data import Modality, Target
from mmjax.errors import ConfigError
from mmjax.models import Model, abstract_outputs
from mmjax.objectives import Objective, PureObjective
from mmjax.structs import Batch, Outputs, Term
from mmjax.training.sharding import state_shardings


class Learner(nnx.Module):
    """A model and the objectives beside it: all that is trained, kept and saved, as one module.

    Args:
        model: that `Model.build` made.
        objectives: that `Objective.build` made, in the order of the experiment.
    """

    def __init__(self, model: Any, objectives: list[Any]) -> None:
        self.model = model
        self.objectives = nnx.List(objectives)


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """What of a run does not change from step to step and is no array.

    Attributes:
        graphdef: the structure of the `Learner`.
        optimizer: the optax transformation.
        objectives: configs of what is minimised: the sum of weight times value.
    """

    graphdef: Any
    optimizer: optax.GradientTransformation
    objectives: tuple[Objective, ...]


@struct.dataclass
class TrainState:
    """All that changes as training goes on; the arrays are what a checkpoint holds."""

    step: Any  # [] int32, steps done
    params: Any  # those that are trained, of the model and of the objectives
    variables: Any  # what is not trained: running statistics of both, caches
    opt_state: Any
    key: Any  # root PRNG key; the key of a step is fold_in(key, step)
    program: Program = struct.field(pytree_node=False)
    frozen: Any = struct.field(default_factory=dict)  # parameters that stay (Model.frozen_paths)


def state_maker(
    model: Model,
    modalities: Mapping[str, Modality],
    targets: Mapping[str, Target],
    objectives: tuple[Objective, ...],
    optimizer: optax.GradientTransformation,
    *,
    seed: int,
    dtype: jnp.dtype,
) -> Callable[[], TrainState]:
    """A function, to be traced, that initialises a state.

    Args:
        model: the model's config.
        modalities: of the data set.
        targets: of the data set.
        objectives: what is minimised.
        optimizer: the optax transformation.
        seed: of the parameters and of all randomness in training.
        dtype: of the computation; parameters are float32.

    Raises:
        ConfigError: by the function, where model, objectives and data set do not fit, or nothing
            is to train.
    """
    programs = []
    frozen_paths = [("model", *path) for path in model.frozen_paths]

    def is_frozen(path: tuple[Any, ...], _: Any) -> bool:
        return any(path[: len(prefix)] == prefix for prefix in frozen_paths)

    def make() -> TrainState:
        key = jax.random.key(seed)
        rngs = nnx.Rngs(params=jax.random.fold_in(key, 0))
        module = model.build(modalities, targets, dtype=dtype, rngs=rngs)
        shapes = Outputs({}, {})
        if not all(isinstance(each, PureObjective) for each in objectives):
            shapes = abstract_outputs(module, modalities, targets)
        rngs = nnx.Rngs(params=jax.random.fold_in(key, 2))
        learner = Learner(module, [each.build(shapes, rngs=rngs) for each in objectives])
        graphdef, frozen, params, variables = nnx.split(  # type: ignore[misc]
            learner, nnx.All(nnx.Param, is_frozen), nnx.Param, ...
        )
        frozen, params, variables = map(nnx.as_pure, (frozen, params, variables))
        if frozen_paths and not jax.tree.leaves(params):
            raise ConfigError(
                "All parameters of the model are frozen, so there is nothing to train: take an "
                "encoder out of model.frozen."
            )
        # Traced once for the shapes and once for the values; the first program serves for both.
        programs.append(Program(graphdef, optimizer, objectives))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            variables=variables,
            opt_state=optimizer.init(params),
            key=jax.random.fold_in(key, 1),
            program=programs[0],
            frozen=frozen,
        )

    return make


def abstract_state(make: Callable[[], TrainState], mesh: jax.sharding.Mesh) -> TrainState:
    """The shapes of a state and how they lie on the mesh, without making it."""
    abstract = jax.eval_shape(make)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        abstract,
        state_shardings(abstract, mesh),
    )


def create_state(make: Callable[[], TrainState], mesh: jax.sharding.Mesh) -> TrainState:
    """Makes a state where its parts will lie: one jitted call, sharded from the start."""
    shardings = state_shardings(jax.eval_shape(make), mesh)
    with jax.set_mesh(mesh):
        return jax.jit(make, out_shardings=shardings)()


def merged(state: TrainState, params: Any) -> Learner:
    """The learner with `params` and what else the state holds, for use within one trace."""
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
    """Runs the model with `params`: its outputs, or what another of its methods gives.

    Args:
        state: what else the model needs.
        params: those that are trained.
        batch: what it is run on.
        train: whether dropout and batch statistics are those of training.
        key: of the random numbers of training.
        method: such as "generate", which is called with the batch alone; empty calls the model.
    """
    model = merged(state, params).model
    if method:
        return getattr(model, method)(batch)
    return model(batch, train=train, rngs=None if key is None else nnx.Rngs(dropout=key))


def loss_of(
    state: TrainState, params: Any, batch: Batch, *, key: jax.Array | None = None
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
    """The loss of a training step, and what is logged and kept of it.

    Args:
        state: before the step.
        params: those that are trained.
        batch: the global batch.
        key: of the random numbers of the step.

    Returns:
        The sum over the objectives of weight times mean; each of these means under its name, with
        what an objective tells beside it as `name/key` (the second objective of the same name is
        called `name_2`, and so on); and the variables after the step.
    """
    learner = merged(state, params)
    rngs = None if key is None else nnx.Rngs(dropout=key)
    outputs = learner.model(batch, train=True, rngs=rngs)
    configs = state.program.objectives
    total = jnp.zeros((), jnp.float32)
    values: dict[str, jax.Array] = {}
    for name, config, objective in zip(
        metric_names(configs), configs, learner.objectives, strict=True
    ):
        term: Term = objective(outputs, batch, train=True, rngs=rngs)
        total += config.weight * term.mean
        values[name] = term.mean
        values.update({f"{name}/{key}": scalar for key, scalar in term.telemetry.items()})
    variables = nnx.as_pure(nnx.state(learner, nnx.Not(nnx.Param)))
    return total, (values, jax.lax.stop_gradient(variables))


def metric_names(objectives: tuple[Objective, ...]) -> list[str]:
    """What the objectives are called among the metrics, each otherwise."""
    taken = ["loss", "gradient_norm"]  # what a step logs beside them
    for objective in objectives:
        name, number = objective.name, 2
        while name in taken:
            name, number = f"{objective.name}_{number}", number + 1
        taken.append(name)
    return taken[2:]


def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of training, pure: the next state, and scalars to log.

    Args:
        state: donated by the loop.
        batch: the global batch.

    Returns:
        The state after the step, and `loss`, `gradient_norm` and every objective by its name, of
        the parameters before the step.
    """
    key = jax.random.fold_in(state.key, state.step)

    def loss(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
        return loss_of(state, params, batch, key=key)

    (total, (values, variables)), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
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


def eval_step(state: TrainState, batch: Batch) -> Outputs:
    """The model's outputs on a batch, without dropout and with the running statistics."""
    return apply(state, state.params, batch)
