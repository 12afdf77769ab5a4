"""Captions and labels from the data set to the report: trained, interrupted, evaluated, kept."""

import contextlib
import itertools
import json

import jax
import numpy as np
import pytest

from mmjax.data import Shapes
from mmjax.encoders import LeNet
from mmjax.evaluation import ExactMatch, GrammarMatch, MultiLabelClassification, Predictor, Reads
from mmjax.fusion import Mean
from mmjax.heads import MultiLabel, TokenDecoder
from mmjax.models import FusionModel
from mmjax.objectives import BinaryCrossEntropy, CrossEntropy
from mmjax.studies.reports.run_report import write_run_report
from mmjax.training import Experiment, Interrupted, Training, loop, train
from mmjax.training.restore import restore_run

STEPS = 4
EXPERIMENT = Experiment(
    name="captions",
    data=Shapes(tasks=("attributes", "caption"), train_size=40, valid_size=10, test_size=11),
    model=FusionModel(
        encoders={"image": LeNet(blocks=3, channels=2, width=8)},
        fusion=Mean(8),
        heads={
            "attributes": MultiLabel(),
            "caption": TokenDecoder(width=8, layers=1, heads=2, dropout=0.1),
        },
    ),
    objectives=(CrossEntropy(target="caption"), BinaryCrossEntropy(target="attributes")),
    training=Training(
        steps=STEPS, batch_size=8, log_every=1, eval_every=2, monitor="c_exact_match"
    ),
    evaluation=(
        ExactMatch("caption", name="c"),
        GrammarMatch("caption"),
        MultiLabelClassification("attributes"),
    ),
)


def finished(run):
    """The state and the figures of a finished run."""
    _, state = restore_run(run, "last", None)
    result = json.loads((run / "result.json").read_text())
    arrays = {"params": state.params, "opt_state": state.opt_state, "variables": state.variables}
    return jax.device_get(arrays), result["metrics"], result["details"]


@pytest.mark.slow
def test_a_run_that_writes_captions(tmp_path, monkeypatch):
    train(EXPERIMENT, tmp_path / "whole", None)
    with monkeypatch.context() as patch:
        asked = itertools.count()
        stop = contextlib.nullcontext(lambda: "SIGTERM" if next(asked) >= 3 else "")
        patch.setattr(loop, "stop_signal", lambda: stop)
        with pytest.raises(Interrupted, match="Stopped at step 3 of 4"):
            train(EXPERIMENT, tmp_path / "halves", None)
    train(EXPERIMENT, tmp_path / "halves", None)

    whole, halves = finished(tmp_path / "whole"), finished(tmp_path / "halves")
    jax.tree.map(np.testing.assert_array_equal, halves[0], whole[0])
    assert halves[1:] == whole[1:]
    metrics = whole[1]
    assert {f"test/{name}" for name in ("c_exact_match", "c_token_accuracy")} < set(metrics)
    assert {"test/grammar_match", "test/micro_f1", "valid/exact_match"} < set(metrics)
    assert 0 <= metrics["test/c_token_accuracy"] < 0.5

    setup, state = restore_run(tmp_path / "whole", "best", None)
    forward = setup.forward(state, Reads(generated=("caption",)))
    kept = Predictor(forward, setup.source, 8, EXPERIMENT.data)("test")
    assert kept.generated["caption"].shape == kept.targets["caption"].shape == (11, 12)
    assert np.all(kept.generated["caption"][:, 0] > 0)
    page = write_run_report(tmp_path / "whole").read_text()
    assert "grammar_match" in page
