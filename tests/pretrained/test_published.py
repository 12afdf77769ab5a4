"""Runs that start from published weights, and need nothing else once they have begun."""

import dataclasses
import json
import shutil
import socket

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_bert import write_bert

import mmjax
from mmjax.data import Arrays
from mmjax.encoders import MLP, LoRA
from mmjax.errors import ConfigError, DataError
from mmjax.models import FusionModel
from mmjax.objectives import CrossEntropy
from mmjax.pretrained import load
from mmjax.pretrained.published import leaves_of
from mmjax.training import AdamW, Experiment, Training, train
from mmjax.training.optimizer import part_name

TEXTS = ["a dog runs", "dog", "a dog"] * 10


def experiment_of(loaded, steps=2, frozen=(), ids=None, encoder=None):
    ids = loaded.preprocess(TEXTS) if ids is None else ids
    numbers = np.random.default_rng(0).standard_normal((30, 4))
    return Experiment(
        name="published",
        data=Arrays(
            inputs={"text": ids, "numbers": numbers},
            targets={"kind": np.arange(30) % 3},
            name="mine",
        ),
        model=FusionModel(
            encoders={"text": encoder or loaded.encoder, "numbers": MLP((4,))}, frozen=frozen
        ),
        objectives=(CrossEntropy(target="kind"),),
        optimizer=AdamW(learning_rate=0.1),
        training=Training(steps=steps, batch_size=8, log_every=1, final_splits=()),
    )


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.mark.slow
def test_a_run_starts_from_the_weights_and_needs_no_file_afterwards(
    tmp_path, no_network, monkeypatch
):
    folder, moved = tmp_path / "weights", tmp_path / "elsewhere"
    folder.mkdir()
    write_bert(folder)
    monkeypatch.chdir(tmp_path)
    loaded = load("weights")
    run = mmjax.train(experiment_of(loaded, frozen=("text",)), run_dir="run")
    published = load_file(folder / "model.safetensors")
    word = published["embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(run.params["encoders"]["text"]["embed"]["embedding"], word)
    environment = json.loads((run.path / "environment.json").read_text())
    assert environment["published"] == {
        "encoders.text": {"file": "weights/model.safetensors", "sha256": loaded.encoder.sha256}
    }
    before = run.predict({"text": loaded.preprocess(TEXTS[:3])})["kind"]
    shutil.rmtree(folder)
    shutil.move("run", moved)
    opened = mmjax.load(moved)
    np.testing.assert_array_equal(opened.predict({"text": TEXTS[:3]})["kind"], before)
    with pytest.raises(DataError, match=r"Text 1 of 'text' has 6 word pieces, but .* at most 5"):
        opened.predict({"text": ["dog", "a dog runs dog"]})
    finished = train(experiment_of(loaded, frozen=("text",)), moved)  # as a second start does
    assert finished["steps"] == 2


@pytest.mark.slow
def test_what_is_trained_starts_at_the_weights_and_goes_on_bitwise(bert, tmp_path):
    loaded = load(bert)
    start = train(experiment_of(loaded, steps=0), tmp_path / "start")
    assert start["steps"] == 0
    params = mmjax.load(tmp_path / "start").params["encoders"]["text"]
    word = load_file(bert / "model.safetensors")["embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(params["embed"]["embedding"], word)
    run = mmjax.train(experiment_of(loaded), run_dir=tmp_path / "run")
    moved = np.abs(run.params["encoders"]["text"]["embed"]["embedding"] - word)
    assert moved.max() > 0.05  # the second moments begin at the published values too


@pytest.mark.slow
def test_weights_that_changed_or_do_not_fit_are_refused(bert, tmp_path):
    loaded = load(bert)
    tensors = load_file(bert / "model.safetensors")
    deeper = dataclasses.replace(
        loaded.encoder, encoder=dataclasses.replace(loaded.encoder.encoder, layers=3)
    )
    with pytest.raises(DataError, match=r"16 missing .our names.: "):
        train(experiment_of(loaded, encoder=deeper), tmp_path / "deeper")
    save_file(tensors | {"pooler.dense.bias": np.ones(8, np.float32)}, bert / "model.safetensors")
    with pytest.raises(DataError, match="not those that the experiment names by their SHA-256"):
        train(experiment_of(loaded), tmp_path / "changed")
    (bert / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"has no model\.safetensors: put the weights there"):
        train(experiment_of(loaded), tmp_path / "gone")


def test_ids_of_another_tokenizer_are_refused(bert, tmp_path):
    ids = np.full((30, 5), 700)
    with pytest.raises(ConfigError, match=r"token ids up to 700, but the weights .* know 7 words"):
        train(experiment_of(load(bert), ids=ids), tmp_path / "run")


def test_ids_have_the_length_that_is_asked_for(bert):
    texts = load(bert).preprocessing
    ids = texts(["dog", "a dog runs"], length=8)
    assert ids.shape == (2, 8)
    np.testing.assert_array_equal(ids[:, :5], texts(["dog", "a dog runs"]))
    with pytest.raises(DataError, match=r"Text 1 has 5 word pieces, more than the 4 that were ask"):
        texts(["dog", "a dog runs"], length=4)
    assert texts(["dog", "a dog runs"], length=4, truncate=True).shape == (2, 4)
    with pytest.raises(ConfigError, match=r"length of the ids is 13, but these weights .* 1 to 12"):
        texts(["dog"], length=13)


def test_a_tokenizer_that_changed_is_refused(bert, tmp_path):
    loaded = load(bert)
    experiment = experiment_of(loaded)
    (bert / "tokenizer.json").write_text((bert / "tokenizer.json").read_text() + " ")
    fresh = dataclasses.replace(loaded.encoder.preprocessing)
    with pytest.raises(DataError, match="is not the one that the config names by its SHA-256"):
        fresh(["dog"])
    encoder = dataclasses.replace(loaded.encoder, preprocessing=fresh)
    with pytest.raises(DataError, match="is not the one that the config names by its SHA-256"):
        train(experiment_of(loaded, ids=np.ones((30, 5), int), encoder=encoder), tmp_path / "run")
    assert experiment.name == "published"


@pytest.mark.slow
def test_adapters_start_at_the_weights_and_are_exported_in_them(bert, tmp_path):
    loaded = load(bert)
    run = mmjax.train(
        experiment_of(loaded, encoder=LoRA(loaded.encoder, rank=2)), run_dir=tmp_path / "run"
    )
    module = run.model.encoders["text"]
    word = load_file(bert / "model.safetensors")["embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(module.embed.embedding[...], word)
    tuned = loaded.trained(module)
    ids = loaded.preprocess(["a dog", "dog"])
    given = jnp.asarray(ids)
    features = module(given, given > 0, jnp.ones(2, bool), train=False, rngs=None)
    np.testing.assert_allclose(tuned.tokens(ids), features.tokens, rtol=1e-4, atol=1e-5)
    assert np.abs(tuned.tokens(ids) - loaded.tokens(ids)).max() > 1e-3
    (tmp_path / "tuned").mkdir()
    for file in ("config.json", "tokenizer.json"):
        shutil.copy(bert / file, tmp_path / "tuned")
    tuned.export(tmp_path / "tuned" / "model.safetensors")
    again = load(tmp_path / "tuned")
    np.testing.assert_array_equal(again.tokens(ids), tuned.tokens(ids))
    opened = mmjax.load(tmp_path / "run").model.encoders["text"]
    np.testing.assert_array_equal(loaded.trained(opened).tokens(ids), tuned.tokens(ids))
    with pytest.raises(DataError, match="another architecture than the weights in"):
        loaded.trained(run.model.encoders["numbers"])


@pytest.mark.slow
def test_parts_that_are_frozen_by_their_names_stay_at_the_weights(bert, tmp_path):
    loaded = load(bert)
    experiment = experiment_of(loaded)
    frozen = ("encoders.text.blocks.0", "encoders.text.embed")
    training = dataclasses.replace(experiment.training, frozen=frozen)
    run = mmjax.train(dataclasses.replace(experiment, training=training), tmp_path / "run")
    before, after = leaves_of(loaded.module), leaves_of(run.model.encoders["text"])
    for name, value in after.items():
        if name.startswith(("blocks.0.", "embed.")):
            np.testing.assert_array_equal(value, before[name])
        elif "blocks.1." in name and "kernel" in name:
            assert not np.array_equal(value, before[name])
    names = {part_name(path) for path, _ in jax.tree.leaves_with_path(run._state.params)}
    assert not any(name.startswith(frozen) for name in names)
    assert run.predict({"text": ["a dog"]})["kind"].shape == (1, 3)


@pytest.mark.parametrize(
    ("frozen", "sentence"),
    [
        (("encoders.txt",), r"training\.frozen, 'encoders\.txt': did you mean 'encoders\.text'"),
        (("encoders", "heads"), "All parameters of the model are frozen"),
    ],
)
def test_frozen_parts_that_make_no_sense_are_refused(bert, tmp_path, frozen, sentence):
    experiment = experiment_of(load(bert))
    training = dataclasses.replace(experiment.training, frozen=frozen)
    with pytest.raises(ConfigError, match=sentence):
        mmjax.train(dataclasses.replace(experiment, training=training), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()
