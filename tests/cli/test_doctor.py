"""The doctor's exit code, and the line that names what is missing."""

import pytest

from nnunetv2_gsp.nnunet import FOLDERS
from nnunetv2_gsp.plugin import doctor
from tests.cli.commands import exit_code


@pytest.fixture
def environment_in_order(monkeypatch, tmp_path):
    """All that training needs is there; what depends on how we are installed is tested in tests/plugin."""
    for look in ("_startup_line", "_trainer_search"):
        monkeypatch.setattr(doctor, look, lambda: doctor.Finding(True, "in order"))
    monkeypatch.setattr(doctor, "_packages", list)
    for name in FOLDERS:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def test_doctor_exits_with_0_if_all_is_in_order(environment_in_order, capsys):
    assert exit_code("doctor") == 0
    assert "FAIL" not in capsys.readouterr().out


@pytest.mark.parametrize("missing", FOLDERS)
def test_doctor_exits_with_1_and_says_which_folder_is_missing(missing, environment_in_order, capsys):
    (environment_in_order / missing).rmdir()
    assert exit_code("doctor") == 1
    [failing] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert missing in failing
