"""CLIP: parity with transformers, where it is; ends of texts, pictures, bad folders."""

import importlib.util
import json
import string

import numpy as np
import pytest
from beginnings import assert_begins_at
from flax import nnx
from PIL import Image
from safetensors.numpy import load_file, save_file

from mmjax.data.preprocessing import pictures_of
from mmjax.encoders import CLIPImage, CLIPText
from mmjax.errors import ConfigError, DataError
from mmjax.pretrained import PretrainedCLIP, load
from mmjax.structs import Modality

TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
    "max_position_embeddings": 12,
    "bos_token_id": 30,
}
IMAGE = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
PROCESSOR = {
    "size": {"shortest_edge": 32},
    "crop_size": {"height": 32, "width": 32},
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "do_center_crop": True,
}


@pytest.fixture(scope="module")
def torch():
    """PyTorch, where it and transformers are installed."""
    for package in ("torch", "torchvision", "transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'mmjax[parity]'")
    import torch
    from torch import library

    names = library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):  # missing beside a PyTorch without CUDA
        if not hasattr(torch.ops.torchvision, name):
            names.define(f"{name}(Tensor a) -> Tensor")
    torch.kept = names
    return torch


def clip(torch, folder, *, text=(), image=(), processor=(), text_part=None):
    """Writes a small CLIP with random weights, as transformers does, and gives its model."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=TEXT | dict(text), vision_config=IMAGE | dict(image), projection_dim=20
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder)
    if text_part is not None:
        description = json.loads((folder / "config.json").read_text())
        description.update(text_part)
        (folder / "config.json").write_text(json.dumps(description))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | dict(processor)))
    tokenizer().save(str(folder / "tokenizer.json"))
    return model


def tokenizer():
    """A tokenizer in CLIP's manner: lower case, ids 30 and 39 around the text."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = [f"{letter}</w>" for letter in string.ascii_lowercase]
    words = ["!", "!</w>", *words, "ab</w>", "a", *["<s>"], *map(str, range(8)), "</s>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    bpe = models.BPE(vocabulary, [("a", "b</w>")], unk_token="</s>", end_of_word_suffix="</w>")
    made = Tokenizer(bpe)
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.RobertaProcessing(("</s>", 39), ("<s>", 30), False, False)
    made.enable_padding(pad_id=39, pad_token="</s>")  # as the published one may
    return made


def difference(ours, theirs, valid=1):
    theirs = theirs.detach().numpy()
    return np.abs((np.asarray(ours) - theirs) * valid).max() / np.abs(theirs * valid).max()


# Ids of three texts: their ends (39) at different places; id 0 is a word; one is just start, end.
IDS = np.array(
    [[30, 4, 0, 17, 0, 8, 39], [30, 5, 39, 39, 39, 39, 39], [30, 39, 39, 39, 39, 39, 39]], np.int32
)
MASK = np.arange(7) <= np.array([[6], [2], [1]])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "case",
    [
        {"text": {"eos_token_id": 39}},
        {"text": {"eos_token_id": 2}},  # older: the highest id
        {"text": {"eos_token_id": 34}},  # newer, with words above the end
        {"text": {"hidden_act": "gelu", "eos_token_id": 39}, "image": {"hidden_act": "gelu"}},
    ],
    ids=["newer", "older", "below", "gelu"],
)
def test_parity_with_transformers(torch, case, tmp_path):
    model = clip(torch, tmp_path, **case)
    loaded = load(tmp_path)
    assert isinstance(loaded, PretrainedCLIP)
    random = np.random.default_rng(0)
    pictures = random.standard_normal((2, 32, 32, 3)).astype(np.float32)
    theirs_in = torch.tensor(pictures.transpose(0, 3, 1, 2)).contiguous()
    theirs = model.get_image_features(theirs_in)
    vision = model.vision_model(theirs_in)
    assert difference(loaded.image.tokens(pictures), vision.last_hidden_state) <= 1e-5
    assert difference(loaded.image.pooled(pictures), theirs.pooler_output) <= 1e-5

    ids = IDS.copy()
    if case["text"]["eos_token_id"] == 34:
        ids[ids == 39] = 34
        ids[0, 1] = 39
    mask, ids_in = torch.tensor(MASK).long(), torch.tensor(ids).long()
    theirs = model.get_text_features(ids_in, attention_mask=mask)
    text = model.text_model(ids_in, attention_mask=mask)
    for given in (None, MASK):
        tokens = loaded.text.tokens(ids, given)
        assert difference(tokens, text.last_hidden_state, MASK[:, :, None]) <= 1e-5
        assert difference(loaded.text.pooled(ids, given), theirs.pooler_output) <= 1e-5
        np.testing.assert_array_equal(loaded.text.features(ids, given).mask, MASK)
    # Without padding, and without a mask, in both.
    theirs = model.get_text_features(ids_in[:1]).pooler_output
    assert difference(loaded.text.pooled(ids[:1]), theirs) <= 1e-5
    # A mask that leaves out words in the middle.
    gaps = MASK & (np.arange(7) != 3)
    theirs = model.text_model(ids_in, attention_mask=torch.tensor(gaps).long())
    tokens = loaded.text.tokens(ids, gaps)
    assert difference(tokens, theirs.last_hidden_state, gaps[:, :, None]) <= 1e-5

    both = model(input_ids=ids_in, attention_mask=mask, pixel_values=theirs_in)
    assert difference(loaded.logits(pictures, ids), both.logits_per_image) <= 1e-5
    assert loaded.temperature == pytest.approx(float((-model.logit_scale).exp()), rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_towers_one_by_one_other_sizes_and_export(torch, tmp_path):
    model = clip(torch, tmp_path / "both", text={"eos_token_id": 39})
    file = tmp_path / "both" / "model.safetensors"
    tensors = load_file(file)
    tensors["text_model.embeddings.position_ids"] = np.arange(12)[None]  # older files have it
    save_file(tensors, file)
    loaded = load(tmp_path / "both")
    loaded.export(tmp_path / "again.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert tensors.keys() == again.keys()
    assert all((tensors[name] == again[name]).all() for name in tensors)

    wide = load(tmp_path / "both", image_size=(40, 24))
    pictures = np.random.default_rng(0).standard_normal((1, 40, 24, 3)).astype(np.float32)
    theirs_in = torch.tensor(pictures.transpose(0, 3, 1, 2)).contiguous()
    theirs = model.get_image_features(theirs_in, interpolate_pos_encoding=True).pooler_output
    assert difference(wide.image.pooled(pictures), theirs) <= 1e-5

    from transformers import CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**IMAGE, projection_dim=20)
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path / "image")
    vision = load(tmp_path / "image")
    assert vision.config == CLIPImage(24, 2, 4, 32, patch=8, projection=20)
    bare = CLIPTextModel(model.config.text_config).eval()
    bare.save_pretrained(tmp_path / "text")
    text = load(tmp_path / "text")
    assert text.config == CLIPText(16, 2, 2, 24, positions=12, projection=0, end=39)
    theirs = bare(torch.tensor(IDS).long()).pooler_output
    assert difference(text.pooled(IDS), theirs) <= 1e-5


@pytest.mark.filterwarnings("ignore")
def test_an_experiment_takes_either_tower(torch, tmp_path):
    clip(torch, tmp_path)
    both = load(tmp_path)
    assert_begins_at(both.image, both.image.shape)
    assert_begins_at(both.text, both.text.shape)


@pytest.mark.filterwarnings("ignore")
def test_settings_that_older_files_leave_out_or_repeat(torch, tmp_path):
    clip(torch, tmp_path, text={"eos_token_id": 39, "num_attention_heads": 8})
    description = json.loads((tmp_path / "config.json").read_text())
    description["text_config"] = {"hidden_act": "gelu", "num_attention_heads": 2}
    description["text_config_dict"] = {"hidden_size": 16, "eos_token_id": 2}
    (tmp_path / "config.json").write_text(json.dumps(description))
    encoder = load(tmp_path).text.config
    # transformers takes what is in text_config_dict, and its defaults for all else.
    assert (encoder.activation, encoder.heads, encoder.end) == ("quick_gelu", 8, 0)
    del description["text_config_dict"]
    (tmp_path / "config.json").write_text(json.dumps(description))
    encoder = load(tmp_path).text.config
    assert (encoder.activation, encoder.heads, encoder.end) == ("gelu", 2, 0)


@pytest.mark.filterwarnings("ignore")
def test_texts(torch, tmp_path):
    clip(torch, tmp_path, text={"eos_token_id": 39})
    text = load(tmp_path).text
    ids = text.preprocess(["A b AB !", ""])
    np.testing.assert_array_equal(ids, [[30, 2, 3, 28, 1, 39], [30, 39, 0, 0, 0, 0]])
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(tmp_path).eval()
    empty = model.get_text_features(torch.tensor([[30, 39]])).pooler_output
    assert difference(text.pooled(ids)[1:], empty) <= 1e-5
    with pytest.raises(DataError, match="Text 0 has 22 word pieces, more than the 12"):
        text.preprocess("a " * 20)
    cut = text.preprocess("a " * 20, truncate=True)
    assert cut.shape == (1, 12)
    assert cut[0, -1] == 39  # with its end
    with pytest.raises(DataError, match=r"Text 1 has no end \(id 39\)"):
        text.pooled(np.array([[30, 39], [30, 4]]))


@pytest.mark.filterwarnings("ignore")
def test_bad_folders_are_told(torch, tmp_path):
    clip(torch, tmp_path, text={"eos_token_id": 39})
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)

    def changed(**changes):
        new = tensors | {name.replace("__", "."): value for name, value in changes.items()}
        save_file({name: value for name, value in new.items() if value is not None}, file)

    for changes, sentence in (
        ({"logit_scale": None}, "CLIP without the number 'logit_scale'"),
        ({"logit_scale": np.float32([np.nan])}, "CLIP without the number"),
        ({"other": np.zeros(3, np.float32)}, "1 unknown: other"),
        ({"text_other": np.zeros(3, np.float32)}, "1 unknown: text_other"),
        (
            {"vision_model__post_layernorm__bias": np.zeros(3, np.float32)},
            r"vision_model.post_layernorm.bias is \(3,\), \(3,\) for us, not \(24,\)",
        ),
        ({"text_model__final_layer_norm__bias": None}, r"missing \(our names\): norm.bias"),
        (
            {"vision_model__embeddings__position_embedding__weight": np.zeros((9, 24), "f")},
            "which is no square grid",
        ),
    ):
        changed(**changes)
        with pytest.raises(DataError, match=sentence):
            load(tmp_path)
    changed()
    description = json.loads((tmp_path / "config.json").read_text())
    description["vision_config"]["hidden_act"] = "relu"
    (tmp_path / "config.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="a CLIP with the activation 'relu'"):
        load(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(DataError, match=r"need a config.json beside them that says 'model_type'"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="end is 39, but the vocabulary has 39"):
        CLIPText(8, 1, 2, 8, end=39).build(
            Modality("text", (3,), vocabulary=39), dtype=np.dtype("float32"), rngs=nnx.Rngs(0)
        )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("sides", [(128, 128), (251, 640), (97, 31), (224, 301), (40, 41)])
def test_pictures_are_those_of_transformers(torch, sides):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*sides, 3), np.uint8))
    processor = CLIPImageProcessorPil()
    theirs = processor(picture, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = pictures_of({"model_type": "clip"}, processor.to_dict())
    np.testing.assert_array_equal(ours(picture)[0], theirs)
    # As the files of 2021 say it: one number is the shorter side, and the crop is understood.
    old = {"size": 224, "crop_size": 224, "resample": 3}
    old |= {"image_mean": list(processor.image_mean), "image_std": list(processor.image_std)}
    assert pictures_of({"model_type": "clip"}, old) == ours
    odd = CLIPImageProcessorPil(crop_size={"height": 231, "width": 217})  # beyond the edge, too
    theirs = odd(picture, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    ours = pictures_of({"model_type": "clip"}, odd.to_dict())
    np.testing.assert_array_equal(ours(picture)[0], theirs)
