"""A term is a total and a count: means over batches, masks and hosts are those of the whole."""

import jax
import jax.numpy as jnp
import numpy as np

from mmjax.structs import Term

EACH = np.float32([3, 1, 4, 1, 5, 9])
WEIGHT = np.float32([1, 0, 2, 1, 1, 0])


def test_the_mean_of_rows_merges_by_totals_and_counts():
    def term(rows):
        mean = np.average(EACH[rows], weights=WEIGHT[rows]) if WEIGHT[rows].any() else 0.0
        return Term.of_rows(jnp.float32(mean), WEIGHT[rows])

    whole = term(slice(None))
    parts = [term(slice(0, 3)), term(slice(3, 5)), term(slice(5, 6))]  # the last counts nothing
    merged = Term(sum(part.total for part in parts), sum(part.count for part in parts))
    assert merged.count == whole.count == 5
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-6)  # float32 means times counts
    assert abs(np.mean([part.mean for part in parts]) - whole.mean) > 0.1


def test_where_nothing_counts_the_mean_is_zero_and_so_is_its_gradient():
    def mean(total):
        return Term(total, jnp.float32(0)).mean

    value, slope = jax.value_and_grad(mean)(jnp.float32(0))
    assert value == 0
    assert np.isfinite(slope)
    assert Term.of_rows(jnp.float32(0), np.zeros(3, np.float32)).mean == 0


def test_what_is_of_a_batch_as_one_counts_as_one():
    term = Term.of_batch(jnp.float32(-2.5), rank=jnp.float32(3))
    assert (term.total, term.count, term.mean) == (-2.5, 1, -2.5)
    assert term.telemetry == {"rank": 3}
    assert term.count.dtype == jnp.float32
