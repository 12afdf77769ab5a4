"""`fsdd_audio` and `esc10`: their splits on the real clips, and damaged files."""

import numpy as np
import pytest
import soundfile

from mmjax.data import Esc10, FsddAudio
from mmjax.errors import ConfigError, DataError


def test_the_official_split_and_a_speaker_left_out(data_folder):
    data = FsddAudio()
    sizes = {split: len(data.load(split, data_folder)) for split in ("valid", "test")}
    assert sizes == {"valid": 300, "test": 300}
    source = FsddAudio("theo").load("test", data_folder)
    assert len(source) == 500
    batch = source.take(np.arange(500))
    assert set(batch.targets["speaker"]) == {FsddAudio.speakers.index("theo")}
    assert np.bincount(batch.targets["label"]).tolist() == [50] * 10
    audio = np.asarray(batch.inputs["audio"])
    assert not audio[~batch.masks["audio"]].any()
    valid = FsddAudio("theo").load("valid", data_folder).take(np.arange(250))
    assert FsddAudio.speakers.index("theo") not in valid.targets["speaker"]
    with pytest.raises(ConfigError, match="did you mean 'theo'"):
        FsddAudio("teo")


def test_a_fold_is_left_out(data_folder):
    source = Esc10(fold=2).load("test", data_folder)
    batch = source.take(np.arange(80))
    assert batch.inputs["audio"].shape == (80, 80_000)
    assert np.bincount(batch.targets["label"]).tolist() == [8] * 10
    assert np.abs(batch.inputs["audio"]).max() <= 1
    with pytest.raises(ConfigError, match="fold is 6; choose it from 1 to 5"):
        Esc10(fold=6)


@pytest.fixture
def folder(tmp_path):
    audio = tmp_path / "esc10" / "audio"
    audio.mkdir(parents=True)
    lines = ["filename,fold,target,category"]
    for fold in range(1, 6):
        lines.append(f"{fold}.ogg,{fold},{fold},x")
        soundfile.write(audio / f"{fold}.ogg", np.full(1_000, 0.1, np.float32), 16_000)
    (tmp_path / "esc10" / "esc10.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_damage_is_named(folder):
    audio, table = folder / "esc10" / "audio", folder / "esc10" / "esc10.csv"
    batch = Esc10().load("test", folder).take(np.arange(1))
    assert batch.inputs["audio"].shape == (1, 80_000)
    assert batch.targets["label"].tolist() == [1]
    soundfile.write(audio / "1.ogg", np.zeros((100, 2), np.float32), 16_000)
    with pytest.raises(DataError, match=r"1\.ogg has 16000 Hz and the shape \(100, 2\)"):
        Esc10().load("test", folder)
    (audio / "1.ogg").write_bytes(b"OggS")
    with pytest.raises(DataError, match=r"1\.ogg cannot be read"):
        Esc10().load("test", folder)
    (audio / "1.ogg").unlink()
    with pytest.raises(DataError, match=r"1\.ogg does not exist"):
        Esc10().load("test", folder)
    good = table.read_text()
    for bad, words in (
        (good.replace("1.ogg,1,1", "../1.ogg,1,1"), r"'\.\./1\.ogg' has the fold 1"),
        (good.replace("1.ogg,1,1", "1.ogg,9,1"), "has the fold 9 and the class 1"),
        (good.replace("1.ogg,1,1", "1.ogg,one,1"), "invalid literal"),
        (good.replace("filename", "name"), "KeyError"),
        (good.replace("2.ogg", "1.ogg"), "listed twice"),
    ):
        table.write_text(bad)
        with pytest.raises(DataError, match=words):
            Esc10().load("test", folder)
