"""TokenDecoder: teacher forcing, greedy writing with a cache, and what neither of them may see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import filled

from mmjax.encoders import MLP, FeatureShape
from mmjax.errors import ConfigError
from mmjax.fusion import MultimodalTransformer
from mmjax.heads import Classifier, TokenDecoder, default_head
from mmjax.models import FusionModel
from mmjax.structs import Batch, Features, Modality, Target

B, L, T, D, C, END = 4, 5, 3, 6, 7, 2
FLOAT = jnp.dtype("float32")
RNG = np.random.default_rng(0)
FUSED = Features(RNG.standard_normal((B, T, D)).astype(np.float32), np.ones((B, T), bool))
GIVEN = RNG.integers(1, C, (B, L)).astype(np.int32)
HEAD = TokenDecoder(width=8, layers=2, heads=2)


def build(target):
    return HEAD.build(FeatureShape(T, D), target, dtype=FLOAT, rngs=nnx.Rngs(0))


@functools.cache
def parameters(end):
    return filled(lambda: build(Target("tokens", C, (L,), end=end)))[:2]


@functools.partial(jax.jit, static_argnames="end")
def _run(params, fused, given, end):
    head = nnx.merge(parameters(end)[0], params, {})
    return head(fused, given, train=False, rngs=None), head.generate(fused)


def run(fused=FUSED, given=GIVEN, end=END, bias=()):
    """The prediction and what is written; `bias` is token -> what is added to its logit."""
    params = parameters(end)[1]
    change = np.zeros(C, np.float32)
    for token, value in bias:
        change[token] = value
    params = params | {"out": params["out"] | {"bias": params["out"]["bias"] + change}}
    return jax.device_get(_run(params, fused, given, end))


def test_a_token_does_not_see_itself_or_what_follows():
    predicted, _ = run()
    for position in range(L):
        other = GIVEN.copy()
        other[:, position:] = 1 + other[:, position:] % (C - 1)
        changed, _ = run(given=other)
        before = slice(None, position + 1)
        np.testing.assert_array_equal(changed.values[:, before], predicted.values[:, before])
        after = np.abs(changed.values - predicted.values)[:, position + 1 :]
        assert after.size == 0 or after.min(axis=(0, 2)).max() > 0


def test_what_is_written_is_the_likeliest_of_what_is_told():
    """Step by step with the cache, the same token wins as in one pass over all that was written."""
    loud = FUSED.replace(tokens=6 * FUSED.tokens)  # so that the examples differ
    _, written = run(loud)
    ids = written.values
    assert len({tuple(row) for row in ids.tolist()}) == B, "one sequence for all proves nothing"
    predicted, _ = run(loud, given=ids)
    likeliest = 1 + predicted.values[:, :, 1:].argmax(axis=2)
    np.testing.assert_array_equal(np.where(written.mask, likeliest, 0), ids)
    np.testing.assert_array_equal(predicted.mask, written.mask)
    ends = (ids == END).sum(axis=1)
    assert set(ends) == {0, 1}
    for row in ids[ends == 1]:
        assert np.all(row[row.tolist().index(END) + 1 :] == 0)


def test_ends_and_padding():
    _, written = run(bias=[(END, 100.0)])
    assert written.values.tolist() == [[END, 0, 0, 0, 0]] * B
    assert written.mask.tolist() == [[True, False, False, False, False]] * B
    _, written = run(bias=[(0, 100.0), (END, -100.0)])
    assert written.mask.all()
    assert np.all(written.values > 0)
    _, endless = run(end=0, bias=[(END, 100.0)])
    assert endless.values.tolist() == [[END] * L] * B


def test_masked_tokens_reach_nothing():
    mask = np.array([[1, 1, 1], [1, 0, 1], [0, 0, 0], [0, 1, 0]], bool)
    outcomes = [
        run(Features(np.where(mask[:, :, None], FUSED.tokens, hidden), mask))
        for hidden in (0.0, 7.0, np.nan)
    ]
    for other in outcomes[1:]:
        jax.tree.map(np.testing.assert_array_equal, other, outcomes[0])
    assert np.isfinite(outcomes[0][0].values).all()


def test_gradient_reaches_every_parameter():
    graphdef, params = parameters(END)

    @jax.jit
    @jax.grad
    def gradient(params):
        head, (fused, given) = (
            nnx.merge(graphdef, params, {}),
            jax.tree.map(jnp.asarray, (FUSED, GIVEN)),
        )
        values = head(fused, given, train=False, rngs=None).values
        return jnp.sum(values * jax.random.normal(jax.random.key(0), values.shape))

    sizes = jax.tree.map(lambda leaf: float(np.abs(leaf).max()), gradient(params))
    # 1e-5: a parameter that changes nothing still gets the rounding errors of the others, 1e-7.
    largest = max(jax.tree.leaves(sizes))
    assert jax.tree.all(jax.tree.map(lambda size: size > 1e-5 * largest, sizes)), sizes


def test_bfloat16_writes_too():
    target, bfloat16 = Target("tokens", C, (L,), end=END), jnp.dtype("bfloat16")

    def write(fused):
        shape = FeatureShape(T, D)
        return HEAD.build(shape, target, dtype=bfloat16, rngs=nnx.Rngs(0)).generate(fused)

    written = jax.eval_shape(write, FUSED.replace(tokens=jnp.asarray(FUSED.tokens, bfloat16)))
    assert written.values.shape == written.mask.shape == (B, L)
    assert written.values.dtype == jnp.int32


def test_it_says_nothing_without_tokens():
    module = nnx.merge(*parameters(END), {})
    assert module(FUSED, None, train=False, rngs=None) is None


def test_an_absent_modality_changes_nothing_that_is_written():
    modalities = {name: Modality("vector", (3,)) for name in ("a", "b")}
    targets = {"words": Target("tokens", C, (L,), end=END)}
    model = FusionModel(
        {name: MLP((), 4) for name in modalities},
        MultimodalTransformer(8, 1, 2),
        heads={"words": HEAD},
    )
    graphdef, params, variables, _ = filled(
        lambda: model.build(modalities, targets, dtype=FLOAT, rngs=nnx.Rngs(0))
    )

    @jax.jit
    def write(batch):
        module = nnx.merge(graphdef, params, variables)
        return module.generate(batch)["words"], module(batch).predictions

    given = {name: RNG.standard_normal((B, 3)).astype(np.float32) for name in modalities}
    present = {"b": np.array([1, 0, 0, 1], bool)}
    written = []
    for hidden in (0.0, np.nan):
        b = np.where(present["b"][:, None], given["b"], np.float32(hidden))
        batch = Batch.of(given | {"b": b}, np.arange(B), present=present)
        written.append(jax.device_get(write(batch)))
    jax.tree.map(np.testing.assert_array_equal, *written)
    assert written[0][1] == {}, "no tokens were given, so none is predicted"


def test_the_head_of_tokens():
    assert default_head("words", Target("tokens", C, (L,))) == TokenDecoder()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="TokenDecoder predicts a target of the kind tokens, not"):
        build(Target("class", C))
    with pytest.raises(
        ConfigError, match="Classifier predicts a target of the kind class, not tok"
    ):
        Classifier().build(
            FeatureShape(T, D), Target("tokens", C, (L,)), dtype=FLOAT, rngs=nnx.Rngs(0)
        )
    with pytest.raises(
        ConfigError, match=r"tokens of the shape \(6,\), but its target has length 5"
    ):
        run(given=np.ones((B, L + 1), np.int32))
    with pytest.raises(ConfigError, match="width of 8 cannot be split into 3 attention heads"):
        TokenDecoder(width=8, heads=3).build(
            FeatureShape(T, D), Target("tokens", C, (L,)), dtype=FLOAT, rngs=nnx.Rngs(0)
        )
    with pytest.raises(ConfigError, match=r"TokenDecoder\.layers is 0: it must be 1 or more"):
        TokenDecoder(layers=0)
    with pytest.raises(ConfigError, match=r"has the shape \(\): give the length of the"):
        Target("tokens", C)
    for target in ({"kind": "tokens", "end": C}, {"kind": "class", "end": 1}):
        with pytest.raises(ConfigError, match="choose an id from 1 to 6"):
            Target(**{"classes": C, "shape": (L,)} | target)
