"""That an encoder of an experiment begins at the weights that were loaded, for tests."""

import numpy as np

from mmjax.pretrained.published import leaves_of


def assert_begins_at(loaded, shape, sample_rate=0):
    values = loaded.encoder.values(shape, sample_rate)
    leaves = leaves_of(loaded.module)
    expected = {name: leaf for name, leaf in leaves.items() if not name.startswith("classifier")}
    assert values.keys() == expected.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(value, expected[name])
