"""The command line, broken on purpose: one plain sentence, the right exit status, nothing lost."""

import contextlib
import gc
import gzip
import io
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmjax import __version__, benchmarks, cli
from mmjax.cli import main
from mmjax.data.fsdd import SPEAKERS
from mmjax.training import loop
from mmjax.training.checkpoints import Checkpoints
from mmjax.training.run_directory import RunDirectory

TINY = '''
"""Deep CCA, as small as it gets."""

import dataclasses

import numpy as np

from mmjax.data import DigitsHalves
from mmjax.encoders import MLP
from mmjax.evaluation import HeldOutCorrelation
from mmjax.models import DualEncoder
from mmjax.objectives import DCCA
from mmjax.training import SGD, AdamW, Experiment, Training

views = ("left", "right")

experiment = Experiment(
    name="tiny",
    data=DigitsHalves(),
    model=DualEncoder(encoders={view: MLP(hidden=(8,), width=4) for view in views}),
    objectives=(DCCA(views=views),),
    optimizer=AdamW(learning_rate=1e-2),
    training=Training(
        steps=8, batch_size=64, eval_every=4, log_every=2, monitor="total_correlation"
    ),
    evaluation=(HeldOutCorrelation(views=views, k=4),),
)
'''
FILES = """
from mmjax.data import MNISTHalves, SpokenDigits
from mmjax.encoders import MLP, LeNet, LogMelCNN
from mmjax.models import DualEncoder, FusionModel
from mmjax.objectives import DCCA, CrossEntropy
from mmjax.training import Experiment, Training

halves = Experiment(
    name="halves",
    data=MNISTHalves(),
    model=DualEncoder(encoders={view: MLP() for view in ("left", "right")}),
    objectives=(DCCA(views=("left", "right")),),
    training=Training(steps=2),
)
digits = Experiment(
    name="digits",
    data=SpokenDigits(),
    model=FusionModel(encoders={"image": LeNet(), "audio": LogMelCNN()}),
    objectives=(CrossEntropy(),),
    training=Training(steps=2),
)
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MMJAX_DATA", raising=False)
    Path("tiny.py").write_text(TINY)


@pytest.fixture
def fails(capsys):
    """Runs a command that has to fail with one sentence; gives that sentence."""

    def run(status, *words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert err.count("\n") == 1, err
        assert err.startswith("mmjax: ")
        assert code == status, err
        return err.removeprefix("mmjax: ").rstrip("\n")

    return run


@pytest.fixture
def works(capsys):
    """Runs a command that has to succeed without a complaint; gives what it prints."""

    def run(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.py").write_text(TINY)
    assert main(["train", str(folder / "tiny.py"), "--run-dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def finished(trained, tmp_path):
    """A copy of a finished run."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def unfinished(finished):
    """The same before its last step, half a line of metrics included."""
    (finished / "result.json").unlink()
    shutil.rmtree(finished / "checkpoints" / "8")
    with open(finished / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "train/lo')
    return finished


def metrics_of(run):
    return json.loads((run / "result.json").read_text())["metrics"]


def assert_same_run(run, other):
    """Wholly the same metrics, though one of them was disturbed."""
    assert (run / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert metrics_of(run) == metrics_of(other)


def contents(folder):
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


# Commands and options


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("", ["required: COMMAND", "`mmjax --help`"]),
        ("trian tiny.py", ["'trian'", "did you mean 'train'"]),
        ("--version-of-what", ["required: COMMAND"]),
        ("bench setp tiny.py", ["'setp'", "did you mean 'step'"]),
        ("data lsit", ["'lsit'", "did you mean 'list'"]),
        ("data", ["required: WHAT", "`mmjax data --help`"]),
        ("train", ["required: EXPERIMENT.py", "`mmjax train --help`"]),
        ("train --training.steps 5 tiny.py", ["'5'", "write the file before the options"]),
        ("train tiny.py --run-dri x", ["--run-dri", "did you mean --run-dir?"]),
        ("train tiny.py --run-dir", ["--run-dir", "expected one argument"]),
        ("train tiny.py --training.stepz 5", ["--training.stepz", "mean --training.steps?"]),
        ("train tiny.py --batch_size 5", ["--batch_size", "mean --training.batch-size?"]),
        ("train tiny.py --training.steps x", ["--training.steps", "'x'", "a whole number"]),
        ("train tiny.py --training.steps=x", ["--training.steps", "'x'", "a whole number"]),
        ("train tiny.py --training.steps 2.5", ["--training.steps", "'2.5'", "a whole number"]),
        ("train tiny.py --training.steps -3", ["Training.steps is -3", "0 or more"]),
        ("train tiny.py --training.steps", ["--training.steps", "1 value"]),
        ("train tiny.py --training.steps 4 5", ["'5'"]),
        ("train tiny.py --training.save-every -1", ["Training.save_every is -1", "0 or more"]),
        ("train tiny.py --training.precision float16", ["'float16'", "'float32', 'bfloat16'"]),
        ("train tiny.py --training.tensorboard maybe", ["'maybe'", "'True', 'False'"]),
        ("train tiny.py --optimizer.learning-rate fast", ["'fast'", "a number"]),
        ("train tiny.py --optimizer.learning-rate nan", ["optimizer.learning_rate is nan"]),
        ("train tiny.py --objectives.0.k 2.5", ["--objectives.0.k", "None or a whole number"]),
        ("train tiny.py --objectives.0.views left", ["--objectives.0.views", "2 value"]),
        ("train tiny.py --objectives.0.views left left", ["names one view twice"]),
        ("train tiny.py --objectives.1.weight 2", ["--objectives.1.weight"]),
        ("train tiny.py --model.encoders.lefd.width 2", ["mean --model.encoders.left.width?"]),
        ("train tiny.py --name a/b", ["'a/b'", "cannot name a folder"]),
        ("train tiny.py stray", ["'stray'"]),
        ("train tiny.py --training.mesh.data 3", ["data=3", "2 device(s)"]),
        ("train tiny.py --model.encoders.left.width -1", ["MLP.width is -1", "1 or more"]),
        ("train tiny.py --optimizer.clip-norm -1", ["AdamW.clip_norm is -1.0", "0 or more"]),
        ("train tiny.py --optimizer.b1 1", ["optimizer.b1 is 1.0", "below 1"]),
        ("train tiny.py --training.batch-size 63", ["training.batch_size is 63", "multiple of 2"]),
        ("train tiny.py --training.batch-size 2000", ["2000", "1197", "set it to 1197 or less"]),
        ("ablate tiny.py --seeds 0", ["--seeds is 0", "1 or more"]),
        ("ablate tiny.py --seeds x", ["--seeds", "'x'"]),
        ("ablate tiny.py --rows tini", ["no row 'tini'", "did you mean 'tiny'"]),
        ("ablate tiny.py --columns accuracy", ["'accuracy'", "test/accuracy"]),
        ("bench step tiny.py --steps 1", ["--steps is 1", "2 or more"]),
        ("bench step tiny.py --json absent/x.json", ["absent/x.json", "folder that exists"]),
        ("bench step tiny.py --training.steps 0", ["training.steps is 0", "no step to measure"]),
        ("bench objective --loss dcac", ["no loss 'dcac'", "did you mean 'dcca'"]),
        ("bench objective --width 0", ["--width is 0", "1 or more"]),
        ("bench objective --width wide", ["--width", "'wide'"]),
        ("bench objective --batch-size 100", ["batch of 100", "256 dimensions"]),
        ("bench objective --precision float16", ["'float16'", "bfloat16"]),
        ("bench objective --rounds 1", ["--rounds is 1", "2 or more"]),
        ("bench objective --json absent/x.json", ["absent/x.json", "folder that exists"]),
        ("evaluate run --splitt test", ["--splitt", "did you mean --split?"]),
        ("evaluate run stray", ["'stray'", "`mmjax evaluate --help`"]),
        ("evaluate run --checkpoint frist", ["'frist'"]),
        ("evaluate run --json .", ["--json .", "give a file"]),
        ("data info digit_halves", ["no data set", "did you mean 'digits_halves'"]),
        ("data verify nothing", ["no data set 'nothing'", "digits_halves"]),
        ("data preview digits_halves --split trian", ["no split", "did you mean 'train'"]),
        ("data preview digits_halves --count 0", ["from 1 to 48"]),
        ("data preview digits_halves --seed -1", ["--seed is -1"]),
        (
            "data preview digits_halves --out absent/x.png",
            ["absent/x.png", "the folder absent does not exist"],
        ),
        ("data preview shapes --sed 1", ["--sed", "did you mean --seed?"]),
    ],
)
def test_wrong_command(fails, words, parts):
    sentence = fails(2, *words.split())
    assert all(part in sentence for part in parts), sentence
    assert os.listdir() == ["tiny.py"]  # nothing was begun


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("--objectives.0.views left rihgt", ["'rihgt'", "did you mean 'right'"]),
        ("--objectives.0.k 5", ["k=5", "4 dimensions", "from 1 to 4"]),
        ("--evaluation.0.k 5", ["k=5", "4 dimensions", "from 1 to 4"]),
        ("--evaluation.0.views left rihgt", ["no view 'rihgt'", "did you mean 'right'"]),
        ("--training.batch-size 2", ["batch of 2", "4 dimensions", "batch_size >= 5"]),
    ],
)
def test_parts_that_do_not_fit_are_told_before_the_run_begins(fails, words, parts):
    sentence = fails(2, "train", "tiny.py", "--run-dir", "run", *words.split())
    assert all(part in sentence for part in parts), sentence
    assert os.listdir() == ["tiny.py"]


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("", ["train", "evaluate", "ablate", "bench", "data", "report"]),
        ("train", ["--run-dir", "--data-dir"]),
        ("train --run-dir x", ["--run-dir"]),
        ("train tiny.py", ["--run-dir", "--training.steps", "--objectives.0.ridge"]),
        ("evaluate", ["--split", "--checkpoint", "--json"]),
        ("ablate tiny.py", ["--seeds", "--rows", "--model.encoders.left.width"]),
        ("bench", ["step", "objective"]),
        ("bench objective", ["--loss", "--width", "--batch-size", "--rounds", "--json"]),
        ("bench step tiny.py", ["--steps", "--training.batch-size"]),
        ("data", ["list", "info", "verify", "preview"]),
        ("data info", ["--data-dir"]),
        ("data preview shapes", ["--count", "--information"]),
        ("report", ["RUN_DIR"]),
    ],
)
def test_help_is_everywhere(works, words, parts, flag):
    out = works(*words.split(), flag)
    assert all(part in out for part in parts), out
    assert os.listdir() == ["tiny.py"]


def test_help_needs_no_jax():
    code = (
        "import sys; from mmjax.cli import main; status = main(['--help']); "
        "heavy = {'jax', 'numpy', 'flax', 'tyro', 'matplotlib'} & set(sys.modules); "
        "sys.exit(f'imports {heavy}' if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m mmjax.cli data list | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_was_closed(stream, trained, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(sys, stream, None)  # as `>&-` leaves it
        assert main(["train", "tiny.py", "--run-dir", "run"]) == 0
        getattr(sys, stream).close()
    assert_same_run(Path("run"), trained)


def test_a_run_whose_output_nobody_reads_goes_on(trained, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as nobody, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", nobody)
        assert main(["train", "tiny.py", "--run-dir", "run"]) == 0
        sys.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            nobody.close()
    assert capsys.readouterr().err.count("Nobody reads the output any more; the run goes on") == 1
    assert_same_run(Path("run"), trained)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_run_whose_output_cannot_be_stored_goes_on(trained, monkeypatch, capsys):
    with open("/dev/full", "w", buffering=1) as full, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", full)
        assert main(["train", "tiny.py", "--run-dir", "run"]) == 0
        sys.stdout.close()
        with contextlib.suppress(OSError):
            full.close()
    said = capsys.readouterr().err
    assert said.count("cannot be written any more (No space left on device); the run goes") == 1
    assert_same_run(Path("run"), trained)


def test_a_signal_in_the_final_evaluation_ends_it(fails, works, trained, monkeypatch, request):
    real = loop.evaluate
    # Under nohup the signal is ignored, which mmjax respects.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))

    def evaluate(evaluators, predictor, splits):
        if splits != ["valid"]:
            signal.raise_signal(signal.SIGHUP)
        return real(evaluators, predictor, splits)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "evaluate", evaluate)
        sentence = fails(1, "train", "tiny.py", "--run-dir", "run")
    assert (
        "Stopped before the end of the final evaluation by SIGHUP; the state is saved" in sentence
    )
    assert not Path("run/result.json").exists()
    works("train", "tiny.py", "--run-dir", "run")
    assert_same_run(Path("run"), trained)


def test_a_platform_that_is_not_there(fails, monkeypatch):
    def devices():
        raise RuntimeError(
            "Unable to initialize backend 'tpu': no libtpu.so. (set JAX_PLATFORMS='')"
        )

    monkeypatch.setattr("jax.devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    sentence = fails(2, "train", "tiny.py", "--run-dir", "run")
    assert "platform 'tpu' that JAX_PLATFORMS names (Unable to initialize backend 'tpu'" in sentence
    assert "unset it to take the devices that are there" in sentence


def test_files_of_a_run_that_somebody_edited(fails, finished):
    result = json.loads((finished / "result.json").read_text())
    result["metrics"]["valid/total_correlation"] = "high"
    (finished / "result.json").write_text(json.dumps(result))
    sentence = fails(1, "train", "tiny.py", "--run-dir", finished)
    assert "result.json is damaged (its metric valid/total_correlation is not a number)" in sentence
    (finished / "result.json").unlink()
    config = json.loads((finished / "config.json").read_text())
    del config["training"]["type"]
    (finished / "config.json").write_text(json.dumps(config))
    assert "Experiment" in fails(2, "evaluate", finished)
    (finished / "config.json").write_text("[" * 100_000)
    assert "config.json is damaged (maximum recursion depth" in fails(1, "evaluate", finished)


def test_a_path_that_is_not_utf_8(fails):
    sentence = fails(2, "train", "tiny.py", "--run-dir", "r\udcfc")
    assert "\\udcfc' has bytes that are not UTF-8" in sentence
    assert "choose another --run-dir" in sentence


def test_bench_objective_prints_a_table_and_writes_it(works):
    words = "bench objective --loss squared_cca barlow_twins --width 3 2 --batch-size 16 --rounds 2"
    out = works(*words.split(), "--json", "speed.json").splitlines()
    assert "jax" in out[0]
    assert "batch 16" in out[1]
    assert [line.split()[:2] for line in out[2:]] == [
        ["squared_cca", "D=3"],
        ["barlow_twins", "D=3"],
        ["squared_cca", "D=2"],
        ["barlow_twins", "D=2"],
    ]
    figures = json.loads(Path("speed.json").read_text())
    assert figures["batch_size"] == 16
    assert figures["environment"]["command"] == f"mmjax {words} --json speed.json"
    assert [row["width"] for row in figures["rows"]] == [3, 3, 2, 2]
    assert all(row["ms"] > 0 and row["products_ms"] > 0 for row in figures["rows"])


def test_version_losses_and_a_part_that_is_no_option(works, fails):
    assert works("--version") == f"mmjax {__version__}\n"
    assert tuple(benchmarks.LOSSES) == cli.LOSSES
    sentence = fails(2, "train", "tiny.py", "--model", "FusionModel")
    assert "--model is a DualEncoder, which the command line cannot replace" in sentence


# The experiment file


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (None, ["bad.py cannot be read (No such file or directory)", "give a Python file"]),
        ("x = (1,\n\ny = 2\n", ["bad.py has a syntax error in line 1"]),
        ("x = 1\nraise KeyError('lost')\n", ["bad.py fails in line 2", "KeyError: 'lost'"]),
        ("import absent_package\n", ["fails in line 1", "No module named 'absent_package'"]),
        ("import sys\nsys.exit()\n", ["bad.py fails in line 2", "SystemExit"]),
        ("x = 1\n", ["bad.py does not define `experiment`", "Experiment(...)"]),
        ("experiment = 'tiny'\n", ["bad.py does not define `experiment`"]),
        ("raise ValueError('two\\nlines')\n", ["ValueError: two lines"]),
        (b"\xff\xfe\x00", ["bad.py cannot be read (it is not UTF-8 text)"]),
        (TINY.replace("objectives=(DCCA(views=views),)", "objectives=()"), ["has no objective"]),
        (TINY.replace('"tiny"', '"tiny/../../x"'), ["'tiny/../../x' cannot name a folder"]),
        (TINY.replace("{view: MLP", "{view[1:]: MLP"), ["no modality 'eft'", "mean 'left'"]),
        (TINY.replace('monitor="total', 'monitro="total'), ["fails in line", "monitro"]),
    ],
)
def test_wrong_experiment_file(fails, text, parts):
    if text is not None:
        Path("bad.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    sentence = fails(2, "train", "bad.py", "--run-dir", "run")
    assert all(part in sentence for part in parts), sentence
    assert not Path("run").exists()


def test_an_experiment_file_may_be_called_as_a_module_is(works):
    """It must not take the place of that module."""
    Path("json.py").write_text(TINY)
    assert "--training.steps" in works("train", "json.py", "--help")
    assert sys.modules["json"] is json


# The raw data


def test_no_data_folder(fails, tmp_path):
    Path("files.py").write_text(FILES + "experiment = halves\n")
    assert "set MMJAX_DATA or --data-dir" in fails(1, "train", "files.py")
    sentence = fails(1, "train", "files.py", "--data-dir", "absent")
    assert "data folder absent (from --data-dir) does not exist" in sentence
    assert "~nobody9" in fails(1, "train", "files.py", "--data-dir", "~nobody9/x")
    Path("empty").mkdir()
    sentence = fails(1, "train", "files.py", "--data-dir", "empty")
    assert "empty does not have mnist/train-images-idx3-ubyte.gz" in sentence
    sentence = fails(1, "data", "verify", "mnist_halves", "--data-dir", "empty")
    assert "4 of 4 files of mnist_halves" in sentence
    assert not Path("runs").exists()


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is not a gzip file"),
        (b"no gzip", "is not a gzip file"),
        (gzip.compress(idx(np.zeros((9, 28, 28))))[:-20], "is cut short"),
        (gzip.compress(idx(np.zeros((9, 28, 28)))[:-20]), "is cut short"),
        (
            gzip.compress(b"\x01" + idx(np.zeros((9, 28, 28)))),
            "is not an idx file (its magic number is 0x01",
        ),
    ],
    ids=["empty", "no gzip", "cut gzip", "cut idx", "magic"],
)
def test_damaged_idx_file(fails, content, part):
    Path("files.py").write_text(FILES + "experiment = halves\n")
    Path("data/mnist").mkdir(parents=True)
    for name in ("images-idx3", "labels-idx1"):
        Path(f"data/mnist/train-{name}-ubyte.gz").write_bytes(content)
    sentence = fails(1, "train", "files.py", "--data-dir", "data")
    assert f"data/mnist/train-images-idx3-ubyte.gz {part}" in sentence
    assert "download the original file again" in sentence
    assert not Path("runs").exists()


@pytest.fixture(scope="module")
def made_up_data(tmp_path_factory):
    """All files that spoken_digits wants for `train`, with nothing worth reading in them."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "mnist").mkdir()
    images, labels = np.zeros((60_000, 28, 28), np.uint8), np.arange(60_000) % 10
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        (folder / f"mnist/train-{name}-ubyte.gz").write_bytes(gzip.compress(idx(array), 1))
    (folder / "fsdd/recordings").mkdir(parents=True)
    for digit in range(10):
        for speaker in SPEAKERS:
            for take in range(50):
                (folder / f"fsdd/recordings/{digit}_{speaker}_{take}.wav").touch()
    return folder


def wav(channels, rate):
    file = io.BytesIO()
    soundfile.write(file, np.zeros((100, channels)), rate, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "is empty (0 bytes)"),
        (b"not at all a WAV", "is not a WAV file"),
        (wav(2, 8_000), "has 2 channels: convert it to mono"),
        (wav(1, 16_000), "has a sample rate of 16000 Hz: resample it to 8000"),
        (wav(1, 8_000)[:-50], "is cut short"),
    ],
    ids=["empty", "no WAV", "stereo", "rate", "cut"],
)
def test_damaged_wav_file(fails, made_up_data, content, part):
    Path("files.py").write_text(FILES + "experiment = digits\n")
    first = made_up_data / "fsdd/recordings/0_george_10.wav"  # the first that `train` reads
    first.write_bytes(content)
    sentence = fails(1, "train", "files.py", "--data-dir", made_up_data)
    assert f"0_george_10.wav {part}" in sentence
    assert not Path("runs").exists()


def test_not_a_number_in_the_data(fails, works):
    bad = """
@dataclasses.dataclass(frozen=True)
class Holed(DigitsHalves):
    def load(self, split, folder=None):
        source = super().load(split, folder)
        if split == "train":
            source.inputs["right"][700, 3] = np.nan
        return source
"""
    text = TINY.replace("\nexperiment =", f"{bad}\n\nexperiment =").replace(
        "=Digits", "=Holed(), #"
    )
    Path("holed.py").write_text(text)
    sentence = fails(1, "train", "holed.py", "--run-dir", "run")
    assert "'right' of the split 'train' of digits_halves has values that are not fin" in sentence
    assert "record 700: set `present` to False" in sentence
    assert not Path("run").exists()
    Path("holed.py").write_text(text.replace("np.nan", "0.5"))
    short = ("--training.steps", "1", "--training.eval-every", "0", "--training.monitor", "")
    works("train", "holed.py", "--run-dir", "run", *short)
    # The run directory names a class that is nobody's but this file's.
    assert "--experiment FILE.py" in fails(2, "evaluate", "run")


# The run directory


def test_the_same_command_again_changes_nothing(works, finished):
    before = contents(finished)
    out = works("train", "tiny.py", "--run-dir", finished)
    assert contents(finished) == before
    for name, value in metrics_of(finished).items():
        assert f"{name}  {value:.4f}" in " ".join(out.split(" ")).replace("   ", "  ")


@pytest.mark.parametrize("form", ["--training.seed 1", "--training.seed=1"])
def test_another_config_is_refused_and_named(fails, finished, form):
    before = contents(finished)
    sentence = fails(2, "train", "tiny.py", "--run-dir", finished, *form.split())
    assert "another config (training.seed: 0 -> 1): choose another directory" in sentence
    assert contents(finished) == before


def test_many_differences_are_counted(fails, finished):
    words = "--training.seed 1 --training.steps 4 --model.width 2 --training.log_every 1"
    sentence = fails(2, "train", "tiny.py", "--run-dir", finished, *words.split())
    assert "and 1 more)" in sentence


def test_what_is_no_run_directory_is_refused(fails):
    Path("thesis").mkdir()
    Path("thesis/chapter.tex").write_text("years of work")
    sentence = fails(2, "train", "tiny.py", "--run-dir", "thesis")
    assert "thesis exists and is not a run directory: choose another with --run-dir" in sentence
    assert os.listdir("thesis") == ["chapter.tex"]
    sentence = fails(2, "train", "tiny.py", "--run-dir", "tiny.py")
    assert "tiny.py exists and is not a run directory" in sentence
    assert Path("tiny.py").read_text() == TINY


def test_a_place_that_cannot_be_written(fails):
    sentence = fails(1, "train", "tiny.py", "--run-dir", "tiny.py/run")
    assert "tiny.py/run cannot be written (Not a directory)" in sentence


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_no_permission(fails):
    Path("locked").mkdir(mode=0o500)
    sentence = fails(1, "train", "tiny.py", "--run-dir", "locked/run")
    assert "locked/run cannot be written (Permission denied)" in sentence


def test_two_processes_in_one_directory(fails, unfinished):
    first = RunDirectory(unfinished)
    first.claim(first.read("config.json"))
    before = contents(unfinished)
    sentence = fails(1, "train", "tiny.py", "--run-dir", unfinished)
    assert "Another process is training in" in sentence
    assert contents(unfinished) == before
    first.release()


def test_damaged_result(fails, works, finished, trained):
    for content in ("", '{"metrics": {', "[]", "{}"):
        (finished / "result.json").write_text(content)
        sentence = fails(1, "train", "tiny.py", "--run-dir", finished)
        assert "result.json is damaged" in sentence
        assert "delete it and run the same command again" in sentence
    (finished / "result.json").unlink()
    works("train", "tiny.py", "--run-dir", finished)
    assert_same_run(finished, trained)


def test_damaged_config(fails, finished):
    for content in ("", '{"type": ', "[]", b"\xff"):
        content = content if isinstance(content, bytes) else content.encode()
        (finished / "config.json").write_bytes(content)
        for words in (("train", "tiny.py", "--run-dir", finished), ("evaluate", finished)):
            assert "config.json is damaged" in fails(1, *words)


@pytest.mark.parametrize(
    "named", ["evil.Dataset", "os.system", "mmjax.Nothing", "mmjax.data.evil.Thing", "mmjax..x"]
)
def test_a_config_names_no_code_to_run(fails, finished, monkeypatch, named):
    Path("evil.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    config = json.loads((finished / "config.json").read_text())
    config["data"]["type"] = named
    (finished / "config.json").write_text(json.dumps(config))
    sentence = fails(2, "evaluate", finished)
    assert f"uses {named!r}, which mmjax does not define" in sentence
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("where", "value", "status", "part"),
    [
        (("training", "steps"), "8", 2, "This version of mmjax cannot make"),
        (("training", "nonsense"), 1, 2, "This version of mmjax cannot make"),
        (("type",), "mmjax.encoders.mlp.MLP", 2, "This version of mmjax cannot make"),
    ],
)
def test_an_edited_config_is_refused(fails, finished, where, value, status, part):
    config = json.loads((finished / "config.json").read_text())
    place = config
    for name in where[:-1]:
        place = place[name]
    place[where[-1]] = value
    (finished / "config.json").write_text(json.dumps(config))
    assert part in fails(status, "evaluate", finished)


def test_a_run_of_an_older_version_is_refused_and_its_report_is_drawn(fails, works, finished):
    noted = json.loads((finished / "environment.json").read_text())
    noted["versions"]["mmjax"] = "0.1.0"
    (finished / "environment.json").write_text(json.dumps(noted))
    before = contents(finished)
    for words in (
        ("evaluate", finished),
        ("train", "tiny.py", "--run-dir", finished),
        ("train", "tiny.py", "--run-dir", finished, "--training.steps", "9"),
        ("ensemble", finished, "another"),
    ):
        sentence = fails(1, *words)
        assert "run was made by mmjax 0.1.0, whose runs this version (" in sentence
        assert sentence.endswith("cannot read: use mmjax 0.1.0, or train it again.")
    assert contents(finished) == before
    works("report", finished)  # which needs neither its config as values nor a checkpoint


# Checkpoints


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(
    fails, works, finished, trained
):
    (finished / "result.json").unlink()
    file = next(path for path in (finished / "checkpoints/8/state/d").iterdir())
    file.write_bytes(file.read_bytes()[:-1])
    with open(finished / "metrics.jsonl", "a") as lines:
        lines.write('{"step": 9, "train/lo')
    for words in (("train", "tiny.py", "--run-dir", finished), ("evaluate", finished)):
        sentence = fails(1, *words)
        assert f"checkpoints/8 is damaged (its file state/d/{file.name} has changed" in sentence
        assert (
            "delete that folder and run the same command again to continue from step 4" in sentence
        )
    shutil.rmtree(finished / "checkpoints" / "8")
    assert "Continuing from the checkpoint of step 4" in works(
        "train", "tiny.py", "--run-dir", finished
    )
    assert_same_run(finished, trained)


# TensorStore's threads tell an event loop of their failures that is closed by then.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_disk_full_while_saving(fails, works, trained, monkeypatch):
    save, saved = Checkpoints.save, []

    def save_with_little_room(self, *arguments):
        """The second time, no file may grow beyond 4 KiB: a real failure of a real write."""
        saved.append(1)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if len(saved) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            save(self, *arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", save_with_little_room)
        sentence = fails(1, "train", "tiny.py", "--run-dir", "run")
    gc.collect()  # what the failed save left, while its warnings are ignored
    assert "checkpoint of step 8 cannot be written to run/checkpoints (file too large;" in sentence
    assert "the last good checkpoint is run/checkpoints/4): free disk space there" in sentence
    assert os.listdir("run/checkpoints") == ["4"]
    assert "Continuing from the checkpoint of step 4" in works(
        "train", "tiny.py", "--run-dir", "run"
    )
    assert_same_run(Path("run"), trained)


def test_a_loss_that_is_not_finite(fails):
    text = TINY.replace("AdamW(learning_rate=1e-2)", "SGD(learning_rate=1e30)")
    Path("steep.py").write_text(text.replace("eval_every=4", "save_every=1"))
    sentence = fails(1, "train", "steep.py", "--run-dir", "run")
    assert "loss of step 2 is not finite, on the records" in sentence
    assert "last good checkpoint: run/checkpoints/1" in sentence
    assert "lower optimizer.learning_rate" in sentence
    records = json.loads(Path("run/not_finite.json").read_text())
    assert records["step"] == 2
    assert len(records["records"]) == 64
    assert not Path("run/result.json").exists()


# Evaluate, report


def test_evaluate_gives_the_numbers_of_the_result(works, trained):
    found = {}
    for split in ("valid", "test"):
        works("evaluate", trained, "--split", split, "--json", "numbers.json")
        found |= json.loads(Path("numbers.json").read_text())
    assert found == metrics_of(trained)


def test_evaluate_on_other_data_and_with_other_metrics(works, fails, trained):
    before = contents(trained)
    words = ("evaluate", trained, "--split", "valid", "--evaluation.0.k", "1", "--json", "one.json")
    works(*words)
    (one,) = json.loads(Path("one.json").read_text()).values()
    assert one < metrics_of(trained)["valid/total_correlation"]
    sentence = fails(2, "evaluate", trained, "--model.encoders.left.width", "3")
    assert "--model.encoders.left.width: " in sentence
    assert "changes a run that is trained already: give options of its data" in sentence
    assert "did you mean --evaluation.0.k?" in fails(
        2, "evaluate", trained, "--evaluation.0.kk", "1"
    )
    assert contents(trained) == before


def test_evaluate_says_that_a_run_is_not_finished(unfinished, capsys):
    assert main(["evaluate", str(unfinished)]) == 0
    assert "run is not finished: what is evaluated is its checkpoint of step 4" in (
        capsys.readouterr().err
    )


def test_evaluate_of_what_is_not_there(fails, finished):
    assert "absent has no config.json" in fails(1, "evaluate", "absent")
    assert "tiny.py has no config.json" in fails(1, "evaluate", "tiny.py")
    sentence = fails(2, "evaluate", finished, "--split", "tset")
    assert "no split of digits_halves 'tset': did you mean 'test'" in sentence
    assert "bad.py cannot be read" in fails(2, "evaluate", finished, "--experiment", "bad.py")
    shutil.rmtree(finished / "checkpoints")
    assert "no checkpoint yet: finish its training with `mmjax train`" in fails(
        1, "evaluate", finished
    )


def test_report_of_what_is_not_there(fails, works, finished):
    for name in ("absent", ".", "tiny.py"):
        assert "config.json" in fails(1, "report", name)
    works("report", finished)
    assert (finished / "report.html").exists()
    (finished / "metrics.jsonl").write_text('{"step": 2}\nrubbish\n{"step": 4}\n')
    assert "metrics.jsonl is damaged (line 2" in fails(1, "report", finished)


# Studies

ROWS = """
from mmjax.studies import Study

study = Study(
    rows={
        "left, right and all": {},
        "ünï ~ code": {"model.encoders.left": MLP(hidden=(4,), width=4), "training.seed": 3},
    },
    columns=("test/total_correlation",),
)
"""


@pytest.mark.slow
def test_rows_may_have_spaces_commas_and_any_letters(works, fails):
    Path("grid.py").write_text(TINY + ROWS)
    words = ("--training.steps", "2", "--training.eval-every", "0", "--run-dir", "my study")
    names = ["left, right and all", "ünï ~ code"]
    out = works("ablate", "grid.py", "--seeds", "1", "--rows", ",".join(names), *words)
    assert "The study is in my study: table.md" in out
    assert all(name in out for name in names)
    files = {"table.md", "table.csv", "results.json", "report.html", "study.json", "lock"}
    assert {path.name for path in Path("my study").iterdir()} == {*names, *files}
    assert Path("my study/ünï ~ code/seed3/result.json").exists()
    study = json.loads(Path("my study/results.json").read_text())
    assert [row["name"] for row in study["rows"]] == names
    assert "'my study'" in study["command"]
    # What is there is not computed again, and a metric that is not there loses nothing.
    before = contents(Path("my study"))
    columns = ("--columns", "test/total_corelation")
    sentence = fails(2, "ablate", "grid.py", "--seeds", "1", *words, *columns)
    assert "did you mean 'test/total_correlation'" in sentence
    after = contents(Path("my study"))
    written = {"results.json", "study.json", "table.md", "table.csv", "report.html"}
    assert {path.name for path in before if after[path] != before[path]} <= written
    works("report", "my study")
    # A study's folder is not taken for another study, nor for a run.
    sentence = fails(2, "ablate", "grid.py", "--name", "other", "--run-dir", "my study")
    assert "my study holds the study 'tiny'" in sentence
    assert "not a run directory" in fails(2, "train", "tiny.py", "--run-dir", "my study")
    works("ledger", ".", "--add", "my study")
    assert "ünï ~ code" in Path("RESULTS.md").read_text()


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ('{"../out": {}}', ["'../out' cannot name a folder"]),
        ('{"a/b": {}}', ["'a/b' cannot name a folder"]),
        ('{"/tmp/out": {}}', ["'/tmp/out' cannot name a folder"]),
        ('{"..": {}}', ["'..' cannot name a folder"]),
        ('{"": {}}', ["'' cannot name a folder"]),
        ('{"a": {"training.stepz": 3}}', ["Row 'a'", "'stepz'", "did you mean 'steps'"]),
        ('{"a": {"training.steps": -1}}', ["Row 'a'", "Training.steps is -1"]),
        ('{"a": {"objectives.7.weight": 1.0}}', ["Row 'a'", "no option '7'"]),
        ('{"a": {"data": 3}}', ["Row 'a'", "data"]),
    ],
)
def test_wrong_rows(fails, rows, parts):
    Path("study").mkdir()
    text = f"{TINY}\nfrom mmjax.studies import Study\n\nstudy = Study(rows={rows})\n"
    Path("study/grid.py").write_text(text)
    sentence = fails(2, "ablate", "study/grid.py", "--run-dir", "study/inside/run")
    assert all(part in sentence for part in parts), sentence
    assert os.listdir("study") == ["grid.py"]  # no path escapes its folder


def test_an_experiment_named_by_dots_stays_in_its_folder(fails):
    sentence = fails(2, "ablate", "tiny.py", "--name", "..", "--run-dir", "study/inside")
    assert "'..' cannot name a folder" in sentence
    assert os.listdir() == ["tiny.py"]


def test_paths_with_spaces_and_any_letters(works):
    folder = Path("ein Ordner/ø 実験")
    folder.mkdir(parents=True)
    shutil.move("tiny.py", folder / "tïny.py")
    run = folder / "run dir"
    words = ("--training.steps=2", "--training.eval_every", "2", "--run-dir", run)
    out = works("train", folder / "tïny.py", *words)
    assert f"`mmjax report '{run}'`" in out
    assert "'ein Ordner" in json.loads((run / "environment.json").read_text())["command"]
    # The underscore, the equals sign and the last of two are as good as their likes.
    again = ("--training.steps", "4", "--training.steps", "2", "--training.eval-every=2")
    assert works("train", folder / "tïny.py", *again, "--run-dir", run).startswith("valid/")
