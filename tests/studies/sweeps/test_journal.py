import sys

import pytest
from sweep_fakes import SWEEP, run

from mmjax.errors import ConfigError, RunError
from mmjax.studies.sweeps.journal import Journal, TrialState
from mmjax.studies.sweeps.sweep import Choice, Integers, LogUniform, Sweep, Uniform


@pytest.fixture
def sweep_dir(tmp_path):
    run(tmp_path / "s", 6)
    return tmp_path / "s"


def values(journal):
    return [(trial.state, trial.value, trial.params) for trial in journal.trials()]


@pytest.mark.parametrize("torn", ['{"op_co', '{"op_code":6,"trial_id":0,"state":1}', "\0\0\0"])
def test_half_a_line_at_the_end_is_cut_off_and_kept(sweep_dir, capsys, torn):
    path = sweep_dir / "journal.log"
    whole = path.read_bytes()
    before = values(Journal(path, SWEEP))
    path.write_bytes(whole + torn.encode())
    journal = Journal(path, SWEEP)
    assert path.read_bytes() == whole
    assert (sweep_dir / "journal.log.torn-1").read_bytes() == torn.encode()
    assert "is cut off" in capsys.readouterr().out
    assert values(journal) == before
    assert len(run(sweep_dir, 8).trials()) == 8


def test_half_a_line_of_another_worker_is_cut_off_before_the_next_line(sweep_dir):
    # The other worker died while this one had the journal open already.
    path = sweep_dir / "journal.log"
    journal = Journal(path, SWEEP)
    for number in (1, 2):
        with open(path, "ab") as file:
            file.write(b'{"op_code":4,"work')
        journal.begin(journal.suggest())
        journal.end(5 + number, TrialState.COMPLETE, 0.25)
        assert (sweep_dir / f"journal.log.torn-{number}").read_bytes() == b'{"op_code":4,"work'
    assert values(Journal(path, SWEEP)) == values(journal)
    assert [trial.value for trial in journal.trials()[6:]] == [0.25, 0.25]


def test_a_trial_is_noted_as_a_whole_or_not_at_all(sweep_dir):
    # However many bytes of the journal are left, every trial in it has all its parameters.
    path = sweep_dir / "journal.log"
    whole = path.read_bytes()
    for end in range(len(whole) - 900, len(whole), 37):
        path.write_bytes(whole[:end])
        for trial in Journal(path, SWEEP).trials():
            assert trial.params.keys() == SWEEP.space.keys()


@pytest.mark.parametrize("line", [0, 3, -1])
@pytest.mark.parametrize("damage", [b'{"op_code":6,{"op_code":6}', b"7", b"\xff\xfe"])
def test_damage_before_the_end_is_told_with_its_line(sweep_dir, line, damage):
    path = sweep_dir / "journal.log"
    lines = path.read_bytes().splitlines()
    lines[line] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    number = range(1, len(lines) + 1)[line]
    with pytest.raises(RunError, match=rf"journal\.log is damaged in line {number}: restore"):
        Journal(path, SWEEP)


@pytest.mark.parametrize(
    ("whole", "damage"),
    [
        (b'"trial_id"', b'"trial_od"'),
        (b'"intermediate_value"', b'"intermediate_valve"'),
        (b"FloatDistribution", b"FloutDistribution"),
        (b"optimizer.learning_rate", b"optimizer.learning_rote"),
    ],
)
def test_damage_within_a_line_is_told(sweep_dir, whole, damage):
    path = sweep_dir / "journal.log"
    path.write_bytes(path.read_bytes().replace(whole, damage))
    with pytest.raises(RunError, match=r"journal\.log is damaged \(.*\): restore"):
        Journal(path, SWEEP)


def test_damage_that_comes_later_is_told_too(sweep_dir):
    path = sweep_dir / "journal.log"
    journal = Journal(path, SWEEP)
    with open(path, "ab") as file:
        file.write(b'not json\n{"op_code":6,"trial_id":0,"state":1}\n')
    with pytest.raises(RunError, match="damaged in line"):
        journal.trials()


def test_a_full_disk_is_a_sentence(sweep_dir, monkeypatch):
    journal = Journal(sweep_dir / "journal.log", SWEEP)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"journal\.log cannot be written \(No space left"):
        journal.begin(journal.suggest())


def test_suggestions_lie_in_their_ranges_and_can_be_made_again(tmp_path):
    space = {
        "a": Uniform(-1.0, 1.0),
        "b": LogUniform(1e-4, 1e-2),
        "c": Integers(4, 32, log=True),
        "d": Choice({"x": 1, "y": 2}),
    }
    sweep = Sweep(space, "accuracy")
    journal = Journal(tmp_path / "j.log", sweep)
    for number in range(20):
        suggested = journal.suggest()
        assert suggested == journal.suggest()
        assert -1 <= suggested["a"] <= 1
        assert 1e-4 <= suggested["b"] <= 1e-2
        assert isinstance(suggested["c"], int)
        assert 4 <= suggested["c"] <= 32
        assert suggested["d"] in "xy"
        journal.begin(suggested)
        journal.end(number, TrialState.COMPLETE, suggested["a"])
    trials = journal.trials()
    assert len({trial.params["a"] for trial in trials}) == 20
    assert journal.best().value == max(trial.value for trial in trials)
    later = [trial.params["a"] for trial in trials[10:]]
    assert sum(later) / 10 > 0.2  # it has learnt where the large values are


def test_importance_finds_the_parameter_that_matters(tmp_path):
    journal = run(tmp_path / "s", 9)
    assert journal.importance(10) == {}  # too few to tell
    journal = run(tmp_path / "t", 25, Sweep(SWEEP.space, "accuracy", pruning=False))
    shares = journal.importance(10)
    assert list(shares) == [*SWEEP.space]  # the fusion does nothing at all
    assert shares["optimizer.learning_rate"] > 0.75
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert shares == journal.importance(10)


def test_importance_of_equal_values_cannot_be_told(tmp_path):
    journal = Journal(tmp_path / "j.log", SWEEP)
    for number in range(12):
        journal.begin(journal.suggest())
        journal.end(number, TrialState.COMPLETE, 0.5)
    assert journal.importance(10) == {}


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "mmjax.studies.sweeps.journal")
    monkeypatch.delitem(sys.modules, "mmjax.studies.sweeps.search", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'mmjax\[sweep\]'"):
        import mmjax.studies.sweeps.journal  # noqa: F401
