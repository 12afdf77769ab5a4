"""Examples that lack a view of an objective: refused or told before the first step."""

import dataclasses

import numpy as np
import pytest

from mmjax.data import Dataset, Modality
from mmjax.data.dataset import ArraySource
from mmjax.data.transforms import DropModality
from mmjax.encoders import MLP
from mmjax.errors import DataError
from mmjax.models import DualEncoder
from mmjax.objectives import DCCA, NOI, InfoNCE
from mmjax.training import Experiment, Training, train
from mmjax.training.pairs import FIRST, few_pairs
from mmjax.training.setup import Setup

VIEWS = ("left", "right")


@dataclasses.dataclass(frozen=True)
class Halves(Dataset):
    """Two views of noise; the second is present in every `every`-th example, from `start` on."""

    every: int
    start: int = 0
    name = "halves"
    splits = ("train",)
    modalities = dict.fromkeys(VIEWS, Modality("vector", (4,)))
    targets = {}  # noqa: RUF012

    def load(self, split, folder):
        """See `Dataset.load`."""
        noise = np.random.default_rng(0).standard_normal((2, 512, 4)).astype(np.float32)
        number = np.arange(512)
        there = (number % self.every == 0) & (number >= self.start)
        return ArraySource(dict(zip(VIEWS, noise, strict=True)), {}, present={"right": there})


def experiment(data, objective, batch_size=64, width=10, transforms=()):
    return Experiment(
        name="pairs",
        data=data,
        model=DualEncoder({view: MLP((), width) for view in VIEWS}),
        objectives=(objective,),
        training=Training(steps=1, batch_size=batch_size, log_every=1),
        transforms=transforms,
    )


@pytest.mark.parametrize("objective", [DCCA, NOI, InfoNCE])
def test_views_that_no_example_has_together_are_refused(objective):
    setup = Setup(experiment(Halves(every=1, start=512), objective(views=VIEWS)), None)
    with pytest.raises(DataError, match=r"None of 512 .* 'left', 'right', so .* nothing to learn"):
        few_pairs(setup)


def test_pairs_that_come_late_are_found():
    late = Halves(every=1, start=FIRST)
    assert few_pairs(Setup(experiment(late, InfoNCE(views=VIEWS)), None)) == []
    assert few_pairs(Setup(experiment(late, DCCA(views=VIEWS)), None)) == []


def test_fewer_pairs_than_a_covariance_needs_are_refused_and_few_are_told():
    def sixth(**options):
        return Setup(experiment(Halves(every=6), DCCA(views=VIEWS), **options), None)

    with pytest.raises(DataError, match=r"about 11 .* of 20 dimensions.* batch_size >= 357"):
        few_pairs(sixth(width=20))
    (note,) = few_pairs(sixth())
    assert "about 11 have all of the views 'left', 'right'" in note
    assert few_pairs(sixth(batch_size=256)) == []


def test_views_that_a_transform_takes_away_are_counted():
    def dropping(rate):
        drop = DropModality("left", rate)
        return Setup(experiment(Halves(every=1), DCCA(views=VIEWS), transforms=(drop,)), None)

    (note,) = few_pairs(dropping(0.7))
    assert "Of the 64 examples of a batch about 22 have" in note
    with pytest.raises(DataError, match="None of 512 training examples has all of the views"):
        few_pairs(dropping(1.0))


def test_a_run_tells_it(tmp_path, capsys):
    data = Halves(every=6)
    train(experiment(data, DCCA(views=VIEWS)), tmp_path / "run")
    assert "mmjax: Of the 64 examples of a batch about 11 have" in capsys.readouterr().err
