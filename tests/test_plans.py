import json
from copy import deepcopy

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_gsp.architectures.from_plans import GSP_NETWORK, gsp_architecture
from nnunetv2_gsp.cli import main
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.plans import gsp_plans, write_gsp_plans
from tests.architectures.networks import isotropic, stock_architecture

DATASET = "Dataset904_Plans"


def stock_plans():
    """Return plans with a 2d configuration, a fullres one and the cascade that inherits from it."""
    return {"dataset_name": DATASET, "plans_name": "nnUNetPlans", "configurations": {
        "2d": {"data_identifier": "nnUNetPlans_2d", "patch_size": [32, 64],
               "architecture": stock_architecture((16, 32, 64), isotropic(3, dim=2))},
        "3d_fullres": {"data_identifier": "nnUNetPlans_3d_fullres", "patch_size": [16, 32, 32],
                       "architecture": stock_architecture((16, 32, 64), isotropic(3), "residual")},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }}


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """Write stock plans into an nnUNet_preprocessed of its own; returns the dataset's folder."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
    folder = tmp_path / "nnUNet_preprocessed" / DATASET
    folder.mkdir(parents=True)
    (folder / "nnUNetPlans.json").write_text(json.dumps(stock_plans()))
    return folder


def test_every_configuration_names_a_resolved_gsp_network_and_nothing_else_changes():
    before = stock_plans()
    plans = gsp_plans(before, "mine")
    assert before == stock_plans()
    assert plans["plans_name"] == "mine"
    for name in before["configurations"]:
        ours, stock = (dict(PlansManager(deepcopy(p)).get_configuration(name).configuration) for p in (plans, before))
        assert ours.pop("architecture") == gsp_architecture(stock.pop("architecture"), stock["patch_size"])
        assert ours == stock
    assert gsp_plans(plans, "mine") == plans


def test_written_beside_the_stock_plans_by_id_or_name(planned):
    assert write_gsp_plans("904") == planned / "nnUNetGSPPlans.json"
    write_gsp_plans(DATASET, output_name="other")
    plans = json.loads((planned / "other.json").read_text())
    assert plans["plans_name"] == "other"
    assert plans["configurations"]["2d"]["architecture"]["network_class_name"] == GSP_NETWORK
    assert json.loads((planned / "nnUNetPlans.json").read_text()) == stock_plans()
    assert sorted(file.name for file in planned.iterdir()) == ["nnUNetGSPPlans.json", "nnUNetPlans.json", "other.json"]


def test_existing_plans_are_replaced_only_on_request(planned):
    target = write_gsp_plans("904")
    target.write_text("mine")
    with pytest.raises(InputError, match="--overwrite"):
        write_gsp_plans("904")
    assert target.read_text() == "mine"
    write_gsp_plans("904", overwrite=True)
    assert json.loads(target.read_text())["plans_name"] == "nnUNetGSPPlans"
    with pytest.raises(InputError, match="not replaced"):
        write_gsp_plans("904", output_name="nnUNetPlans", overwrite=True)


def test_the_verb(planned, capsys):
    with pytest.raises(SystemExit) as exited:
        main(["plan", "-d", "904", "-p", "nnUNetPlans", "-o", "mine"])
    assert exited.value.code == 0
    assert json.loads((planned / "mine.json").read_text())["plans_name"] == "mine"
    assert "-p mine" in capsys.readouterr().out


@pytest.mark.parametrize(("dataset", "plans_name", "message"), [
    ("905", "nnUNetPlans", "name or id of a dataset .* got 905"),
    ("liver", "nnUNetPlans", "name or id of a dataset .* got liver"),
    ("Dataset905_Liver", "nnUNetPlans", "found no such folder; run nnUNetv2_plan_and_preprocess"),
    ("904", "nnUNetResEncUNetPlans", "found no such file"),
])
def test_what_is_missing_is_named(planned, dataset, plans_name, message):
    with pytest.raises(InputError, match=message):
        write_gsp_plans(dataset, plans_name)
    assert [file.name for file in planned.iterdir()] == ["nnUNetPlans.json"]


def test_a_missing_folder_variable_is_named(planned, monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(InputError, match="nnUNet_preprocessed is not set"):
        write_gsp_plans("904")


def test_a_patch_that_strides_do_not_divide_is_named_and_nothing_written(planned):
    plans = stock_plans()
    plans["configurations"]["2d"]["patch_size"] = [30, 64]
    (planned / "nnUNetPlans.json").write_text(json.dumps(plans))
    with pytest.raises(InputError, match=r"Configuration 2d: The strides must divide the patch"):
        write_gsp_plans("904")
    assert [file.name for file in planned.iterdir()] == ["nnUNetPlans.json"]
