"""TableEncoder: tokens by hand, missing cells, and what is refused."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from parameters import filled

from mmjax.data import ArraySource, Dataset
from mmjax.data.checks import check_examples
from mmjax.encoders import TableEncoder
from mmjax.errors import ConfigError, DataError
from mmjax.structs import Modality, Target

B, N, M, C, D = 3, 2, 2, 4, 5
NUMBERS = Modality("vector", (N,))
KNOWN = Modality("vector", (N,), "bool")
CATEGORIES = Modality("vector", (M,), "int32", vocabulary=C)
TABLE = Modality("table", parts={"numbers": NUMBERS, "known": KNOWN, "categories": CATEGORIES})


def rows():
    return {
        "numbers": np.float32([[0.5, -2], [1, 3], [7, 7]]),
        "known": np.array([[1, 0], [1, 1], [0, 0]], bool),
        "categories": np.int32([[1, 3], [0, 2], [3, 0]]),
    }


def made(modality=TABLE, dtype="float32"):
    return filled(
        lambda: TableEncoder(width=D).build(modality, dtype=jnp.dtype(dtype), rngs=nnx.Rngs(0))
    )


def features(x, modality=TABLE, dtype="float32", params=None, mask=None):
    graphdef, drawn, stats, _ = made(modality, dtype)

    @jax.jit
    def run(params, x, mask):
        module = nnx.merge(graphdef, params, stats)
        return module(x, mask, jnp.ones(B, bool), train=False, rngs=None)

    return run(drawn if params is None else params, x, mask)


def test_tokens_are_those_of_the_formula():
    x, (_, params, _, shape) = rows(), made()
    found = features(x)
    assert found.tokens.shape == (B, *shape) == (B, N + M, D)
    assert found.mask.all()
    for row in range(B):
        expected = [
            x["numbers"][row, j] * params["kernel"][j] + params["bias"][j]
            if x["known"][row, j]
            else params["missing"][j]
            for j in range(N)
        ] + [params["embedding"][j, x["categories"][row, j]] for j in range(M)]
        np.testing.assert_allclose(found.tokens[row], expected, rtol=1e-6)  # one product each


def test_a_number_that_is_not_known_reaches_nothing():
    x, (_, params, _, _) = rows(), made()

    def total(numbers, params):
        tokens = features(x | {"numbers": numbers}, params=params).tokens
        return jnp.sum(tokens * jax.random.normal(jax.random.key(0), tokens.shape))

    by_number, by_parameter = jax.jit(jax.grad(total, argnums=(0, 1)))(x["numbers"], params)
    np.testing.assert_array_equal(np.asarray(by_number) != 0, x["known"])
    assert all((np.abs(leaf).reshape(N, -1).max(1) > 0).all() for leaf in by_parameter.values())
    changed = np.where(x["known"], x["numbers"], np.float32(1e30))
    np.testing.assert_array_equal(features(x | {"numbers": changed}).tokens, features(x).tokens)


@pytest.mark.parametrize(
    ("parts", "tokens"),
    [
        ({"numbers": NUMBERS}, N),
        ({"categories": CATEGORIES}, M),
        ({"numbers": NUMBERS, "categories": CATEGORIES}, N + M),
    ],
)
def test_parts_may_be_left_out(parts, tokens):
    x = {name: values for name, values in rows().items() if name in parts}
    found = features(x, Modality("table", parts=parts))
    assert found.tokens.shape == (B, tokens, D)
    assert np.isfinite(found.tokens).all()


def test_a_mask_takes_columns_out_and_bfloat16_is_computed_in():
    mask = np.arange(N + M) < np.array([4, 2, 0])[:, None]
    np.testing.assert_array_equal(features(rows(), mask=jnp.asarray(mask)).mask, mask)
    tokens = features(rows(), dtype="bfloat16").tokens
    assert tokens.dtype == jnp.bfloat16
    # 2^-8 for each of three roundings.
    np.testing.assert_allclose(np.float32(tokens), features(rows()).tokens, rtol=0.02, atol=0.05)


class Mine(Dataset):
    """One table."""

    name = "mine"
    modalities: ClassVar = {"row": TABLE}
    targets: ClassVar = {"label": Target("class", 2)}

    def load(self, split, folder):
        raise NotImplementedError


@pytest.mark.parametrize("wrong", [C, -1])
def test_a_category_out_of_its_vocabulary_is_refused_and_never_read_as_another(wrong):
    x = rows()
    x["categories"][1, 0] = wrong
    source = ArraySource({"row": x}, {"label": np.zeros(B, np.int32)})
    with pytest.raises(DataError, match=f"'row.categories' .* the id {wrong}, but .* are 0 to 3"):
        check_examples(Mine(), "train", source)
    tokens = np.asarray(features(x).tokens)
    assert np.isnan(tokens).any(axis=(1, 2)).tolist() == [False, True, False]
    check_examples(Mine(), "train", ArraySource({"row": rows()}, source.targets))


@pytest.mark.parametrize(
    ("modality", "sentence"),
    [
        (Modality("vector", (4,)), "TableEncoder encodes .* table, not vector"),
        (Modality("table", parts={"known": KNOWN}), "neither `numbers` nor `categories`"),
        (Modality("table", parts={"number": NUMBERS}), "did you mean 'numbers'"),
        (
            Modality("table", parts={"numbers": NUMBERS, "known": Modality("v", (3,), "bool")}),
            r"`known` of a table has the shape \(3,\), but `numbers` has \(2,\)",
        ),
        (
            Modality("table", parts={"categories": Modality("vector", (M,), "int32")}),
            "has the vocabulary 0: declare the number of categories",
        ),
    ],
)
def test_a_table_that_is_declared_otherwise_is_refused(modality, sentence):
    with pytest.raises(ConfigError, match=sentence):
        TableEncoder().build(modality, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
