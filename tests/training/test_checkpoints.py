"""Checkpoints: whole or not at all, the best and the last are kept, damage is named."""

import json
import math
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmjax.data import train_batches
from mmjax.data.dataset import ArraySource
from mmjax.errors import RunError
from mmjax.training.checkpoints import MANIFEST, CheckpointGone, Checkpoints
from mmjax.training.step import Program, TrainState

OPTIMIZER = optax.adam(1e-3)
PROGRAM = Program(None, OPTIMIZER, ())


def state_of(step, width=3, **changes):
    """A state whose numbers tell its step."""
    params = {"kernel": jnp.full((2, width), step, jnp.float32), "bias": jnp.arange(width) * 1.5}
    state = TrainState(
        step=jnp.asarray(step, jnp.int32),
        params=params,
        variables={"mean": jnp.full(width, -step, jnp.bfloat16)},
        opt_state=OPTIMIZER.init(params),
        key=jax.random.key(step),
        program=PROGRAM,
    )
    return state.replace(**changes)


def iterator():
    source = ArraySource({"x": np.arange(20, dtype=np.float32)[:, None]}, {})
    return train_batches(source, batch_size=4, seed=0)


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two checkpoints, of the steps 3 and 5; not to be changed."""
    # Orbax reads by patterns: what means more in one must mean itself in a path.
    folder = tmp_path_factory.mktemp("saved") / "[2026] **a?\\b" / "checkpoints"
    batches = iterator()
    for step in (3, 5):
        next(batches)
        Checkpoints(folder).save(state_of(step), batches, {"seconds": 1.5, "monitor": step / 10})
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    return Checkpoints(shutil.copytree(saved, tmp_path / "checkpoints"))


def comparable(state):
    return jax.device_get(state.replace(key=jax.random.key_data(state.key)))


def test_what_is_restored_is_what_was_saved(saved):
    checkpoints = Checkpoints(saved)
    assert checkpoints.steps() == [3, 5]
    assert checkpoints.facts(5) == {"seconds": 1.5, "monitor": 0.5}
    expected = iterator()
    for step, taken in ((3, 1), (5, 2)):
        batches = iterator()
        restored = checkpoints.restore(step, state_of(0), batches)
        jax.tree.map(
            np.testing.assert_array_equal, comparable(restored), comparable(state_of(step))
        )
        assert jax.tree.map(lambda leaf: leaf.dtype, restored) == jax.tree.map(
            lambda leaf: leaf.dtype, state_of(step)
        )
        expected = iterator()
        for _ in range(taken):
            next(expected)
        np.testing.assert_array_equal(next(batches).ids, next(expected).ids)


def test_no_folder_holds_no_checkpoint(checkpoints):
    assert checkpoints.steps() == []
    assert checkpoints.best() is None
    assert not checkpoints.folder.exists()


def test_foreign_names_are_no_checkpoints(copied):
    foreign = ("notanumber", "007", "1.tmp", "saving-7", "-3", "+3", "³", "٣", "1_000", "1e3", " 9")
    for name in foreign:
        (copied.folder / name).mkdir()
    (copied.folder / "12").write_text("a file")
    assert copied.steps() == [3, 5]
    copied.keep([5])
    left = {path.name for path in copied.folder.iterdir()}
    assert left == {"5", "12", *foreign} - {"saving-7"}


def with_monitors(folder, values, better):
    """Checkpoints of which only the manifests are there."""
    for step, value in values.items():
        (folder / str(step)).mkdir(parents=True)
        facts = {} if value is None else {"monitor": value, "better": better}
        manifest = {"step": step, "facts": facts, "files": {}, "arrays": {}}
        (folder / str(step) / MANIFEST).write_text(json.dumps(manifest))
    return Checkpoints(folder)


@pytest.mark.parametrize(
    ("values", "largest", "smallest"),
    [
        ({1: 0.5, 2: 0.7, 3: 0.6}, 2, 1),
        ({1: -0.5, 2: -0.7, 3: -0.6}, 1, 2),
        ({2: 0.5, 10: 0.5, 1: 0.4, 9: 0.4}, 2, 1),  # the first of equals, in order of steps
        ({1: None, 2: 0.0, 3: None}, 2, 2),  # the monitor of the others was not finite
        ({1: None}, None, None),
        ({}, None, None),
        ({0: 1.0, 7: 0}, 0, 7),
    ],
)
def test_best(tmp_path, values, largest, smallest):
    assert with_monitors(tmp_path / "more", values, "max").best() == largest
    assert with_monitors(tmp_path / "less", values, "min").best() == smallest


def test_keep_deletes_the_others(copied):
    copied.keep([3, 4])
    assert copied.steps() == [3]
    assert os.listdir(copied.folder) == ["3"]
    copied.restore(3, state_of(0))


def test_a_step_that_is_saved_is_not_saved_again(copied):
    before = (copied.folder / "5" / MANIFEST).read_bytes()
    copied.save(state_of(5), None, {"seconds": 9.0})
    assert (copied.folder / "5" / MANIFEST).read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing"])
def test_damage_of_each_file_is_named(copied, damage):
    folder = copied.folder / "5"
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert len(files) >= 10
    seen = 0
    for file in files:
        content = file.read_bytes()
        if not content and damage != "missing":
            continue
        if damage == "cut":
            file.write_bytes(content[: len(content) // 2])
        elif damage == "flipped":
            middle = len(content) // 2
            file.write_bytes(
                content[:middle] + bytes([content[middle] ^ 0x80]) + content[middle + 1 :]
            )
        else:
            file.unlink()
        with pytest.raises(RunError) as caught:
            copied.restore(5, state_of(0))
        sentence = str(caught.value)
        assert f"{folder} is damaged" in sentence
        assert str(file.relative_to(folder)) in sentence
        assert (
            "delete that folder and run the same command again to continue from step 3" in sentence
        )
        file.write_bytes(content)
        seen += 1
    assert seen >= 10
    copied.restore(5, state_of(0))  # all is well again


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "null", '{"facts": {}}', "3"])
def test_a_damaged_manifest(copied, content):
    (copied.folder / "5" / MANIFEST).write_text(content)
    for read in (lambda: copied.facts(5), lambda: copied.best()):
        with pytest.raises(RunError, match=r"5 is damaged \(manifest.json"):
            read()
    shutil.rmtree(copied.folder / "3")
    with pytest.raises(RunError, match="to start from the beginning"):
        copied.facts(5)


def test_another_model_is_one_sentence(saved):
    with pytest.raises(RunError) as caught:
        Checkpoints(saved).restore(5, state_of(0, width=4))
    sentence = str(caught.value)
    assert f"{saved / '5'} is of another model (" in sentence
    assert "params/bias is float32[3] in the checkpoint and float32[4] in this model" in sentence
    assert "and 6 more arrays differ" in sentence
    assert "\n" not in sentence
    with pytest.raises(
        RunError, match=r"params/more is absent in the checkpoint and float32\[1\] in"
    ):
        Checkpoints(saved).restore(
            5, state_of(0, params={**state_of(0).params, "more": jnp.ones(1)})
        )


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("part", ["params", "variables"])
def test_a_state_that_is_not_finite_is_not_saved(copied, part, bad):
    state = state_of(7)
    broken = {**getattr(state, part), "bad": jnp.asarray([1.0, bad])}
    with pytest.raises(
        RunError, match=r"after 7 steps are not finite .*last good checkpoint is .*/5"
    ):
        copied.save(state.replace(**{part: broken}), None, {})
    assert copied.steps() == [3, 5]


def test_an_interrupted_save_leaves_no_half_checkpoint(copied, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    before = sorted(copied.folder.rglob("*"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stop)  # all is written but the last move
        with pytest.raises(KeyboardInterrupt):
            copied.save(state_of(7), iterator(), {"seconds": 1.0})
    assert copied.steps() == [3, 5]
    assert (copied.folder / "saving-7").is_dir()
    (copied.folder / "saving-6.orbax-checkpoint-tmp").mkdir()
    # The next one takes the remains away.
    copied.save(state_of(9), iterator(), {"seconds": 2.0})
    assert copied.steps() == [3, 5, 9]
    assert not list(copied.folder.glob("saving*"))
    assert set(before) < set(copied.folder.rglob("*"))
    copied.restore(9, state_of(0))


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoints")
    with pytest.raises(RunError) as caught:
        checkpoints.save(state_of(1), iterator(), {})
    assert "(not a directory; no earlier checkpoint exists): free disk space there" in str(
        caught.value
    )


def test_what_cannot_be_read_is_not_called_damaged(copied, monkeypatch):
    def refused(path, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.read_text", refused)
        with pytest.raises(RunError, match=r"cannot be read \(Permission denied\): get permission"):
            copied.facts(5)
    with monkeypatch.context() as patched:
        patched.setattr("mmjax.training.checkpoints._sha256", refused)
        with pytest.raises(RunError, match=r"cannot be read \(Permission denied\): get permission"):
            copied.verify(5)
    shutil.rmtree(copied.folder / "5")  # as a training does with its older ones
    with pytest.raises(CheckpointGone, match="was deleted meanwhile"):
        copied.facts(5)
    with pytest.raises(CheckpointGone, match="was deleted meanwhile"):
        copied.restore(5, state_of(5))
