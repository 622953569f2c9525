from nnunetv2_gsp.progress import progress, progress_bar


def test_every_item_is_given_and_counted(capsys):
    assert list(progress("abc", "scoring", "case", 3)) == ["a", "b", "c"]
    assert "scoring: 100%" in capsys.readouterr().err


def test_a_bar_that_does_not_stay_is_drawn_on_a_terminal_alone(capsys):
    assert list(progress("abc", "scoring", "case", 3, stays=False)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_bar_is_moved_by_hand(capsys):
    with progress_bar("train", "run", 2) as show:
        show(0, "CSC, CCS")
        assert "0/2" in capsys.readouterr().err.rpartition("\r")[2]
        show(1, "CCS")
        drawn = capsys.readouterr().err.rpartition("\r")[2]
    assert "train:  50%" in drawn
    assert drawn.rstrip().endswith(", CCS]")
