"""Experiments to JSON and back: nothing is lost on the way, and no code comes in by it."""

import dataclasses
import json
import math
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.training import Cosine, Training
from mmjax.training.config import check_seeds, check_types, differences, from_json, to_json
from mmjax.training.overrides import experiment_of, load_module

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.py"))


@dataclasses.dataclass(frozen=True)
class Part:
    size: int = 1
    rate: float = 0.5
    kind: Literal["a", "b"] = "a"
    on: bool = False
    k: int | None = None
    views: tuple[str, str] = ("left", "right")
    widths: tuple[int, ...] = (1, 2)
    parts: Mapping[str, "Part"] = dataclasses.field(default_factory=dict)
    name: str = "part"
    one: "Part | None" = None


HERE = types.ModuleType("experiment_here")
HERE.Part = Part


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_comes_back(path):
    experiment = experiment_of(load_module(path))
    written = to_json(experiment)
    read = json.loads(json.dumps(written, allow_nan=False))
    assert read == written
    assert from_json(read) == experiment
    assert differences(read, written) == []
    check_types(experiment)


def test_a_user_s_own_dataclass_comes_back_with_the_module_that_defines_it():
    part = Part(k=3, parts={"x": Part(widths=()), "y": Part()}, one=Part(name="ünï"))
    written = json.loads(json.dumps(to_json(part)))
    assert from_json(written, HERE) == part
    for definitions in (None, types.ModuleType("experiment_other")):
        with pytest.raises(
            ConfigError, match=r"test_config.Part', which mmjax does not define: .*FILE"
        ):
            from_json(written, definitions)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (Part(rate=math.nan), "config.rate is nan: choose a finite number"),
        (Part(parts={"x": Part(rate=math.inf)}), "config.parts.x.rate is inf"),
        (Part(widths=(1, np.int64(3))), "config.widths.1 is .*3.*which an experiment cannot hold"),
        (Part(one=Part), "config.one is <class .*which an experiment cannot hold"),
        (Part(name=lambda: 0), "config.name is <function .*which an experiment cannot hold"),
        (Part(parts={"type": Part()}), "config.parts has an entry with the name 'type'"),
        (Part(parts={3: Part()}), "config.parts has an entry with the name 3"),
    ],
)
def test_what_json_has_not_is_refused(value, sentence):
    with pytest.raises(ConfigError, match=sentence):
        to_json(value)


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.Popen",
        "danger.Part",
        "mmjax.Part",
        "mmjax.danger.Part",
        "mmjax..danger.Part",
        "mmjax.training.config.dataclasses",  # there, but no dataclass
        "mmjax.training.experiment.Evaluator",  # likewise
        "mmjax.cli.main",
        "mmjax.\x00.Part",
        "Part",
        "",
        3,
        None,
    ],
)
def test_a_config_imports_nothing_but_mmjax(tmp_path, monkeypatch, path):
    (tmp_path / "danger.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="which mmjax does not define"):
        from_json({"type": path, "size": 1})
    assert "danger" not in sys.modules


def test_fields_of_another_version():
    written = to_json(Training(steps=3))
    with pytest.raises(ConfigError, match=r"cannot make the config's .*Training .*'unheard_of'"):
        from_json(written | {"unheard_of": 1})
    with pytest.raises(ConfigError, match=r"steps is -1: it must be 0 or more"):
        from_json(written | {"steps": -1})


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        (Part(), Part(), []),
        (Part(), Part(size=2), ["size: 1 -> 2"]),
        (Part(), Part(k=2, on=True), ["k: None -> 2", "on: False -> True"]),
        (Part(), Part(views=("left", "up")), ["views.1: right -> up"]),
        (Part(), Part(widths=(1,)), ["widths: [1, 2] -> [1]"]),
        (Part(one=Part()), Part(one=Part(size=4)), ["one.size: 1 -> 4"]),
        (Part(parts={"x": Part()}), Part(parts={"x": Part(size=4)}), ["parts.x.size: 1 -> 4"]),
    ],
)
def test_differences_are_named(old, new, lines):
    assert differences(to_json(old), to_json(new)) == lines


def test_differences_stay_short():
    (line,) = differences(to_json(Part()), to_json(Part(parts={"x": Part()})))
    assert line.startswith("parts.x: None -> {'type'")
    assert len(line) < 100
    (line,) = differences(to_json(MLP()), to_json(Cosine()))
    assert line == ": mmjax.encoders.mlp.MLP -> mmjax.training.optimizer.Cosine"


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (Part(size="1"), "^size is '1': it must be a whole number"),
        (Part(size=1.0), "^size is 1.0: it must be a whole number"),
        (Part(size=True), "^size is True: it must be a whole number"),
        (Part(rate="0.1"), "^rate is '0.1': it must be a number"),
        (Part(rate=False), "^rate is False: it must be a number"),
        (Part(kind="c"), "^kind is 'c': it must be one of 'a', 'b'"),
        (Part(on=1), "^on is 1: it must be True or False"),
        (Part(k="3"), "^k is '3': it must be a whole number or None"),
        (Part(views=("left",)), "^views is .*: it must be a tuple of 2"),
        (Part(views=["left", "right"]), "^views is .*: it must be a tuple of 2"),
        (Part(widths=[1]), r"^widths is \[1\]: it must be a tuple"),
        (Part(widths=(1, "2")), "^widths.1 is '2': it must be a whole number"),
        (Part(parts=[]), r"^parts is \[\]: it must be a Mapping"),
        (Part(parts={"x": 3}), "^parts.x is 3: it must be a Part"),
        (Part(one=Part(name=3)), "^one.name is 3: it must be a string"),
        (Part(one=Part), "^one is <class .*: it must be a Part or None"),
    ],
)
def test_values_of_a_wrong_type_are_named(value, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_types(value)


def test_values_of_a_right_type_pass():
    check_types(Part(rate=1, k=3, parts={"x": Part(one=Part())}, widths=(), on=True))
    check_types(Part(rate=np.float64(0.1)))


@dataclasses.dataclass(frozen=True)
class Made:
    total: int = dataclasses.field(init=False, default=3)
    seed: int = 0
    parts: tuple = ()


class Outer:
    @dataclasses.dataclass(frozen=True)
    class Inner:
        size: int = 1


def test_what_could_not_be_made_again_is_refused_before_it_is_trained():
    assert from_json(to_json(Made()), sys.modules[__name__]) == Made()
    with pytest.raises(ConfigError, match=r"class Outer.Inner, .*: move the class to the top"):
        to_json(Outer.Inner())
    with pytest.raises(ConfigError, match=r"config.parts is a list: declare it as a tuple"):
        to_json(Made(parts=["x"]))


def test_seeds_that_are_one_for_some_library_are_refused():
    check_seeds(Made(seed=2**32 - 1))
    for seed in (-1, 2**32, 2**63):
        with pytest.raises(ConfigError, match=rf"parts.0.seed is {seed}: a seed is from 0 to 4294"):
            check_seeds(Made(parts=(Made(seed=seed),)))
