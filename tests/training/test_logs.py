"""Logs lose nothing and tell nothing twice."""

import sys
import types

import pytest
import trainee
from rich.console import Console

from slipstream.errors import StoreError
from slipstream.training import logs
from slipstream.training.logs import Board, Log, Screen, duration, line


def test_a_log_is_read_back_as_it_was_written(tmp_path):
    log = Log(tmp_path / "log.csv")
    rows = [{"step": s, "seconds": s / 3, "total": 0.1 * s} for s in (1, 2, 3)]
    for row in rows:
        log.append(row)
    assert Log(tmp_path / "log.csv", after=3).rows == rows
    assert (tmp_path / "log.csv").read_text().count("step") == 1


def test_rows_after_the_checkpoint_are_cut_and_the_rest_goes_on(tmp_path):
    log = Log(tmp_path / "log.csv")
    for s in range(1, 6):
        log.append({"step": s, "total": float(s)})
    again = Log(tmp_path / "log.csv", after=3)
    again.append({"step": 4, "total": 40.0})
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines == ["step,total", "1,1.0", "2,2.0", "3,3.0", "4,40.0"]


def test_a_new_name_widens_the_table_and_missing_values_stay_empty(tmp_path):
    log = Log(tmp_path / "log.csv")
    log.append({"step": 1, "total": 1.0})
    log.append({"step": 2, "total": 2.0, "error": 0.5})
    log.append({"step": 3, "total": 3.0})
    assert (tmp_path / "log.csv").read_text().splitlines() == ["step,total,error", "1,1.0,", "2,2.0,0.5", "3,3.0,"]
    assert Log(tmp_path / "log.csv", after=3).rows == log.rows


def test_half_a_line_of_a_killed_process_is_dropped(tmp_path):
    (tmp_path / "log.csv").write_text("step,total\n1,1.0\n2,2.")
    assert Log(tmp_path / "log.csv", after=9).rows == [{"step": 1, "total": 1.0}]
    assert (tmp_path / "log.csv").read_text() == "step,total\n1,1.0\n"


def test_another_file_of_that_name_is_not_overwritten(tmp_path):
    (tmp_path / "log.csv").write_text("time,message\n12:00,hello\n")
    with pytest.raises(StoreError, match="no log of a training"):
        Log(tmp_path / "log.csv")
    assert "hello" in (tmp_path / "log.csv").read_text()


def test_tensorboard_gets_every_figure_and_purges_what_is_done_again(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder, purge_step):
            written.append((folder, purge_step))

        def add_scalar(self, *scalar):
            written.append(scalar)

        def close(self):
            written.append("closed")

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(logs, "find_spec", lambda name: object())
    trainee.loop.train(
        trainee.Net(), trainee.Pool(), trainee.Rotate(), steps=4, log_every=2, folder=tmp_path, show=False
    )
    assert written[0] == (str(tmp_path / "tensorboard"), 1)
    assert [(s[0], s[2]) for s in written[1:-1]] == [
        (name, step) for step in (2, 4) for name in ("seconds", "rate", "total", "error", "size", "gradient_norm")
    ]
    assert written[-1] == "closed"


def test_without_tensorboard_or_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "find_spec", lambda name: None)
    Board(tmp_path).append({"step": 1, "total": 1.0})
    Board(None).close()
    assert list(tmp_path.iterdir()) == []


def test_plain_lines_come_a_twentieth_apart(capsys):
    screen = Screen(show=True)
    for step in range(1, 401):
        screen.update(step / 400, step, float(step), 0.5, 0.25)
    screen.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 21
    assert lines[0].split() == ["0%", "step", "1", "loss", "0.25", "rate", "0.5", "0:01", "done,", "6:39", "left"]
    assert lines[10].split()[:3] == ["50%", "step", "200"]


def test_a_terminal_gets_a_bar_with_loss_rate_and_time_left(monkeypatch, capsys):
    terminal = Console(force_terminal=True, width=120)
    monkeypatch.setattr("rich.console.Console", lambda: terminal)
    screen = Screen(show=True)
    screen.update(0.25, 100, 60.0, 0.5, 0.0125)
    screen.say("[a] sentence")
    screen.close()
    out = capsys.readouterr().out
    assert "━" in out
    assert "step 100  loss 0.0125  rate 0.5  1:00 done, 3:00 left" in out
    assert "[a] sentence" in out


def test_silence_when_asked(capsys):
    screen = Screen(show=False)
    screen.update(0.5, 1, 1.0, 1.0, 1.0)
    screen.say("x")
    screen.close()
    assert capsys.readouterr().out == ""


def test_times_are_readable():
    assert [duration(s) for s in (0, 59.2, 125, 3725)] == ["0:00", "1:00", "2:05", "1:02:05"]
    assert line(0.0, 0, 0.0, 1.0, 1.0).endswith("? left")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"step,total\n1,x\n", b"total\n1.0\n"])
def test_a_file_that_is_no_log_is_refused(tmp_path, content):
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(StoreError, match=r"log\.csv .* Move it away to go on"):
        Log(tmp_path / "log.csv")
    assert (tmp_path / "log.csv").read_bytes() == content


def test_a_disk_that_fails_is_one_error_that_says_what_to_do(tmp_path):
    log = Log(tmp_path / "log.csv")
    log.append({"step": 1, "total": 1.0})
    (tmp_path / "log.csv").unlink()
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(StoreError, match=r"Could not write .*log\.csv: Is a directory.*then make the same call again"):
        log.append({"step": 2, "total": 1.0})
    with pytest.raises(StoreError, match=r"Could not write .*log\.csv: Is a directory"):
        log.sync()
