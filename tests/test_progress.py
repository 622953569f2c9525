import pytest

from nnunetv2_gsp import progress as module
from nnunetv2_gsp.progress import progress, progress_bar


@pytest.fixture
def terminal(capsys, monkeypatch):
    """Return what is on a terminal's screen; each state follows a carriage return."""
    monkeypatch.setattr(module, "_is_terminal", lambda: True)
    return lambda: capsys.readouterr().err


@pytest.fixture
def log(capsys, monkeypatch):
    """Return the lines of a log file; a function sets the clock."""
    clock = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    return lambda: capsys.readouterr().err, lambda seconds: clock.__setitem__(0, seconds)


def test_every_item_is_given_and_counted(terminal):
    assert list(progress("abc", "scoring", "case", 3)) == ["a", "b", "c"]
    assert "scoring: 100%" in terminal()


def test_a_bar_that_does_not_stay_is_drawn_on_a_terminal_alone(capsys):
    assert list(progress("abc", "scoring", "case", 3, stays=False)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_bar_is_moved_by_hand(terminal):
    with progress_bar("train", "run", 2) as show:
        show(0, "CSC, CCS")
        assert "0/2" in terminal().rpartition("\r")[2]
        show(1, "CCS")
        drawn = terminal().rpartition("\r")[2]
    assert "train:  50%" in drawn
    assert drawn.rstrip().endswith(", CCS]")


def test_a_log_gets_the_first_state_one_a_minute_and_the_last(log):
    read, set_clock = log
    with progress_bar("predicting", "case", 4) as show:
        for second in range(0, 151, 10):
            set_clock(1000 + second)
            show(second // 50, f"window {second}")
    text = read()
    assert "\r" not in text
    assert text.endswith("\n")
    lines = text.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "predicting: 0 of 4",
        "predicting: 1 of 4",
        "predicting: 2 of 4",
        "predicting: 3 of 4",
    ]
    assert [line.rpartition(", ")[2] for line in lines[1:]] == ["window 60", "window 120", "window 150"]


def test_a_log_of_items_has_a_line_for_the_beginning_and_one_for_the_end(log):
    read, _ = log
    assert list(progress("abc", "scoring", "case", 3)) == ["a", "b", "c"]
    assert [line.partition(",")[0] for line in read().splitlines()] == ["scoring: 0 of 3", "scoring: 3 of 3"]


def test_nothing_is_shown_where_nobody_wants_it(capsys):
    with progress_bar("train", "run", 2, is_shown=False) as show:
        show(1, "CSC")
    assert capsys.readouterr().err == ""
