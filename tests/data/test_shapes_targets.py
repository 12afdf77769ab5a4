"""What `shapes` gives to predict: every attribute as a label, captions that are parsed back."""

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure

from mmjax.data import Shapes, shapes_render, shapes_targets
from mmjax.data.checks import with_known_targets
from mmjax.data.preview import preview
from mmjax.errors import ConfigError, DataError
from mmjax.structs import Batch

ALL = Shapes(information="synergy", noise=0.3, tasks=("label", "attributes", "caption"))
ROWS = np.arange(300)


def test_the_label_alone_unless_others_are_asked_for():
    assert set(Shapes().targets) == {"label"}
    assert set(Shapes().load("valid").take(ROWS).targets) == {"label"}
    assert set(Shapes(tasks=("caption",)).load("valid").take(ROWS).targets) == {"caption"}
    with pytest.raises(ConfigError, match="no task of shapes 'captions': did you mean 'caption'"):
        Shapes(tasks=("label", "captions"))


def test_examples_and_the_cheap_targets_agree_with_the_declaration():
    source = ALL.load("valid")
    batch = source.take(ROWS)
    for name, target in ALL.targets.items():
        assert batch.targets[name].shape == (len(ROWS), *target.example_shape)
        np.testing.assert_array_equal(source.targets[name][ROWS], batch.targets[name])
    checked = with_known_targets(batch, ALL.targets, "shapes")
    np.testing.assert_array_equal(checked.target_masks["caption"], batch.targets["caption"] != 0)
    assert checked.target_masks["attributes"].all()


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        ({"information": "redundant", "classes": 3}, {"form": 3, "noun": 3, "pitch": 3}),
        ({"information": "unique", "unique_to": "text"}, {"noun": 4}),
        ({"information": "synergy", "classes": 2}, {"form": 2, "pitch": 2}),
    ],
)
def test_one_label_of_each_attribute_that_varies(options, codes):
    data = dataclasses.replace(ALL, **options)
    names = data.targets["attributes"].names
    counts = codes | {"colour": 6, "size": 3, "texture": 3, "place": 5}
    assert len(names) == sum(counts.values())
    labels, shown = data.load("train").targets["attributes"], data.attributes("train", ROWS)
    assert labels.any(axis=0).all(), "a label that never applies is not learned"
    for attribute, count in counts.items():
        columns = [i for i, name in enumerate(names) if name.split()[0] == attribute]
        assert len(columns) == count
        np.testing.assert_array_equal(labels[:, columns].sum(axis=1), 1)
        np.testing.assert_array_equal(labels[ROWS][:, columns].argmax(axis=1), shown[attribute])
    assert "colour red" in names
    assert ("pitch 550 Hz" in names) == (codes.get("pitch", 0) > 2)


def test_a_caption_is_the_text_and_an_end():
    batch, target = ALL.load("train").take(ROWS), ALL.targets["caption"]
    for text, tokens in zip(batch.inputs["text"], batch.targets["caption"], strict=True):
        words = int((text != 0).sum())
        np.testing.assert_array_equal(tokens[:words], text[:words])
        assert tokens[words] == target.end
        assert np.all(tokens[words + 1 :] == 0)
        assert ALL.caption(tokens) == ALL.caption(text)
        assert " ".join(target.names[token] for token in tokens[:words]) == ALL.caption(text)
    assert target.names[target.end] == "<end>"


def test_what_a_caption_says_is_read_back():
    shown = ALL.attributes("train", np.arange(5000))
    captions = shapes_targets.caption_tokens(shown)
    parsed = shapes_targets.parse(captions)
    names = ("noun", "size", "colour", "texture", "place")
    np.testing.assert_array_equal(parsed, np.stack([shown[name] for name in names], axis=1))
    turned = shapes_targets.caption_tokens(shown | {"order": 1 - shown["order"]})
    assert (turned != captions).any(axis=1).all()
    assert ALL.equivalent("caption", captions, turned).all()
    for name in names:
        count = len(shapes_render.ATTRIBUTES[name])
        other = shapes_targets.caption_tokens(shown | {name: (shown[name] + 1) % count})
        assert not ALL.equivalent("caption", captions, other).any()


def test_what_is_no_caption_equals_none():
    captions = ALL.load("train").take(ROWS).targets["caption"]
    endless = np.where(captions == ALL.targets["caption"].end, 0, captions)
    swapped = captions[:, [1, 0, *range(2, captions.shape[1])]]
    for wrong in (endless, swapped, np.zeros_like(captions)):
        assert np.all(shapes_targets.parse(wrong) == -1)
        assert not ALL.equivalent("caption", wrong, captions).any()
        assert not ALL.equivalent("caption", wrong, wrong).any()
    with pytest.raises(ConfigError, match="'label'"):
        ALL.equivalent("label", captions, captions)


def test_captions_that_do_not_fit_the_declaration_are_refused():
    captions = ALL.load("train").take(ROWS).targets["caption"]
    target = {"caption": ALL.targets["caption"]}

    def check(ids):
        with_known_targets(Batch.of({}, ROWS, targets={"caption": ids}), target, "mine")

    check(captions)
    wrong = captions.copy()
    wrong[7, 2] = target["caption"].classes
    with pytest.raises(DataError, match="is 29 in record 7, but its 29 tokens are numbered from 0"):
        check(wrong)
    with pytest.raises(DataError, match=r"of the shape \(13,\), but is declared as \(12,\)"):
        check(np.pad(captions, ((0, 0), (0, 1))))


def test_a_preview_names_labels_and_words(tmp_path, monkeypatch):
    titles = []

    def note(figure, *args, **options):
        titles.extend(axes.get_title() for axes in figure.axes if axes.get_title())

    monkeypatch.setattr(Figure, "savefig", note)
    data = dataclasses.replace(ALL, tasks=("attributes", "caption"))
    preview(data, None, tmp_path / "shapes.png", count=2)
    assert len(titles) == 2
    for title in titles:
        assert "texture" in title
        assert "the" in title.partition("caption ")[2].split()
        assert "<end>" not in title
