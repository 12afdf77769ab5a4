"""The correlation of a share with a class, and the synthetic data of the gate."""

import dataclasses

import numpy as np
import pytest

from mmjax.data import GMUSynthetic
from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.evaluation import GateCorrelation
from mmjax.fusion import GMU, Concat
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.structs import Batch, Outputs
from mmjax.training import Experiment, Training, train

RNG = np.random.default_rng(0)


def test_it_is_pearsons_in_parts():
    gate, share, label = GateCorrelation("a", "y", 2), RNG.random(40), RNG.integers(0, 3, 40)
    present, known = RNG.random((2, 40)) < 0.8
    state = 0
    for rows in (slice(0, 13), slice(13, 40)):
        outputs = Outputs({}, {"a": present[rows]}, shares={"a": share[rows]})
        batch = Batch.of(
            {}, np.arange(40)[rows], targets={"y": label[rows]}, target_masks={"y": known[rows]}
        )
        state = state + gate.state(outputs, batch, GMUSynthetic())
    rows = present & known
    expected = np.corrcoef(share[rows], label[rows] == 2)[0, 1]
    found = gate.values(state, GMUSynthetic())["gate_correlation"]
    assert found == pytest.approx(expected, rel=1e-9)
    assert np.isnan(gate.values(np.zeros(6), GMUSynthetic())["gate_correlation"])


def test_the_switch_says_which_number_carries_the_class():
    source = GMUSynthetic(spread=0.1, width=2).load("test", None)
    batch = source.take(np.arange(2000))
    label, switch = batch.targets["label"], batch.targets["switch"]
    assert 0.45 < switch.mean() < 0.55
    for name, carries, noise in (("textual", switch == 0, -3), ("visual", switch == 1, 3)):
        x = batch.inputs[name]
        np.testing.assert_allclose(x[carries, 0], 2 * label[carries] - 1, atol=0.5)
        np.testing.assert_allclose(x[~carries, 0], noise, atol=0.5)
        assert abs(x[:, 1]).max() < 0.5
    again = GMUSynthetic(spread=0.1, width=2).load("test", None).take(np.array([7]))
    np.testing.assert_array_equal(again.inputs["visual"][0], batch.inputs["visual"][7])
    other = GMUSynthetic(spread=0.1, width=2).load("valid", None).take(np.array([7]))
    assert (other.inputs["visual"] != again.inputs["visual"]).any()


EXPERIMENT = Experiment(
    name="gates",
    data=GMUSynthetic(train_size=32, valid_size=8, test_size=8),
    model=FusionModel({name: MLP((), width=2) for name in ("textual", "visual")}, GMU(2)),
    objectives=(CrossEntropy(),),
    training=Training(steps=1, batch_size=8, final_splits=("test",)),
    evaluation=(GateCorrelation("visual", "switch"),),
)


def test_a_run_has_it(tmp_path):
    assert -1 <= train(EXPERIMENT, tmp_path / "run", None)["metrics"]["test/gate_correlation"] <= 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"model": FusionModel({"visual": MLP((4,))}, Concat())},
            "needs a model whose fusion has shares",
        ),
        ({"evaluation": (GateCorrelation("visul", "switch"),)}, "did you mean 'visual'"),
        ({"evaluation": (GateCorrelation("visual", "switch", 2),)}, "has classes 0 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        train(dataclasses.replace(EXPERIMENT, **change), tmp_path / "run", None)
    with pytest.raises(ConfigError, match="p_switch is 2"):
        GMUSynthetic(p_switch=2.0)
