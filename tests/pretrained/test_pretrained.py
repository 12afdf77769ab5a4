"""Published weights: the table of names, bad files, preprocessing, and parity where torch is."""

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from safetensors.numpy import load_file, save_file
from small_bert import DESCRIPTION

from mmjax.data.preprocessing import pictures_of, rgb
from mmjax.encoders import BERT, VGG, AlexNet, EfficientNetLite0, ResNet, ViT
from mmjax.errors import ConfigError, DataError
from mmjax.pretrained import Pictures, Pretrained, Texts, load
from mmjax.pretrained.names import TRANSFORMS
from mmjax.pretrained.positions import _cubic
from mmjax.pretrained.published import leaves_of
from mmjax.structs import Modality


def changed(folder, **changes):
    """Writes the folder's weights anew, with tensors replaced, or removed where None."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors.update({name.replace("__", "."): value for name, value in changes.items()})
    save_file({name: value for name, value in tensors.items() if value is not None}, str(file))


def test_bert_by_hand(bert, capsys):
    """Two blocks of Devlin et al. 2019 in NumPy, on the published names."""
    from scipy.special import erf, softmax

    loaded = load(bert)
    assert "BERT" in capsys.readouterr().err
    ids = loaded.preprocess(["a dog runs", "dog"])
    np.testing.assert_array_equal(ids, [[2, 4, 5, 6, 3], [2, 5, 3, 0, 0]])
    weights = load_file(bert / "model.safetensors")

    def dense(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    table = "embeddings.{}_embeddings.weight".format
    x = weights[table("word")][ids] + weights[table("position")][:5]
    x = norm(x + weights[table("token_type")][0], "embeddings.LayerNorm")
    for index in range(2):
        layer = f"encoder.layer.{index}"
        parts = [dense(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value")]
        query, key, value = (part.reshape(2, 5, 2, 4) for part in parts)
        logits = np.einsum("bqhd,bkhd->bhqk", query, key) / 2
        logits = np.where((ids != 0)[:, None, None], logits, -np.inf)
        mixed = np.einsum("bhqk,bkhd->bqhd", softmax(logits, -1), value).reshape(2, 5, 8)
        mixed = dense(mixed, f"{layer}.attention.output.dense")
        x = norm(x + mixed, f"{layer}.attention.output.LayerNorm")
        hidden = dense(x, f"{layer}.intermediate.dense")
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        x = norm(x + dense(hidden, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    valid = (ids != 0)[:, :, None]
    np.testing.assert_allclose(loaded.tokens(ids) * valid, x * valid, atol=1e-5, rtol=1e-5)
    pooled = np.tanh(dense(x[:, 0], "pooler.dense"))
    np.testing.assert_allclose(loaded.pooled(ids), pooled, atol=1e-5)
    np.testing.assert_allclose(loaded.pooled(ids[1:, :3]), pooled[1:], atol=1e-5)


def test_a_sentence_encoder_pools_as_its_folder_says(bert):
    (bert / "1_Pooling").mkdir()
    (bert / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (bert / "modules.json").write_text('[{"type": "sentence_transformers.models.Normalize"}]')
    loaded = load(bert)
    ids = loaded.preprocess(["a dog runs", "dog"])
    mean = (np.asarray(loaded.tokens(ids)) * (ids != 0)[:, :, None]).sum(1)
    expected = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
    np.testing.assert_allclose(loaded.pooled(ids), expected, atol=1e-6)
    assert "pooler.dense.weight" in loaded.left_out
    (bert / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(DataError, match="pools otherwise than by the mean"):
        load(bert)


def test_what_is_exported_is_what_was_read(bert, tmp_path):
    changed(bert, cls__seq_relationship__bias=np.ones(2, np.float32))
    loaded = load(bert)
    loaded.export(tmp_path / "again.safetensors")
    before, after = load_file(bert / "model.safetensors"), load_file(tmp_path / "again.safetensors")
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)


def test_all_mismatches_are_in_one_sentence(bert):
    changed(
        bert,
        pooler__dense__bias=None,
        embeddings__other=np.zeros(3, np.float32),
        encoder__layer__0__output__dense__bias=np.zeros(9, np.float32),
        encoder__layer__1__output__dense__bias=np.full(8, np.nan, np.float32),
    )
    with pytest.raises(DataError) as caught:
        load(bert)
    for part in (
        "1 unknown: embeddings.other",
        "1 missing (our names): pooler.bias",
        "1 of another shape: encoder.layer.0.output.dense.bias is (9,), (9,) for us, not (8,)",
        "not finite: encoder.layer.1.output.dense.bias",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda d: (d / "model.safetensors").unlink(), "has no model.safetensors"),
        (
            lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"),
            "is a pickle of PyTorch.*save_file",
        ),
        (lambda d: (d / "model.safetensors").write_bytes(b"PK\3\4 zip"), "is a pickle of PyTorch"),
        (lambda d: (d / "model.safetensors").write_bytes(b"\0" * 99), "are damaged"),
        (
            lambda d: (d / "model.safetensors").write_bytes(
                (d / "model.safetensors").read_bytes()[:-9]
            ),
            "are damaged",
        ),
        (lambda d: (d / "config.json").write_text("{"), r"config\.json is damaged"),
        (lambda d: (d / "config.json").unlink(), "need a config.json.*'num_attention_heads'"),
        (lambda d: (d / "tokenizer.json").write_text("{}"), "tokenizer .* cannot be read"),
        (
            lambda d: (d / "config.json").write_text('{"model_type": "roberta"}'),
            r"no architecture that mmjax loads \(config.json says 'roberta'\): it loads BERT",
        ),
        (
            lambda d: (d / "config.json").write_text(
                json.dumps(DESCRIPTION | {"hidden_act": "relu"})
            ),
            "activation 'relu'",
        ),
        (
            lambda d: changed(d, embeddings__token_type_embeddings__weight=None),
            "have no tensor 'embeddings.token_type_embeddings.weight'",
        ),
        (lambda d: (d / "model.safetensors").rename(d / "other.bin"), "is a pickle"),
    ],
)
def test_bad_folders_are_told(bert, break_it, sentence):
    break_it(bert)
    with pytest.raises(DataError, match=sentence):
        load(bert)


def test_bad_inputs_are_told(bert):
    with pytest.raises(DataError, match="There is no folder"):
        load(bert / "nothing")
    loaded = load(bert)
    assert isinstance(loaded, Pretrained)
    assert loaded.preprocess("").tolist() == [[2, 3]]  # an empty caption
    assert np.isfinite(loaded.pooled(loaded.preprocess(""))).all()
    with pytest.raises(DataError, match="Text 1 has 22 word pieces, more than the 12"):
        loaded.preprocess(["a", "dog " * 20])
    assert loaded.preprocess(["dog " * 20], truncate=True).shape == (1, 12)
    assert loaded.preprocess(["dog " * 5]).shape == (1, 7)  # and only that one was cut
    with pytest.raises(DataError, match="no text"):
        loaded.preprocess([])
    for inputs, sentence in (
        (np.zeros((1, 13), np.int32), r"up to 12\] of an integer type"),
        (np.zeros((1, 3), np.float32), "of float32"),
        (np.array([[7]]), "ids go from 7 to 7, but the vocabulary has 7"),
        (np.array([[-1]]), "from -1"),
    ):
        with pytest.raises(DataError, match=sentence):
            loaded.tokens(inputs)
    with pytest.raises(DataError, match="The mask is"):
        loaded.tokens(np.array([[2, 3]]), mask=np.ones((1, 3)))
    with pytest.raises(DataError, match="no classification layer"):
        loaded.logits(np.array([[2, 3]]))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_undone(name):
    side = int(name[-1]) if name[-1].isdigit() else 1
    shape = {"same": (5,), "linear": (5, 3), "convolution": (5, 3, 2, 4)}.get(name)
    shape = shape or {"convolution of time": (5, 3, 2), "pointwise": (5, 3, 1)}.get(name)
    shape = shape or ((5, 3, side, side) if "convolved" in name else (5, 3 * side * side))
    x = np.random.default_rng(0).standard_normal(shape)
    there = TRANSFORMS[name].ours(x)
    assert (TRANSFORMS[name].published(there) == x).all()
    if "dense" in name:  # the layer gives the same on a map, whichever axis its channels are
        image = np.random.default_rng(1).standard_normal((3, side, side))
        expected = x.reshape(5, -1) @ image.ravel()
        np.testing.assert_allclose(image.transpose(1, 2, 0).ravel() @ there, expected)


def test_cubic_weights_sum_to_one_and_keep_lines():
    weights = _cubic(14, 23)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_array_equal(_cubic(7, 7), np.eye(7))
    ramp = (_cubic(14, 23, a=-0.5) @ np.arange(14.0))[4:-4]
    np.testing.assert_allclose(np.diff(ramp), 14 / 23)


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (AlexNet(dense=True, classes=1000), 61.1),
        (VGG(16, dense=True, classes=1000), 138.4),
        (ResNet(18, classes=1000), 11.7),
        (ResNet(50, classes=1000), 25.6),
        (EfficientNetLite0(classes=1000), 4.65),
        (ViT.of_size("Ti", classes=1000), 5.7),
        (ViT.of_size("B", classes=1000), 86.6),
        (BERT(), 109.5),
    ],
)
def test_parameters_are_as_many_as_published(config, millions):
    text = isinstance(config, BERT)
    modality = (
        Modality("text", (8,), vocabulary=30522) if text else Modality("image", (224, 224, 3))
    )
    dtype = jnp.dtype("float32")
    module = nnx.eval_shape(lambda: config.build(modality, dtype=dtype, rngs=nnx.Rngs(0)))
    count = sum(leaf.size for leaf in leaves_of(module).values())
    statistics = sum(
        leaf.size for path, leaf in leaves_of(module).items() if path.endswith((".mean", ".var"))
    )
    assert (count - statistics) / 1e6 == pytest.approx(millions, abs=0.06 if millions > 9 else 0.02)


PICTURES = Pictures(size=(4, 6), resize=8, mean=(0.5, 0.0, 0.0), std=(0.25, 1.0, 1.0))


def test_pictures_become_inputs(tmp_path):
    red = Image.new("RGB", (16, 8), (255, 0, 0))
    red.save(tmp_path / "red.png")
    for raw in (red, tmp_path / "red.png", np.asarray(red), [red, str(tmp_path / "red.png")]):
        inputs = PICTURES(raw)
        assert inputs.shape == (2 if isinstance(raw, list) else 1, 4, 6, 3)
        assert inputs.dtype == np.float32
        np.testing.assert_array_equal(inputs[0, 0, 0], [2, 0, 0])
    assert PICTURES(np.zeros((8, 8), np.uint8)).shape == (1, 4, 6, 3)
    assert PICTURES(Image.new("RGB", (1, 1))).shape == (1, 4, 6, 3)


def test_every_mode_becomes_rgb(tmp_path):
    clear = Image.new("RGBA", (2, 2), (9, 9, 9, 0))
    assert rgb(clear).getpixel((0, 0)) == (255, 255, 255)
    palette = Image.new("RGB", (2, 2), (0, 0, 255)).convert("P")
    assert rgb(palette).getpixel((0, 0)) == (0, 0, 255)
    deep = Image.fromarray(np.full((2, 2), 65535, np.uint16))
    assert rgb(deep).getpixel((0, 0)) == (255, 255, 255)
    turned = Image.new("RGB", (4, 2))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert rgb(tmp_path / "turned.jpg").size == (2, 4)


def test_bad_pictures_are_told(tmp_path, monkeypatch):
    (tmp_path / "text.png").write_text("no picture")
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:500])
    for raw, sentence in (
        (tmp_path / "none.png", "There is no picture"),
        (tmp_path / "text.png", "cannot be read"),
        (tmp_path / "cut.png", "cannot be read"),
        (np.zeros((2, 2, 4), np.uint8), "give uint8 values"),
        (np.zeros((2, 2, 3)), "of float64: give uint8"),
        (np.zeros((0, 2, 3), np.uint8), "no pixels"),
        (Image.fromarray(np.full((2, 2), 1e9, np.float32)), "neither of 8 nor of 16 bits"),
        ([], "no picture to preprocess"),
    ):
        with pytest.raises(DataError, match=sentence):
            PICTURES(raw)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="more pixels than Pillow takes for safe"):
        PICTURES(whole)


def test_preprocessing_that_comes_with_weights():
    timm = {"input_size": [3, 224, 224], "crop_pct": 0.875, "interpolation": "bicubic"}
    timm |= {"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}
    pictures = pictures_of({"pretrained_cfg": timm}, {})
    assert (pictures.size, pictures.resize, pictures.interpolation) == ((224, 224), 256, "bicubic")
    processor = {"size": {"height": 32, "width": 24}, "resample": 2}
    processor |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    pictures = pictures_of({}, processor)
    assert pictures.size == pictures.resize == (32, 24)
    assert pictures_of({}, {}) is None
    del timm["mean"]
    for description, other in (({"pretrained_cfg": timm}, {}), ({}, processor | {"resample": 99})):
        with pytest.raises(DataError, match="incomplete"):
            pictures_of(description, other)
    with pytest.raises(DataError, match="crop_mode"):
        pictures_of({"pretrained_cfg": timm | {"crop_mode": "squash"}}, {})
    with pytest.raises(ConfigError, match="interpolation"):
        Pictures((2, 2), 2, (0.0,), (1.0,), "cubic")


@pytest.mark.slow
def test_weights_of_the_shared_data(data_folder):
    file = data_folder / "weights" / "efficientnet_lite0.safetensors"
    if not file.exists():
        pytest.skip("the real weights are not in MMJAX_DATA")
    lite = load(file)
    assert lite.config == EfficientNetLite0()
    with pytest.raises(DataError, match=r"Nothing beside the weights .* preprocessing=Pictures"):
        lite.preprocess(np.zeros((9, 9, 3), np.uint8))
    size = (64, 64)
    pictures = Pictures(size, 73, (127 / 255,) * 3, (128 / 255,) * 3, "bicubic")
    lite = load(file, preprocessing=pictures)
    photo = next(iter(sorted((data_folder / "flickr8k" / "images").glob("*.jpg"))), None)
    logits = lite.logits(lite.preprocess([photo, photo]))
    assert logits.shape == (2, 1000)
    assert (logits[0] == logits[1]).all()
    assert lite.pooled(lite.preprocess(photo)).shape == (1, 1280)
    assert lite.config.mean == pictures.mean
    with pytest.raises(DataError, match=r"read \[B, 64, 64, 3\] of a floating type"):
        lite.tokens(np.zeros((1, 32, 32, 3), np.float32))


@pytest.fixture(scope="module")
def parity():
    """The script that compares with PyTorch, where its packages are installed."""
    for package in ("torch", "torchvision", "timm", "transformers", "efficientnet_lite_pytorch"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'mmjax[parity]'")
    file = Path(__file__).parents[2] / "experiments" / "benchmarks" / "parity.py"
    spec = importlib.util.spec_from_file_location("parity", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["parity"] = module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.path.append(str(file.parent))  # as for a script
        spec.loader.exec_module(module)
        sys.path.remove(str(file.parent))
        yield module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("case", "layer"),
    [
        (
            lambda p: p.bert(
                hidden_size=16,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=24,
                vocab_size=50,
                max_position_embeddings=32,
            ),
            ("blocks", 1, "attention", "value"),
        ),
        (
            lambda p: p.torchvision_model("resnet18", p.resnet_outputs, 32),
            ("groups", 2, 0, "shortcut", "conv"),
        ),
    ],
    ids=["bert", "resnet18"],
)
def test_the_first_layer_that_differs_is_named(parity, case, layer, tmp_path):
    case = case(parity)
    model = parity.randomised(case.make())
    parity.written(model, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(case.description))
    images = len(case.size) == 2
    ours = load(tmp_path, image_size=case.size if images else None)
    random, mask = np.random.default_rng(0), None
    if images:
        inputs = random.standard_normal((2, *case.size, 3)).astype(np.float32)
        theirs = parity.torch.tensor(inputs.transpose(0, 3, 1, 2))
    else:
        inputs, mask = random.integers(1, 50, (2, 6)), np.arange(6) < np.array([[6], [3]])
        theirs = parity.torch.tensor(inputs)
    given = None if mask is None else parity.torch.tensor(mask).long()

    def sentence():
        return parity.first_difference(
            ours, inputs, mask, model, lambda: case.outputs(model, theirs, given)
        )

    assert sentence().startswith("No layer of ")
    node = ours.module
    for name in layer:
        node = node[name] if isinstance(name, int) else getattr(node, name)
    node.kernel[...] += 0.01
    assert sentence().startswith(f"{'.'.join(map(str, layer))} is the first layer that differs")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "case",
    [
        lambda p: p.bert(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=24,
            vocab_size=50,
            max_position_embeddings=32,
        ),
        lambda p: p.vit(
            (32, 32),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=24,
            image_size=32,
            patch_size=8,
        ),
        lambda p: p.vit(
            (32, 48),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=24,
            image_size=32,
            patch_size=8,
        ),
        lambda p: p.clip_text(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=24,
            vocab_size=50,
            eos_token_id=2,
        ),
        lambda p: p.timm_model("vit_tiny_patch16_224", 224, depth=2),
        lambda p: p.torchvision_model("resnet18", p.resnet_outputs, 64),
        lambda p: p.torchvision_model("vgg11_bn", p.features_outputs, 32)._replace(
            make=lambda: _without_dense(p)
        ),
        lambda p: p.lite0(64),
    ],
    ids=["bert", "vit", "vit-wide", "clip-text", "vit-timm", "resnet18", "vgg11_bn", "lite0"],
)
def test_parity_with_pytorch(parity, case, tmp_path):
    errors = parity.compare(case(parity), tmp_path)
    assert errors.pop("export") == 0
    assert errors
    assert max(errors.values()) <= 1e-5, errors


def _without_dense(parity):
    model = parity.torchvision().models.vgg11_bn(weights=None, init_weights=False)
    del model.classifier, model.avgpool
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sides", [(128, 128), (251, 640), (97, 31)])
def test_pictures_are_those_of_timm_and_transformers(parity, sides):
    parity.torchvision()
    from timm.data import create_transform
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*sides, 3), np.uint8))
    options = {"interpolation": "bicubic", "crop_pct": 0.875}
    options |= {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    theirs = create_transform((3, 224, 224), is_training=False, **options)(picture)
    ours = pictures_of({"pretrained_cfg": options | {"input_size": (3, 224, 224)}}, {})
    np.testing.assert_array_equal(ours(picture)[0], theirs.numpy().transpose(1, 2, 0))
    processor = ViTImageProcessorPil(size={"height": 64, "width": 48})
    theirs = processor(picture, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    np.testing.assert_array_equal(pictures_of({}, processor.to_dict())(picture)[0], theirs)


def test_texts_need_a_tokenizer(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Texts(str(tmp_path / "tokenizer.json"), 12)(["A dog."])
