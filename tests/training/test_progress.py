"""The lines that a run prints where there is no terminal."""

from mmjax.training import progress


def test_at_most_one_line_per_second_and_the_last_step(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reporter = progress.Reporter("mine", steps=100, done=0)
    for step in range(10, 101, 10):
        now[0] += 0.4
        reporter.step(step, 0.5, 1000.0)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["10/100", "40/100", "70/100", "100/100"]
    assert lines[-1] == "mine: step 100/100  loss 0.5  1,000 examples/s"
