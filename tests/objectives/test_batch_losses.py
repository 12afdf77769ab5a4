"""What all losses over the covariances of a batch share: gradients, rows, devices, no NaN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmjax.errors import ConfigError
from mmjax.objectives import (
    DGCCA,
    DMCCA,
    DTCCA,
    BarlowTwins,
    EckartYoung,
    VICReg,
    barlow_twins,
    dgcca_loss,
    dmcca_loss,
    dtcca_loss,
    eckart_young_loss,
    vicreg,
)
from mmjax.structs import Batch, Outputs

B, D = 16, 3
NAMES = ("image", "audio", "text")
LOSSES = {
    "dgcca": lambda views, **options: dgcca_loss(views, k=2, **options),
    "dmcca": lambda views, **options: dmcca_loss(views, k=2, **options),
    "dtcca": lambda views, **options: dtcca_loss(views, k=1, **options),
    "eckart_young": lambda views, **options: eckart_young_loss(views, **options),
    "barlow_twins": lambda views, **options: barlow_twins(*views[:2], **options),
    "vicreg": lambda views, **options: vicreg(*views[:2], **options),
}
WITH_RIDGE = ("dgcca", "dmcca", "dtcca")
CONFIGS = {
    "dgcca": DGCCA(views=NAMES, k=2),
    "dmcca": DMCCA(views=NAMES, k=2),
    "dtcca": DTCCA(views=NAMES),
    "eckart_young": EckartYoung(views=NAMES),
    "barlow_twins": BarlowTwins(views=NAMES[:2]),
    "vicreg": VICReg(views=NAMES[:2]),
}
every_loss = pytest.mark.parametrize("name", LOSSES)


def views(rows=B, seed=0):
    """Three views that share skewed sources, so that the third moments are not noise alone."""
    rng = np.random.default_rng(seed)
    common = rng.exponential(size=(rows, D))
    return [common + 0.5 * rng.standard_normal((rows, D)) for _ in NAMES]


def single(**options):
    return [np.float32(view) for view in views(**options)]


@functools.cache
def value_and_gradients(name, ridge=None):
    options = {} if ridge is None else {"ridge": ridge}
    return jax.jit(
        jax.value_and_grad(lambda views, weight: LOSSES[name](views, weight=weight, **options))
    )


@every_loss
def test_gradients_agree_with_finite_differences(name):
    rng = np.random.default_rng(1)
    weight = rng.uniform(0.5, 2, B)
    with jax.enable_x64(True):
        if name == "dtcca":  # the sweeps have to converge: its gradient holds what they find fixed
            loss = functools.partial(dtcca_loss, k=1, iterations=200, ridge=0.1)
        else:
            loss = functools.partial(LOSSES[name], **{"ridge": 0.1} if name in WITH_RIDGE else {})
        run = jax.jit(jax.value_and_grad(lambda views: loss(views, weight=jnp.asarray(weight))))
        point = [jnp.asarray(view).at[0, 0].set(9.0) for view in views()]
        gradients = run(point)[1]
        for _ in range(5):
            along = [rng.standard_normal((B, D)) for _ in point]
            ends = [
                run([p + s * d for p, d in zip(point, along, strict=True)])[0]
                for s in (1e-5, -1e-5)
            ]
            promised = sum((g * d).sum() for g, d in zip(gradients, along, strict=True))
            # 1e-7: the step squared times a third derivative, and rounding over the step.
            np.testing.assert_allclose(promised, (ends[0] - ends[1]) / 2e-5, rtol=1e-7, atol=1e-7)


@every_loss
@pytest.mark.parametrize("filler", [1e30, np.nan])
def test_rows_of_weight_zero_are_not_there(name, filler):
    whole = single()
    weight = np.ones(B, np.float32)
    weight[[3, 15]] = 0
    kept = weight > 0
    filled = [np.where(kept[:, None], view, np.float32(filler)) for view in whole]
    loss, gradients = value_and_gradients(name)(filled, weight)
    expected, expected_gradients = value_and_gradients(name)(
        [view[kept] for view in whole], np.ones(B - 2, np.float32)
    )
    np.testing.assert_allclose(loss, expected, rtol=2e-5)  # the same float32 sums, other order
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        # 1e-4: float32 rounding times condition numbers.
        np.testing.assert_allclose(
            gradient[kept], other, atol=1e-4 * max(np.abs(other).max(), 1e-3)
        )
        assert (np.asarray(gradient)[~kept] == 0).all()


@every_loss
def test_a_weight_of_two_is_the_row_twice(name):
    twice = single()
    for view in twice:
        view[15] = view[4]
    weight = np.ones(B, np.float32)
    weight[4], weight[15] = 2, 0
    np.testing.assert_allclose(
        value_and_gradients(name)(twice, weight)[0],
        value_and_gradients(name)(twice, np.ones(B, np.float32))[0],
        rtol=2e-5,  # float32 sums
    )


@every_loss
def test_a_batch_of_nothing_gives_no_gradient(name):
    loss, gradients = value_and_gradients(name)(single(), np.zeros(B, np.float32))
    assert np.isfinite(loss)
    assert all((gradient == 0).all() for gradient in gradients)


@every_loss
def test_bfloat16_views_are_computed_in_float32(name):
    whole = [jnp.asarray(view, jnp.bfloat16) for view in single()]
    ones = np.ones(B, np.float32)
    loss, gradients = value_and_gradients(name)(whole, ones)
    assert loss.dtype == jnp.float32
    assert all(gradient.dtype == jnp.bfloat16 for gradient in gradients)
    expected, _ = value_and_gradients(name)([view.astype(jnp.float32) for view in whole], ones)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)  # one program in float32


@st.composite
def awkward_view(draw):
    """Columns that are random, constant, zero, repeated or binary, at any scale."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    columns = [rng.standard_normal(B)]
    for _ in range(D - 1):
        match draw(st.sampled_from(["random", "constant", "zero", "repeat", "binary"])):
            case "random":
                columns.append(rng.standard_normal(B))
            case "constant":
                columns.append(np.full(B, rng.standard_normal() * 100))
            case "zero":
                columns.append(np.zeros(B))
            case "repeat":
                columns.append(columns[-1] * draw(st.sampled_from([1.0, -3.0])))
            case "binary":
                columns.append(rng.integers(0, 2, B) * 1.0)
    offset = draw(st.sampled_from([0.0, 1.0, 1e4]))
    return (np.stack(columns, axis=1) + offset) * 10.0 ** draw(st.integers(-8, 24))


@every_loss
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.tuples(awkward_view(), awkward_view(), awkward_view()))
def test_any_finite_views_give_finite_results(name, whole):
    if name in ("eckart_young", "vicreg"):  # fourth powers: infinite above 1e9, as documented
        whole = [view / max(1.0, np.abs(view).max() / 1e8) for view in whole]
    loss, gradients = value_and_gradients(name, ridge=0.0 if name in WITH_RIDGE else None)(
        [np.float32(view) for view in whole], np.ones(B, np.float32)
    )
    assert np.isfinite(loss)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    least, most = {"dgcca": (0, 6), "dmcca": (-1, 0.5), "dtcca": (-B, 1e-6)}.get(
        name, (-np.inf, np.inf)
    )
    assert least <= loss <= most


@pytest.mark.parametrize("name", ["eckart_young", "vicreg"])
@pytest.mark.parametrize("scale", [1e12, 1e30])
def test_what_is_too_large_is_infinite_and_not_nan(name, scale):
    loss, _ = value_and_gradients(name)(
        [np.float32(scale * view) for view in views()], np.ones(B, np.float32)
    )
    assert loss == np.inf


@every_loss
def test_a_config_counts_the_rows_with_all_of_its_views(name):
    config, whole = CONFIGS[name], dict(zip(NAMES, single(), strict=True))
    present = {view: np.ones(B, bool) for view in NAMES}
    weight = np.ones(B, np.float32)
    weight[11] = 0
    kept = weight > 0
    for row, view in enumerate(config.views):
        present[view][row] = kept[row] = False
        whole[view][row] = np.nan
    batch = Batch.of(
        {view: np.zeros((B, 1)) for view in NAMES}, np.arange(B), present=present
    ).replace(weight=weight)
    outputs = Outputs(embeddings=whole, present=present)
    full = [np.where(kept[:, None], view, 0) for view in whole.values()]
    expected, _ = value_and_gradients(name)(full, np.float32(kept))
    np.testing.assert_allclose(jax.jit(config)(outputs, batch).mean, expected, rtol=2e-5)
    assert config.name == name
    for views, sentence in [
        (("audio", "imagee"), "'imagee': did you mean 'image'"),
        (("audio", "smell"), "no embedding 'smell'"),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            type(config)(views=views)(outputs, batch)
    with pytest.raises(ConfigError, match="one view twice"):
        type(config)(views=("audio", "audio"))


def zeros(*shapes):
    return [jnp.zeros(shape, jnp.float32) for shape in shapes]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: DGCCA(views=("image",)), "names 1 of them: name two or more"),
        (lambda: DGCCA(views=NAMES, ridge=-1.0), "ridge=-1.0 must not be negative"),
        (lambda: DMCCA(views=NAMES, ridge=float("nan")), "ridge"),
        (lambda: DTCCA(views=NAMES, iterations=0), "DTCCA.iterations is 0"),
        (lambda: BarlowTwins(views=NAMES[:2], redundancy=-1.0), "redundancy"),
        (lambda: VICReg(views=NAMES[:2], variance=-1.0), "variance"),
        (lambda: VICReg(views=NAMES[:2], epsilon=0.0), "epsilon"),
        (lambda: dgcca_loss(zeros((9, 3))), "was given 1: give two or more"),
        (lambda: dgcca_loss(zeros((9, 3), (8, 3))), "the same examples"),
        (lambda: dgcca_loss(zeros((9, 3), (9,))), "flatten"),
        (lambda: dgcca_loss(zeros((9, 3), (9, 0))), r"\[batch, width\]"),
        (lambda: dgcca_loss(zeros((9, 3), (9, 2)), k=3), "choose k from 1 to 2"),
        (lambda: dgcca_loss(zeros((8, 20), (8, 2))), "8 examples .* 20 dimensions: .* >= 21"),
        (lambda: dgcca_loss(zeros((9, 3), (9, 2)), weight=jnp.ones(8)), "one weight a row"),
        (lambda: dmcca_loss(zeros((9, 3), (9, 2))), "widths 3, 2, which must be equal"),
        (lambda: dmcca_loss(zeros((2, 3), (2, 3))), "2 examples .* 3 dimensions"),
        (lambda: eckart_young_loss(zeros((9, 3), (9, 2))), "widths 3, 2"),
        (lambda: dtcca_loss(zeros((9, 3), (9, 2)), k=0), "choose k from 1 to 2"),
        (lambda: dtcca_loss(zeros((9, 3), (9, 2)), iterations=0), "iterations=0"),
        (lambda: dtcca_loss(zeros(*[(500, 400)] * 3)), "80,000,000 numbers"),
        (lambda: barlow_twins(*zeros((9, 3), (9, 2))), "must be equal"),
        (lambda: vicreg(*zeros((9, 3), (9, 2))), "must be equal"),
        (lambda: vicreg(*zeros((9, 3), (9, 3)), epsilon=0), "epsilon"),
    ],
)
def test_what_cannot_work_is_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        jax.eval_shape(make)  # nothing is computed before it is refused


def test_too_small_a_batch_is_refused_while_it_is_traced():
    with pytest.raises(ConfigError, match=r"8 examples .* 20 dimensions"):
        jax.jit(dtcca_loss)(zeros((8, 20), (8, 2), (8, 2)))
