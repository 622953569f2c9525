"""nnU-Net's folders and commands as the environment has them."""

import logging
import os

import pytest

from nnunetv2_gsp.errors import ConflictingInputError, InputError, MissingInputError, UnavailableError
from nnunetv2_gsp.nnunet import (
    channel_names,
    dataset_name,
    environment_with,
    find_trainer,
    folds_with,
    nnunet_folder,
    preprocess_command,
    run_command,
    run_to_its_end,
    script,
)


def test_a_command_is_logged_and_its_exit_code_returned(caplog):
    caplog.set_level(logging.INFO)
    assert run_command(["python", "-c", "raise SystemExit(3)"]) == 3
    assert caplog.messages == ["$ python -c 'raise SystemExit(3)'\n"]


def test_a_command_that_fails_is_one_sentence():
    run_to_its_end(["python", "-c", ""])
    with pytest.raises(InputError, match="Expected python to finish, got exit code 3; mend what it says above"):
        run_to_its_end(["python", "-c", "raise SystemExit(3)"])


def test_a_command_that_is_not_there_is_told():
    with pytest.raises(UnavailableError, match=r"nnUNetv2_of_nobody .* got none; run: pip install nnunetv2"):
        script("nnUNetv2_of_nobody")


def test_variables_are_as_before_even_after_a_failure(monkeypatch):
    monkeypatch.setenv("nnUNet_raw", "before")
    monkeypatch.delenv("nnUNet_results", raising=False)

    def fail():
        assert (os.environ["nnUNet_raw"], os.environ["nnUNet_results"]) == ("within", "new")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), environment_with({"nnUNet_raw": "within", "nnUNet_results": "new"}):
        fail()
    assert os.environ["nnUNet_raw"] == "before"
    assert "nnUNet_results" not in os.environ


@pytest.mark.parametrize("value", [None, ""])
def test_a_folder_that_no_variable_names_is_told(value, monkeypatch):
    monkeypatch.delenv("nnUNet_results", raising=False)
    if value is not None:
        monkeypatch.setenv("nnUNet_results", value)
    with pytest.raises(MissingInputError, match="export nnUNet_results="):
        nnunet_folder("nnUNet_results")


def test_a_folder_must_be_there_only_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "new"))
    assert nnunet_folder("nnUNet_results") == tmp_path / "new"
    with pytest.raises(MissingInputError, match="new: expected the folder that nnUNet_results names, got none"):
        nnunet_folder("nnUNet_results", must_exist=True)


def test_nnunets_own_command_takes_the_id_alone():
    assert preprocess_command("Dataset004_Hippocampus", "nnUNetPlans", "2d")[:3] == ["nnUNetv2_preprocess", "-d", "4"]


@pytest.mark.parametrize("name", ["nnUNetTrainerOfNobody", "join", "nnUNetDataLoader"])  # nothing, no class, no trainer
def test_a_trainer_that_is_none_is_told(name, capsys):
    with pytest.raises(MissingInputError, match=f"a trainer that nnU-Net finds here, got {name}; .* nnUNet_extTrainer"):
        find_trainer(name)
    assert capsys.readouterr().out == ""


def test_what_is_wrong_with_a_users_own_trainer_is_not_taken_for_a_missing_one(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text("raise RuntimeError('their own mistake')\n")
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    with pytest.raises(RuntimeError, match="their own mistake"):
        find_trainer("nnUNetTrainerOfNobody")


@pytest.mark.parametrize("given", ["905", "liver", "DatasetX", "Dataset_Hippo", "Dataset04_Hippo"])
def test_what_is_no_dataset_of_nnunet_is_one_sentence(given, tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    with pytest.raises(
        MissingInputError, match=rf"the id of a dataset .*nnUNet_raw is {tmp_path}.* got {given}; change"
    ):
        dataset_name(given)


def test_two_datasets_with_one_id_are_told_apart(tmp_path, monkeypatch):
    for variable, name in (("nnUNet_raw", "Dataset904_A"), ("nnUNet_results", "Dataset904_B")):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        (tmp_path / variable / name).mkdir(parents=True)
    with pytest.raises(ConflictingInputError, match=r"one dataset with id 904 .* got Dataset904_A and Dataset904_B"):
        dataset_name("904")
    assert dataset_name("Dataset904_B") == "Dataset904_B"


def test_a_dataset_may_have_more_than_three_digits(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path))
    (tmp_path / "Dataset1234_A").mkdir()
    assert dataset_name("1234") == dataset_name("Dataset1234_A") == "Dataset1234_A"


def test_channels_without_numbers_are_in_the_files_order():
    assert channel_names({"channel_names": {"T2": "b", "T1": "a"}}) == ["b", "a"]
    assert channel_names({"channel_names": {"10": "c", "2": "b"}}) == ["b", "c"]


def test_folds_are_those_that_have_the_very_file(tmp_path):
    for name in ("fold_0/a.pth", "fold_all/a.pth", "fold_1/b[1].pth", "fold_/a.pth", "fold_x/a.pth"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert folds_with("a.pth", tmp_path) == ["0", "all"]
    assert folds_with("b[1].pth", tmp_path) == ["1"]
    assert folds_with("*.pth", tmp_path) == []
