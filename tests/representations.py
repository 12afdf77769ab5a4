"""Made-up embeddings of two views, split by split, as a predictor for evaluations."""

import dataclasses

import numpy as np

from mmjax.data import DigitsHalves
from mmjax.data.dataset import ArraySource
from mmjax.encoders import MLP
from mmjax.evaluation import Predictor
from mmjax.models import DualEncoder
from mmjax.objectives import DCCA
from mmjax.structs import Outputs
from mmjax.training import Experiment, Training

VIEWS = ("left", "right")


@dataclasses.dataclass(frozen=True)
class Sparse:
    """A source whose views are absent from some records."""

    views: dict
    labels: np.ndarray
    present: dict

    def __len__(self):
        return len(self.labels)

    def take(self, indices):
        batch = ArraySource(self.views, {"label": self.labels}).take(indices)
        return batch.replace(present={name: there[indices] for name, there in self.present.items()})


def predictor(splits):
    """Gives the views themselves as embeddings.

    Args:
        splits: name -> (view -> [N, D], labels [N]) or (the same, view -> [N] bool).
    """
    sources = {}
    for name, (views, labels, *present) in splits.items():
        views = {view: array.astype(np.float32) for view, array in views.items()}
        everywhere = {view: np.ones(len(labels), bool) for view in views}
        there = everywhere | (present[0] if present else {})
        sources[name] = Sparse(views, labels.astype(np.int32), there)

    def forward(batch):
        return Outputs(embeddings=batch.inputs, present=batch.present)

    return Predictor(forward, sources.get, 64, DigitsHalves())


def without(splits, present):
    """The same records and views, some of them absent and spoilt."""
    rows = {}
    for name, (views, labels) in splits.items():
        spoilt = {
            view: np.where(present[name][view][:, None], array, 1e6)
            for view, array in views.items()
        }
        rows[name] = (spoilt, labels, present[name])
    return rows


def experiment(left=8, right=6, data=None):
    """An experiment whose embeddings are this wide; it is not run."""
    return Experiment(
        name="test",
        data=data or DigitsHalves(),
        model=DualEncoder({"left": MLP((), left), "right": MLP((), right)}),
        objectives=(DCCA(views=VIEWS),),
        training=Training(steps=1),
    )
