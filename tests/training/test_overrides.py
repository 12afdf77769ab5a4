"""What the words of the command line change, what they cannot, and that help explains it all."""

import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mmjax.data import DigitsHalves, DropModality
from mmjax.encoders import MLP
from mmjax.errors import ConfigError
from mmjax.evaluation import Classification, HeldOutCorrelation
from mmjax.heads import Classifier
from mmjax.models import FusionModel
from mmjax.objectives import DCCA, CrossEntropy
from mmjax.training import AdamW, Cosine, Experiment, Training
from mmjax.training.overrides import (
    experiment_of,
    load_module,
    options_of,
    override,
    replace_at,
)

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.py"))
VIEWS = ("left", "right")

EXPERIMENT = Experiment(
    name="whole",
    data=DigitsHalves(),
    model=FusionModel(
        encoders={"left": MLP(), "right_half": MLP(), "far-off": MLP()},
        heads={"label": Classifier()},
    ),
    objectives=(CrossEntropy(), DCCA(views=VIEWS, weight=0.5)),
    optimizer=AdamW(schedule=Cosine()),
    training=Training(steps=10),
    evaluation=(Classification(), HeldOutCorrelation(views=VIEWS, k=3)),
    transforms=(DropModality("left", 0.5),),
)


def at(value, path):
    """The value at a dotted path, looked up without the code under test."""
    for name in path.split("."):
        if isinstance(value, Mapping):
            value = value[name]
        else:
            value = value[int(name)] if isinstance(value, tuple) else getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        ("--training.steps 5", "training.steps", 5),
        ("--training.steps=5", "training.steps", 5),
        ("--training.batch-size 5", "training.batch_size", 5),
        ("--training.batch_size 5", "training.batch_size", 5),
        ("--training.batch_size=5", "training.batch_size", 5),
        ("--training.steps 5 --training.steps 6", "training.steps", 6),
        ("--training.mesh.data 2", "training.mesh.data", 2),
        ("--training.mesh.data -1", "training.mesh.data", -1),
        ("--training.tensorboard True", "training.tensorboard", True),
        ("--training.precision bfloat16", "training.precision", "bfloat16"),
        ("--optimizer.learning-rate 3e-2", "optimizer.learning_rate", 3e-2),
        ("--optimizer.learning-rate 1", "optimizer.learning_rate", 1.0),
        ("--optimizer.schedule.warmup-steps 3", "optimizer.schedule.warmup_steps", 3),
        ("--model.encoders.left.width 7", "model.encoders.left.width", 7),
        ("--model.encoders.right_half.width 7", "model.encoders.right_half.width", 7),
        ("--model.encoders.right-half.width 7", "model.encoders.right_half.width", 7),
        ("--model.encoders.far-off.width 7", "model.encoders.far-off.width", 7),
        ("--model.encoders.left.hidden 3 4 5", "model.encoders.left.hidden", (3, 4, 5)),
        ("--model.encoders.left.hidden", "model.encoders.left.hidden", ()),
        ("--model.heads.label.dropout 0.5", "model.heads.label.dropout", 0.5),
        ("--objectives.0.weight 2.5", "objectives.0.weight", 2.5),
        ("--objectives.1.weight 2.5", "objectives.1.weight", 2.5),
        ("--objectives.1.k 2", "objectives.1.k", 2),
        ("--objectives.1.k None", "objectives.1.k", None),
        ("--objectives.1.views right left", "objectives.1.views", ("right", "left")),
        ("--evaluation.1.k 2", "evaluation.1.k", 2),
        ("--transforms.0.rate 0.25", "transforms.0.rate", 0.25),
        ("--name other", "name", "other"),
    ],
)
def test_a_word_changes_its_value_and_no_other(words, path, value):
    changed = override(EXPERIMENT, words.split(), "test")
    assert at(changed, path) == value
    assert type(at(changed, path)) is type(value)
    assert replace_at(changed, path, at(EXPERIMENT, path)) == EXPERIMENT
    assert replace_at(EXPERIMENT, path, value) == changed


def test_no_words_change_nothing():
    assert override(EXPERIMENT, [], "test") == EXPERIMENT


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_option_of_every_experiment_takes_the_value_that_it_has(path):
    experiment = experiment_of(load_module(path))
    words = []
    for name, value in options_of(experiment).items():
        values = value if isinstance(value, tuple) else (value,)
        if name.split(".")[-1] != "transforms" and values:
            words += [f"--{name}", *map(str, values)]
    assert len(words) > 40
    assert override(experiment, words, "test") == experiment


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_help_explains_every_option(path, capsys):
    experiment = experiment_of(load_module(path))
    with pytest.raises(SystemExit) as ended:
        override(experiment, ["--help"], "test")
    assert ended.value.code == 0
    said = re.sub(r"[│╭╮╰╯─]|\n", " ", capsys.readouterr().out)
    said = " ".join(said.split())
    for name, value in options_of(experiment).items():
        if value != () or "." in name:  # an empty tuple of parts has no options
            option = f"--{name.replace('_', '-')}"
            found = re.search(rf"{re.escape(option)} (.*?)(?=--[a-z]+[.a-z]| options |$)", said)
            assert found, option
            words = re.sub(r"\(default:.*|[A-Z{}\[\].|]+", "", found[1])
            assert re.search(r"[a-z]{2,}", words), f"{option} has no help: {found[1]!r}"
    for part in parts_of(experiment):
        doc = "\n".join(inspect.getdoc(each) or "" for each in type(part).__mro__)
        for field in dataclasses.fields(part):
            assert re.search(rf"^\s+{field.name}: \S", doc, re.MULTILINE), (type(part), field.name)


def parts_of(value):
    if dataclasses.is_dataclass(value):
        yield value
        for field in dataclasses.fields(value):
            yield from parts_of(getattr(value, field.name))
    elif isinstance(value, tuple | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from parts_of(item)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--training.stepz 1", r"Unknown option --training.stepz: did you mean --training.steps\?"),
        ("--run_dri x", r"Unknown option --run_dri: did you mean --run-dir\?"),
        ("--zzzzzzzz x", r"Unknown option --zzzzzzzz\. See `test --help`"),
        ("--model.encoders.far-of.width 1", r"did you mean --model.encoders.far-off.width\?"),
        ("--objectives.2.weight 1", r"Unknown option --objectives.2.weight"),
        ("--objectives 1", r"^--objectives is a tuple, which the command line cannot replace"),
        ("--model.fusion Mean", r"^--model.fusion is a Concat, .* change the experiment file"),
        ("--training.steps one", r"--training.steps cannot be 'one': give it a whole number\."),
        ("--training.steps=one", r"--training.steps cannot be 'one'"),
        ("--training.steps 1 --training.steps two", r"--training.steps cannot be 'two'"),
        ("--objectives.1.weight x", r"--objectives.1.weight cannot be 'x': give it a number\."),
        ("--objectives.1.k x", r"--objectives.1.k cannot be 'x': give it None or a whole number"),
        ("--training.precision half", r"--training.precision cannot be 'half': choose one of 'fl"),
        ("--training.steps", r"--training.steps needs 1 value"),
        ("--objectives.1.views left", r"--objectives.1.views needs 2 value"),
        ("--training.steps 1 2", r"Unknown argument '2'"),
        ("-x", r"Unknown argument '-x'"),
        ("--training.steps -1", r"^Training.steps is -1: it must be 0 or more\. See `test --help`"),
        ("--transforms.0.rate 7", r"^DropModality: rate is 7.0; choose it from 0 to 1\. See"),
        ("--name a/b", r"^The experiment's name 'a/b' cannot name a folder"),
    ],
)
def test_wrong_words_are_named(words, sentence, capsys):
    with pytest.raises(ConfigError, match=sentence) as caught:
        override(EXPERIMENT, words.split(), "test", ["--run-dir", "--seeds"])
    assert "\n" not in str(caught.value)
    assert "--------" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_an_option_that_two_names_share_is_refused():
    heads = {"label": Classifier(), "a-b": Classifier(), "a_b": Classifier()}
    twice = dataclasses.replace(
        EXPERIMENT, model=dataclasses.replace(EXPERIMENT.model, heads=heads)
    )
    with pytest.raises(ConfigError, match=r"means both model.heads.a-b.* and model.heads.a_b"):
        override(twice, ["--model.heads.a-b.dropout", "0.1"], "test")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("training.stepz", "did you mean 'steps'"),
        ("training.steps.more", "no option 'more'"),
        ("model.encoders.lefd.width", "did you mean 'left'"),
        ("objectives.2.weight", "no option '2'"),
        ("objectives.-1.weight", "no option '-1'"),
        ("", "no option ''"),
    ],
)
def test_paths_that_lead_nowhere(path, sentence):
    with pytest.raises(ConfigError, match=sentence):
        replace_at(EXPERIMENT, path, 1)


def test_replace_at_keeps_what_the_parts_refuse():
    with pytest.raises(ConfigError, match=r"Training\.steps is -2"):
        replace_at(EXPERIMENT, "training.steps", -2)


def test_an_experiment_file_takes_no_module_s_place(tmp_path):
    path = tmp_path / "ast.py"
    path.write_text("import dataclasses\n\n@dataclasses.dataclass\nclass Mine:\n    a: 'int' = 1\n")
    module = load_module(path)
    assert sys.modules["ast"] is ast
    assert module.Mine.__module__ == "experiment_ast"
    assert override(module.Mine(), ["--a", "3"], "test") == module.Mine(3)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "marked.py"
    path.write_bytes(b"\xef\xbb\xbfx = 'caf\xc3\xa9'\n")
    assert load_module(path).x == "café"


def test_the_line_that_is_named_is_the_file_s_own(tmp_path):
    path = tmp_path / "deep.py"
    path.write_text(
        "import json\n\n\ndef read(text):\n    return json.loads(text)\n\n\nread('{')\n"
    )
    with pytest.raises(ConfigError, match=r"deep.py fails in line 5: JSONDecodeError"):
        load_module(path)
