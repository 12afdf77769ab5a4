import dataclasses
import json
import types
from typing import Literal

import pytest
import sweep_fakes

from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.fusion import Concat, Mean
from mmjax.studies.sweeps.sweep import Choice, Integers, LogUniform, Sweep, Uniform, sweep_of
from mmjax.training.config import from_json, to_json

RATE = "optimizer.learning_rate"


@dataclasses.dataclass(frozen=True)
class Parted(Concat):
    parts: int = 3
    mode: Literal["a", "b"] = "a"


@pytest.fixture
def experiment():
    return sweep_fakes.experiment()


def make(path=RATE, each=None, **changes):
    return Sweep(
        **{"space": {path: each or LogUniform(1e-4, 1e-2)}, "metric": "accuracy"} | changes
    )


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Uniform(0.5, 0.5), "empty"),
        (lambda: Uniform(0.0, float("inf")), "finite"),
        (lambda: LogUniform(0.0, 1.0), "logarithm"),
        (lambda: Integers(0, 8, log=True), "logarithm"),
        (lambda: Integers(8, 4), "low end"),
        (lambda: Choice({}), "needs options"),
        (lambda: Choice((32, 32)), "twice"),
        (lambda: Choice.__post_init__(_unchecked(Choice((1,)), options=(Concat(),))), "names"),
        (lambda: Sweep({}, "accuracy"), "empty"),
        (lambda: make(metric="valid/accuracy"), "write 'accuracy'"),
        (lambda: make(metric=""), "no metric"),
        (lambda: make(seed=-1), "from 0 to"),
        (lambda: make("training.seed"), "same in all trials"),
        (lambda: make("training"), "cannot be swept"),
        (lambda: make("training.final_splits", Choice(("a",))), "away from `test`"),
        (
            lambda: Sweep(
                {"model.fusion": Choice({"a": Mean()}), "model.fusion.width": Integers(1, 9)}, "a"
            ),
            "within it",
        ),
    ],
)
def test_values_that_make_no_sweep_are_refused(build, said):
    with pytest.raises(ConfigError, match=said) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_another_direction_and_another_range_are_refused():
    # As a user's file has them, whose types nothing checks before.
    with pytest.raises(ConfigError, match="did you mean 'max'"):
        Sweep.__post_init__(_unchecked(make(), direction="maxi"))
    with pytest.raises(ConfigError, match="make it a Uniform"):
        Sweep.__post_init__(_unchecked(make(), space={RATE: (0.1, 0.2)}))


def _unchecked(value, **changes):
    made = object.__new__(type(value))
    for field in dataclasses.fields(value):
        object.__setattr__(made, field.name, changes.get(field.name, getattr(value, field.name)))
    return made


def test_a_metric_may_have_parts_but_no_split():
    assert make(metric="accuracy/redundant").metric == "accuracy/redundant"


def test_apply_puts_plain_json_into_its_places(experiment):
    sweep = Sweep(
        {
            RATE: LogUniform(1e-4, 1e-2),
            "model.encoders.left.width": Integers(4, 32, log=True),
            "model.fusion": Choice({"concat": Concat(), "mean": Mean(width=16)}),
            "training.batch_size": Choice((32, 64)),
        },
        "accuracy",
    )
    parameters = {
        RATE: 0.002,
        "model.encoders.left.width": 12,
        "model.fusion": "mean",
        "training.batch_size": "32",
    }
    sweep.check(experiment)
    applied = sweep.apply(experiment, json.loads(json.dumps(parameters)))
    assert applied.optimizer.learning_rate == 0.002
    assert applied.model.encoders["left"] == MLP(hidden=(8,), width=12)
    assert applied.model.encoders["right"] == experiment.model.encoders["right"]
    assert applied.model.fusion == Mean(width=16)
    assert applied.training.batch_size == 32
    assert experiment.optimizer.learning_rate == 1e-3  # the original is as it was


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "name no value"),
        ({RATE: 0.1, "optimizer.b1": 0.9}, "no range"),
    ],
)
def test_apply_wants_all_parameters_and_no_other(experiment, parameters, said):
    with pytest.raises(ConfigError, match=said):
        make().apply(experiment, parameters)


def test_an_unknown_option_of_a_choice_is_refused(experiment):
    sweep = make("model.fusion", Choice({"concat": Concat()}))
    with pytest.raises(ConfigError, match="did you mean 'concat'"):
        sweep.apply(experiment, {"model.fusion": "concatt"})


def test_values_may_fit_each_other_and_not_what_was_there(experiment):
    @dataclasses.dataclass(frozen=True)
    class Pair(Concat):
        low: float = 0.0
        high: float = 1.0

        def __post_init__(self):
            if self.low >= self.high:
                raise ConfigError("low is not below high")

    experiment = dataclasses.replace(
        experiment, model=dataclasses.replace(experiment.model, fusion=Pair())
    )
    space = {f"model.fusion.{name}": Uniform(0.0, 9.0) for name in ("low", "high")}
    sweep = Sweep(space, "accuracy")
    applied = sweep.apply(experiment, {"model.fusion.low": 4.0, "model.fusion.high": 5.0})
    assert (applied.model.fusion.low, applied.model.fusion.high) == (4.0, 5.0)
    with pytest.raises(ConfigError, match=r"model\.fusion\.low = 6\.0: low is not below high"):
        sweep.apply(experiment, {"model.fusion.low": 6.0, "model.fusion.high": 5.0})


@pytest.mark.parametrize(
    ("path", "each", "said"),
    [
        ("optimizer.learning_rte", LogUniform(1e-4, 1e-2), "did you mean 'learning_rate'"),
        ("model.encoders.middle.width", Integers(1, 2), "Available: left, right"),
        ("optimizer.learning_rate.more", Integers(1, 2), "None are available"),
        ("model.fusion.parts", Uniform(8.0, 16.0), "whole number"),
        ("model.fusion.mode", Integers(1, 2), "one of 'a', 'b'"),
        ("model.fusion.mode", Choice(("a", "c")), "one of 'a', 'b'"),
    ],
)
def test_ranges_that_do_not_fit_the_experiment_are_refused(experiment, path, each, said):
    model = dataclasses.replace(experiment.model, fusion=Parted())
    experiment = dataclasses.replace(experiment, model=model)
    with pytest.raises(ConfigError, match=said):
        make(path, each).check(experiment)


def test_a_range_whose_ends_fit_only_together_with_others_is_no_error(experiment):
    dropout = "model.heads.label.dropout"  # 1.0 is refused, what lies below it is not
    sweep = make(dropout, Uniform(0.0, 1.0))
    sweep.check(experiment)
    assert sweep.apply(experiment, {dropout: 0.5}).model.heads["label"].dropout == 0.5
    make("optimizer.learning_rate", Integers(1, 2)).check(experiment)  # whole numbers are numbers


def test_data_without_valid_is_refused(experiment):
    class NoValid:
        name, splits = "none", ("train", "test")

    with pytest.raises(ConfigError, match="no 'valid' split"):
        make().check(_unchecked(experiment, data=NoValid()))


def test_a_trial_is_chosen_on_valid_and_keeps_away_from_test(experiment):
    sweep = make(metric="loss", direction="min")
    training = sweep.trial(experiment, {RATE: 0.5}).training
    assert training.monitor == "loss"
    assert training.final_splits == ("valid",)
    assert training.seed == experiment.training.seed
    assert sweep.monitored(experiment).training.final_splits == ()


@pytest.mark.parametrize(
    ("direction", "directions", "said"),
    [
        ("max", {}, ""),
        ("min", {"valid/rmse": "min"}, ""),
        ("max", {"test/rmse": "min"}, ""),  # of another metric
        ("min", {}, "is 'min', but of the metric 'rmse' more is better: set it to 'max'"),
        ("max", {"valid/rmse": "min"}, "is 'max', but of .* less is better: set it to 'min'"),
    ],
)
def test_a_direction_that_the_metric_does_not_have_is_refused(direction, directions, said):
    sweep = make(metric="rmse", direction=direction)
    if not said:
        sweep.check_direction(directions)
        return
    with pytest.raises(ConfigError, match=said) as caught:
        sweep.check_direction(directions)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("direction", ["max", "min"])
def test_the_first_trial_tells_that_the_direction_is_wrong(tmp_path, direction):
    class Measured(sweep_fakes.FakeRun):
        """A run of a metric of which less is better."""

        def __init__(self, run_dir, config, **options):
            super().__init__(run_dir, config, **options)
            result = json.loads((run_dir / "result.json").read_text())
            result["directions"] = {"valid/accuracy": "min"}
            (run_dir / "result.json").write_text(json.dumps(result))

    sweep = dataclasses.replace(sweep_fakes.SWEEP, direction=direction)
    if direction == "min":
        assert len(sweep_fakes.run(tmp_path / "sweep", 2, sweep, Measured).trials()) == 2
    else:
        with pytest.raises(ConfigError, match="less is better: set it to 'min'"):
            sweep_fakes.run(tmp_path / "sweep", 2, sweep, Measured)


def test_a_sweep_is_json(experiment):
    text = json.dumps(to_json(sweep_fakes.SWEEP))
    assert to_json(from_json(json.loads(text))) == json.loads(text)


def test_the_sweep_of_a_file(experiment):
    module = types.ModuleType("my")
    module.__file__ = "my.py"
    with pytest.raises(ConfigError, match=r"my\.py does not define `sweep`"):
        sweep_of(module)
    module.sweep = make()
    assert sweep_of(module) == make()
