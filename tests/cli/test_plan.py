"""`plan`: from the arguments to plans beside the dataset's own, and one sentence for what does not fit."""

import json

import pytest

from tests.cli.commands import exit_code
from tests.planned_dataset import effective, stock_plans


def preprocessed_by(command, monkeypatch):
    """Give a command line to nnU-Net's own parser; returns the dataset, the plans and the configurations it takes."""
    from nnunetv2.experiment_planning import plan_and_preprocess_entrypoints

    taken = []
    monkeypatch.setattr(
        plan_and_preprocess_entrypoints,
        "preprocess",
        lambda *positional, **by_name: taken.extend([*positional, by_name]),
    )
    monkeypatch.setattr("sys.argv", command.split())
    plan_and_preprocess_entrypoints.preprocess_entry()
    [dataset_id], plans_name, by_name = taken
    return dataset_id, plans_name, by_name["configurations"]


def test_what_is_written_and_shown(planned, capsys, monkeypatch):
    assert (
        exit_code(
            "plan",
            "-d",
            "904",
            "-p",
            "nnUNetPlans",
            "-c",
            "3d_fullres",
            "--name",
            "mine",
            "--template",
            "brats18_csc",
            "--set",
            "shift_position=CCS",
            "local_shift_ratio=.25",
            "--set",
            "patch_size=[32,32,32]",
        )
        == 0
    )
    plans = json.loads((planned / "mine.json").read_text())
    assert plans["plans_name"] == "mine"
    assert list(plans["configurations"]) == ["3d_fullres"]
    kwargs = effective(plans, "3d_fullres")["architecture"]["arch_kwargs"]
    assert (kwargs["shift_position"], kwargs["local_shift_channels"]) == ("CCS", [0, 6, 12, 30, 60])
    printed = capsys.readouterr().out
    assert "-p mine" in printed
    assert "Stage 4: 5×5×5 groups were asked for, 2×2×2 divide the map of 2×2×2 voxels" in printed
    [command] = [line.split(": ", 1)[1] for line in printed.splitlines() if "nnUNetv2_preprocess" in line]
    assert preprocessed_by(command, monkeypatch) == (904, "mine", ["3d_fullres"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", "shift_ration=1"],
        ["--template", "brats18"],
        ["-c", "4d"],
        ["--set", "shift_position=SCS"],
        ["--set", "shift_ratio=2"],
        ["--set", "shift_ratio=1", "shift_ratio=0"],
        ["-p", "dataset"],
        ["-p", "broken"],
        ["-p", "circular"],
    ],
)
def test_a_mistake_ends_in_a_sentence_and_nothing_is_written(arguments, planned):
    (planned / "dataset.json").write_text("{}")
    (planned / "broken.json").write_text("{")
    circular = {**stock_plans(), "configurations": {"a": {"inherits_from": "b"}, "b": {"inherits_from": "a"}}}
    (planned / "circular.json").write_text(json.dumps(circular))
    before = sorted(planned.iterdir())
    sentence = exit_code("plan", "-d", "904", *arguments)
    assert sentence.startswith("nnUNetv2_gsp plan: ")
    assert "\n" not in sentence
    assert sorted(planned.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["-p", "nowhere"], "run nnUNetv2_plan_and_preprocess -d 904, or name other plans with -p."),
        (["-c", "4d"], "choose configurations with -c."),
        (["--template", "brats18"], "choose another template with --template (nnUNetv2_gsp templates lists them)."),
        (["--set", "shift_ration=1"], "change --set."),
        (["--name", "a__b"], "choose another name with --name."),
        (["--name", "nnUNetPlans", "--overwrite"], "choose another name with --name."),
    ],
)
def test_the_sentence_names_the_flag_that_mends_it(arguments, hint, planned):
    assert exit_code("plan", "-d", "904", *arguments).endswith(hint)


def test_plans_of_that_name_are_replaced_on_request(planned):
    assert exit_code("plan", "-d", "904") == 0
    assert exit_code("plan", "-d", "904").endswith(
        "nnUNetGSPPlans.json exists and is not replaced; choose another name with --name, or replace it with "
        "--overwrite."
    )
    assert exit_code("plan", "-d", "904", "--set", "shift_ratio=1", "--overwrite") == 0
    assert json.loads((planned / "nnUNetGSPPlans.json").read_text())["gsp_template"]["settings"] == {"shift_ratio": 1}
