"""What is prepared once before trainings start together: preprocessed data, and nnU-Net's own split."""

import json
from types import SimpleNamespace

import pytest
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.experiments import preparation
from nnunetv2_gsp.experiments.preparation import due_preprocessing, preprocess, split
from tests.experiments.conftest import DATASET, ID


def plans_with(identifier):
    """Return of plans what names the folder of their data."""
    return {"configurations": {"3d_fullres": {"data_identifier": identifier, "architecture": {}}}}


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / DATASET
    folder.mkdir()
    return folder


def run_python(code=""):
    return ["python", "-c", code]


def test_each_folder_of_data_is_preprocessed_once(dataset):
    plans = {"stock": plans_with("shared"), "ours": plans_with("shared"), "other": plans_with("own")}
    due = due_preprocessing(dataset, plans, "3d_fullres")
    assert list(due) == [dataset / "shared", dataset / "own"]
    for folder, names in ((dataset / "shared", {"stock", "ours"}), (dataset / "own", {"other"})):
        command = due[folder]
        assert command[:3] == ["nnUNetv2_preprocess", "-d", str(ID)]
        assert command[command.index("-plans_name") + 1] in names
        assert command[command.index("-c") + 1] == "3d_fullres"


def test_the_folder_is_that_of_the_configuration_that_inherits_it(dataset):
    plans = plans_with("of the parent")
    plans["configurations"]["large batch"] = {"inherits_from": "3d_fullres", "batch_size": 8}
    assert list(due_preprocessing(dataset, {"stock": plans}, "large batch")) == [dataset / "of the parent"]


def test_only_what_was_finished_is_not_due(dataset):
    folder, plans = dataset / "data", {"stock": plans_with("data")}
    with pytest.raises(InputError, match="python to finish, got exit code 3"):
        preprocess(folder, run_python(f"import os; os.mkdir({str(folder)!r}); raise SystemExit(3)"))
    assert folder.is_dir()
    assert list(due_preprocessing(dataset, plans, "3d_fullres")) == [folder]
    preprocess(folder, run_python())
    assert due_preprocessing(dataset, plans, "3d_fullres") == {}
    assert list(dataset.iterdir()) == [folder]


def test_data_count_as_unfinished_while_they_are_written(dataset, monkeypatch):
    """Or another call, after this one was killed, would train on half of them."""
    plans, due = {"stock": plans_with("data")}, []
    (dataset / "data").mkdir()
    monkeypatch.setattr(
        preparation, "run_to_its_end", lambda _: due.extend(due_preprocessing(dataset, plans, "3d_fullres"))
    )
    preprocess(dataset / "data", [])
    assert due == [dataset / "data"]


def test_the_split_is_nnunets_own(dataset):
    """Where nnU-Net finds none it makes this one."""
    data, file = dataset / "data", dataset / "splits_final.json"
    data.mkdir()
    for case in range(11):
        for ending in (".b2nd", "_seg.b2nd", ".pkl"):
            (data / f"case{case}{ending}").touch()
    split(dataset, plans_with("data"), "3d_fullres")
    ours = json.loads(file.read_text())
    file.unlink()
    trainer = SimpleNamespace(
        fold=0,
        preprocessed_dataset_folder_base=str(dataset),
        preprocessed_dataset_folder=str(data),
        folder_with_segs_from_previous_stage=None,
        dataset_class=infer_dataset_class(str(data)),
        print_to_log_file=lambda *_: None,
    )
    nnUNetTrainer.do_split(trainer)
    assert ours == json.loads(file.read_text())
    assert sorted(case for fold in ours for case in fold["val"]) == sorted(f"case{case}" for case in range(11))


def test_a_split_that_is_there_is_kept(dataset):
    (dataset / "splits_final.json").write_text("of the user")
    split(dataset, plans_with("not even there"), "3d_fullres")
    assert (dataset / "splits_final.json").read_text() == "of the user"
