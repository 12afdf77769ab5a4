"""Every public loss, as a function of the same arguments."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmjax.objectives import (
    InfoNCE,
    RunningCovariance,
    SigmoidContrastive,
    barlow_twins,
    bernoulli_reconstruction,
    binary_cross_entropy,
    canonical_correlations,
    cross_entropy,
    dcca_loss,
    dcca_loss_and_telemetry,
    dgcca_loss,
    dimensionwise_correlation,
    dmcca_loss,
    dtcca_loss,
    eckart_young_loss,
    focal,
    info_nce,
    joint_embedding,
    kl_divergence,
    noi_loss,
    relative_distance,
    sigmoid_contrastive,
    soft_cca_loss,
    squared_cca_loss,
    squared_error,
    squared_reconstruction,
    unit_distance,
    vicreg,
)
from mmjax.structs import Batch, Outputs


def memory(width):
    return tuple(RunningCovariance(jnp.eye(width) + d / 9, jnp.float32(2.0)) for d in range(2))


def class_weights(x):
    return np.arange(1.0, x.shape[1] + 1)


def mean(total_and_count):
    return total_and_count[0] / total_and_count[1]


def learned(objective, x, y, w):
    """The loss of an objective with parameters; beside it their gradients and the telemetry."""
    module = objective(views=("a", "b"), learned=True).build(Outputs({}, {}), rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(module)
    outputs = Outputs({"a": x, "b": y}, dict.fromkeys("ab", jnp.ones(len(x), bool)))
    rows = Batch.of({}, np.arange(len(x))).replace(weight=jnp.ones(len(x)) if w is None else w)

    def loss(params):
        term = nnx.merge(graphdef, params)(outputs, rows, train=True, rngs=None)
        return term.mean, term.telemetry

    (value, telemetry), gradients = jax.value_and_grad(loss, has_aux=True)(nnx.as_pure(params))
    return value, (gradients, telemetry)


# Of views x and y [B, D], labels z [B] and weights w [B]; some give results beside the loss.
LOSSES = {
    "dcca": lambda x, y, z, w: dcca_loss(x, y, weight=w),
    "dcca, k": lambda x, y, z, w: dcca_loss(x, y, k=2, weight=w),
    "dcca, newton_schulz": lambda x, y, z, w: dcca_loss_and_telemetry(
        x, y, weight=w, solver="newton_schulz"
    ),
    "squared_cca": lambda x, y, z, w: squared_cca_loss(x, y, weight=w),
    "dgcca": lambda x, y, z, w: dgcca_loss((x, y, x + y), k=2, weight=w, ridge=0.1),
    "dmcca": lambda x, y, z, w: dmcca_loss((x, y, x + y), k=2, weight=w, ridge=0.1),
    "dtcca": lambda x, y, z, w: dtcca_loss((x, y, x + y), k=1, weight=w),
    "eckart_young": lambda x, y, z, w: eckart_young_loss((x, y, x + y), weight=w),
    "barlow_twins": lambda x, y, z, w: barlow_twins(x, y, weight=w),
    "vicreg": lambda x, y, z, w: vicreg(x, y, weight=w),
    "noi": lambda x, y, z, w: noi_loss(x, y, memory(x.shape[1]), weight=w),
    "soft_cca": lambda x, y, z, w: soft_cca_loss(x, y, memory(x.shape[1]), weight=w),
    "dimensionwise_correlation": lambda x, y, z, w: dimensionwise_correlation(x, y, weight=w),
    "relative_distance": lambda x, y, z, w: relative_distance(x, y, weight=w),
    "unit_distance": lambda x, y, z, w: unit_distance(x, y, weight=w),
    "cross_entropy": lambda x, y, z, w: mean(
        cross_entropy(x + y, z, weight=w, class_weights=class_weights(x))
    ),
    "focal": lambda x, y, z, w: mean(
        focal(x + y, z, gamma=2.0, weight=w, class_weights=class_weights(x))
    ),
    "info_nce": lambda x, y, z, w: info_nce(x, y, temperature=0.1, weight=w),
    "sigmoid": lambda x, y, z, w: sigmoid_contrastive(x, y, temperature=10.0, bias=-10.0, weight=w),
    "joint_embedding": lambda x, y, z, w: joint_embedding(
        x, y, jnp.eye(len(x)), regularization=0.1, margin=3.0, weight=w
    ),
    "info_nce, learned": lambda x, y, z, w: learned(InfoNCE, x, y, w),
    "sigmoid, learned": lambda x, y, z, w: learned(SigmoidContrastive, x, y, w),
}
# Of single examples, and of correlations themselves.
OTHERS = {
    "squared_reconstruction": lambda x, y, z, w: squared_reconstruction(x, y, weight=w),
    "bernoulli_reconstruction": lambda x, y, z, w: bernoulli_reconstruction(
        x + y, jax.nn.one_hot(z, x.shape[1]), weight=w
    ),
    "kl_divergence": lambda x, y, z, w: kl_divergence(x, y, weight=w),
    "binary_cross_entropy": lambda x, y, z, w: mean(
        binary_cross_entropy(x + y, jax.nn.one_hot(z, x.shape[1]), weight=w)
    ),
    "squared_error": lambda x, y, z, w: mean(squared_error(x, y, weight=w)),
    "canonical_correlations": lambda x, y, z, w: jnp.sum(canonical_correlations(x, y, weight=w)),
}
