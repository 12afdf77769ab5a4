"""Runs that start from another run's parameters: which they take, what they refuse, where from."""

import contextlib
import dataclasses
import itertools
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from mmjax.data import DigitsHalves, Shapes
from mmjax.encoders import MLP, LeNet
from mmjax.errors import ConfigError, RunError
from mmjax.evaluation import Classification, HeldOutCorrelation
from mmjax.models import DualEncoder, FusionModel
from mmjax.objectives import DCCA, CrossEntropy
from mmjax.training import (
    SGD,
    AdamW,
    Experiment,
    Interrupted,
    Mesh,
    Start,
    Training,
    loop,
    train,
)
from mmjax.training.checkpoints import MANIFEST, Checkpoints, named_leaves
from mmjax.training.config import check_types, from_json, to_json
from mmjax.training.overrides import override
from mmjax.training.setup import prepare
from mmjax.training.start import find_origin

VIEWS = ("left", "right")
ENCODERS = {view: MLP(hidden=(8,), width=6, dropout=0.1) for view in VIEWS}
ALIGNED = Experiment(
    name="aligned",
    data=DigitsHalves(),
    model=DualEncoder(ENCODERS, width=5),
    objectives=(DCCA(views=VIEWS),),
    optimizer=AdamW(learning_rate=5e-3),
    training=Training(steps=90, batch_size=256, eval_every=30, monitor="total_correlation"),
    evaluation=(HeldOutCorrelation(views=VIEWS, k=4),),
)
PROBE = Experiment(
    name="probe",
    data=DigitsHalves(),
    model=FusionModel(ENCODERS, frozen=VIEWS),
    objectives=(CrossEntropy(),),
    optimizer=AdamW(learning_rate=3e-2, weight_decay=0.1),
    training=Training(steps=60, batch_size=128, log_every=1, save_every=20),
    evaluation=(Classification(),),
)
TUNED = dataclasses.replace(
    PROBE,
    name="tuned",
    model=FusionModel(ENCODERS),
    training=Training(steps=8, batch_size=64, log_every=1, save_every=3),
)


def starting(experiment, run, checkpoint="best", parts=("encoders",)):
    return dataclasses.replace(experiment, start=Start(str(run), checkpoint, parts))


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    """A run of DCCA whose best checkpoint is made to be its first; not to be changed."""
    run = tmp_path_factory.mktemp("aligned") / "run"
    train(ALIGNED, run, None)
    manifest = run / "checkpoints" / "60" / MANIFEST
    changed = json.loads(manifest.read_text())
    changed["facts"]["monitor"] = 99.0
    manifest.write_text(json.dumps(changed))
    return run


@pytest.fixture
def copied(aligned, tmp_path):
    return shutil.copytree(aligned, tmp_path / "source")


def arrays_of(run, experiment, step):
    """The arrays of a checkpoint by name, the key as numbers."""
    return plain(Checkpoints(run / "checkpoints").restore(step, shapes_of(experiment)))


def shapes_of(experiment):
    return prepare(experiment, None).abstract_state


def plain(state):
    leaves = named_leaves(state)
    return jax.device_get(leaves | {"key": jax.random.key_data(leaves["key"])})


def started(experiment):
    """The arrays of a state as its run begins with, and those of one drawn at random."""
    setup = prepare(experiment, None)
    fresh = setup.create_state()
    return plain(find_origin(experiment.start, fresh, Path()).load_into(fresh)), plain(fresh)


@pytest.mark.parametrize(("checkpoint", "step"), [("best", 60), ("last", 90)])
def test_the_parts_named_are_those_of_the_run_and_no_others(aligned, checkpoint, step):
    source = arrays_of(aligned, ALIGNED, step)
    begun, fresh = started(starting(TUNED, aligned, checkpoint, ("encoders.left",)))
    assert list(begun) == list(fresh)
    taken = [name for name in begun if name.startswith("params/model/encoders/left/")]
    assert len(taken) == 4
    for name, values in begun.items():
        np.testing.assert_array_equal(values, (source if name in taken else fresh)[name])
        assert values.dtype == fresh[name].dtype
        if name in taken and name.endswith("kernel"):
            assert (values != fresh[name]).all()


@dataclasses.dataclass(frozen=True)
class Anchored(SGD):
    """Pulls the parameters towards what they were at the start."""

    def build(self, steps):
        def update(gradients, anchor, params):
            return jax.tree.map(
                lambda g, a, p: 0.1 * (a - p - g), gradients, anchor, params
            ), anchor

        return optax.GradientTransformation(lambda params: params, update)


def test_an_optimizer_that_remembers_the_first_parameters_remembers_those_taken(aligned):
    experiment = dataclasses.replace(starting(TUNED, aligned), optimizer=Anchored())
    setup = prepare(experiment, None)
    state = find_origin(experiment.start, setup.abstract_state, Path()).load_into(
        setup.create_state()
    )
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, state.params)
    batches = setup.train_batches()
    with jax.set_mesh(setup.mesh):  # which takes over the memory of both
        setup.compile_step()(state, setup.put(next(batches)))[1]["loss"].block_until_ready()
    batches.close()


@pytest.mark.parametrize("mesh", [Mesh(), Mesh(data=1, fsdp=2), Mesh(data=1, tensor=2)])
def test_what_is_taken_lies_as_the_new_run_has_it(aligned, mesh):
    experiment = starting(TUNED, aligned)
    training = dataclasses.replace(experiment.training, mesh=mesh)
    setup = prepare(dataclasses.replace(experiment, training=training), None)
    state = find_origin(experiment.start, setup.abstract_state, Path()).load_into(
        setup.create_state()
    )
    for name, leaf in named_leaves(setup.abstract_state).items():
        assert named_leaves(state)[name].sharding == leaf.sharding
    source = arrays_of(aligned, ALIGNED, 60)
    for name, values in plain(state).items():
        if name.startswith("params/model/encoders/"):
            np.testing.assert_array_equal(values, source[name])
    # The compiled step takes it as it is.
    batches = setup.train_batches()
    with jax.set_mesh(setup.mesh):
        setup.compile_step()(state, setup.put(next(batches)))[1]["loss"].block_until_ready()
    batches.close()


@pytest.mark.slow
def test_a_probe_on_aligned_encoders(aligned, tmp_path):
    run = tmp_path / "probe"
    result = train(starting(PROBE, aligned), run, None)
    assert result["metrics"]["test/accuracy"] > 0.5  # chance is 0.1
    source = arrays_of(aligned, ALIGNED, 60)
    after = arrays_of(run, PROBE, 60)
    encoders = {name: values for name, values in after.items() if "/encoders/" in name}
    assert len(encoders) == 8
    for name, values in encoders.items():
        np.testing.assert_array_equal(values, source[name.replace("frozen/", "params/")])
    noted = json.loads((run / "environment.json").read_text())["start"]
    digest = find_origin(Start(str(aligned)), shapes_of(ALIGNED), Path()).provenance()[
        "manifest_sha256"
    ]
    assert noted == {"run": str(aligned), "step": 60, "manifest_sha256": digest}
    assert re.fullmatch("[0-9a-f]{64}", digest)

    # From a run with frozen encoders to one that trains them.
    begun, _ = started(starting(TUNED, run, parts=()))
    for name in (name for name in after if name.startswith(("frozen/", "params/"))):
        np.testing.assert_array_equal(begun[name.replace("frozen/", "params/")], after[name])


def test_batch_statistics_come_along_and_stay(tmp_path):
    data = Shapes(train_size=32, valid_size=1, test_size=4)
    encoder = LeNet(blocks=1, channels=2, width=4, batch_norm=True)
    source = Experiment(
        name="source",
        data=data,
        model=FusionModel({"image": encoder}),
        objectives=(CrossEntropy(),),
        training=Training(steps=2, batch_size=16, log_every=1),
    )
    train(source, tmp_path / "source", None)
    trained = arrays_of(tmp_path / "source", source, 2)
    stats = [name for name in trained if name.startswith("variables/model/encoders/image/")]
    assert len(stats) == 2

    probe = dataclasses.replace(source, model=FusionModel({"image": encoder}, frozen=("image",)))
    probe = starting(probe, tmp_path / "source")
    train(probe, tmp_path / "probe", None)
    after = arrays_of(tmp_path / "probe", probe, 2)
    for name in stats:
        np.testing.assert_array_equal(after[name], trained[name])
        assert (trained[name] != started(probe)[1][name]).all()
    head = "params/model/heads/label/perceptron/layers/0/kernel"
    assert (after[head] != trained[head]).any()


def stop_after(steps):
    """In place of the signals: says to stop once this many steps are done."""
    turns = itertools.count()
    return lambda: contextlib.nullcontext(lambda: "SIGTERM" if next(turns) >= steps else "")


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [(), ("left",)])
def test_resumed_without_its_source_it_ends_with_the_same_bits(
    copied, tmp_path, monkeypatch, frozen
):
    experiment = starting(TUNED, copied)
    experiment = dataclasses.replace(experiment, model=FusionModel(ENCODERS, frozen=frozen))
    runs = {name: tmp_path / name for name in ("undisturbed", "interrupted")}
    train(experiment, runs["undisturbed"], None)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "stop_signal", stop_after(4))
        with pytest.raises(Interrupted, match="Stopped at step 4 of 8"):
            train(experiment, runs["interrupted"], None)
    shutil.rmtree(copied)
    train(experiment, runs["interrupted"], None)
    one, two = (arrays_of(run, experiment, 8) for run in runs.values())
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name])
    metrics, environments = (
        [(run / name).read_text() for run in runs.values()]
        for name in ("metrics.jsonl", "environment.json")
    )
    assert metrics[0] == metrics[1]
    noted = [json.loads(each)["start"] for each in environments]
    assert noted[0] == noted[1]
    assert noted[0]["step"] == 60


def test_without_a_checkpoint_of_its_own_it_starts_from_the_source_again(
    copied, tmp_path, monkeypatch
):
    experiment, run = starting(TUNED, copied), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "stop_signal", stop_after(0))
        with pytest.raises(Interrupted, match="Stopped at step 0"):
            train(experiment, run, None)
    away = copied.rename(tmp_path / "away")
    with pytest.raises(
        RunError, match=r"start\.run is .*source, which is not a run directory \(it has"
    ):
        train(experiment, run, None)
    away.rename(copied)
    shutil.rmtree(copied / "checkpoints" / "60")  # so that another checkpoint is the best
    train(experiment, run, None)
    assert json.loads((run / "environment.json").read_text())["start"]["step"] == 90


def test_a_path_is_seen_from_the_current_directory(aligned, monkeypatch):
    monkeypatch.chdir(aligned.parent)
    begun, _ = started(starting(TUNED, "run"))
    assert int(begun["step"]) == 0


WIDER = FusionModel({view: MLP(hidden=(8,), width=7, dropout=0.1) for view in VIEWS})


@pytest.mark.parametrize(
    ("model", "parts", "sentence"),
    [
        (
            WIDER,
            ("encoders",),
            r"of another model \(parameter encoders.left.perceptron.layers.1.bias is float32\[6\] "
            r"in it and float32\[7\] in the new model, and 3 more differ\): list in `parts`",
        ),
        (
            TUNED.model,
            (),
            r"\(parameter heads.label.perceptron.layers.0.bias is absent in it and float32\[10\] "
            r"in the new model, and 5 more",
        ),
        (
            TUNED.model,
            ("encoders", "heads.label.perceptron.layers.0.bias"),
            r"\(parameter heads.label.perceptron.layers.0.bias is absent in it and float32\[10\] "
            r"in the new model\): list",
        ),
        (  # what the run has under that part, and the model has not
            FusionModel(ENCODERS, modalities=("right",)),
            ("encoders",),
            r"\(parameter encoders.left.perceptron.layers.0.bias is float32\[8\] in it and absent "
            r"in the new model, and 3",
        ),
        (
            DualEncoder(ENCODERS, width=5),
            ("encoder",),
            r"no part of this model, for start.parts, 'encoder': did you mean 'encoders'\? "
            r"Available: encoders, project\.",
        ),
        (
            TUNED.model,
            ("encoders.lef",),
            r"did you mean 'encoders.left'\? .*encoders.right, heads.label",
        ),
        (TUNED.model, ("",), r"no part of this model, for start.parts, ''\. Available: encoders"),
        (TUNED.model, ("project",), r"'project'\. Available: encoders, heads\."),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_anything_is_written(
    aligned, tmp_path, model, parts, sentence
):
    objective = DCCA(views=VIEWS) if isinstance(model, DualEncoder) else CrossEntropy()
    experiment = dataclasses.replace(TUNED, model=model, objectives=(objective,), evaluation=())
    with pytest.raises(ConfigError, match=sentence):
        train(starting(experiment, aligned, parts=parts), tmp_path / "run", None)
    assert not (tmp_path / "run").exists()


def cut(run):
    file = max((run / "checkpoints" / "60").rglob("*"), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (shutil.rmtree, r"start\.run is .*source, which is not a run directory \(it has no config"),
        (lambda run: shutil.rmtree(run / "checkpoints"), "source, which has no checkpoint yet"),
        (
            cut,
            r"60 is damaged \(its file \S+ has changed since it was written\): train that run "
            r"again, or give another one as start\.run\.$",
        ),
        (
            lambda run: (run / "checkpoints" / "60" / MANIFEST).write_text("{"),
            r"60 is damaged .manifest.json cannot be read.: train that run again",
        ),
        (lambda run: (run / "config.json").write_text("["), "config.json is damaged"),
        (
            lambda run: (run / "environment.json").write_text('{"versions": {"mmjax": "0.1.0"}}'),
            r"source was made by mmjax 0\.1\.0, whose runs this version .* train it again\.$",
        ),
    ],
)
def test_a_source_that_cannot_be_read_is_one_sentence(copied, tmp_path, damage, sentence):
    damage(copied)
    with pytest.raises(RunError, match=sentence) as caught:
        train(starting(TUNED, copied), tmp_path / "run", None)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_source_can_be_named_from_the_directory_of_the_new_run(copied):
    shapes = prepare(TUNED, None).abstract_state
    start = Start(f"{{run_dir}}/../{copied.name}", parts=("encoders",))
    origin = find_origin(start, shapes, copied.parent / "new")
    assert origin.checkpoints.folder == copied / "checkpoints"
    with pytest.raises(RunError, match=f"start.run is {copied.parent}/nowhere, which is not a run"):
        find_origin(Start("{run_dir}/../nowhere"), shapes, copied.parent / "new")


def test_a_source_that_goes_away_while_it_is_looked_at(copied):
    setup = prepare(TUNED, None)
    origin = find_origin(Start(str(copied), parts=("encoders",)), setup.abstract_state, Path())
    shutil.rmtree(copied)
    with pytest.raises(RunError, match=r"60 was deleted meanwhile"):
        origin.load_into(setup.create_state())


def test_start_in_files_and_on_the_command_line():
    experiment = starting(TUNED, "runs/a")
    for each in (experiment, TUNED):
        check_types(each)
        assert from_json(json.loads(json.dumps(to_json(each)))) == each
    words = "--start.run runs/b --start.checkpoint last --start.parts encoders.left head"
    changed = override(experiment, words.split(), "test")
    assert changed.start == Start("runs/b", "last", ("encoders.left", "head"))
    assert override(TUNED, ["--training.steps", "9"], "test").start is None
    with pytest.raises(ConfigError, match="Unknown option --start"):
        override(TUNED, ["--start.run", "runs/b"], "test")
    with pytest.raises(ConfigError, match=r"start\.run is empty: give the directory of a run"):
        Start("")
