import pytest

from nnunetv2_gsp.files import whole, write_json, write_text


def test_a_file_is_replaced_at_the_end(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("old")
    with whole(file) as unfinished:
        unfinished.write_text("new")
        assert (file.read_text(), unfinished.suffix) == ("old", ".csv")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert file.read_text() == "new"


def test_a_failure_leaves_what_stood_there(tmp_path):
    file = tmp_path / "plans.json"
    write_json({"a": 1}, file)
    with pytest.raises(TypeError):
        write_json({"a": object()}, file)
    with pytest.raises(UnicodeEncodeError):
        write_text("\ud800", file)
    assert [path.name for path in tmp_path.iterdir()] == ["plans.json"]
    assert file.read_text() == '{\n    "a": 1\n}'
