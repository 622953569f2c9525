import json

import pytest
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunetv2_gsp.architectures.from_plans import GSP_NETWORK, gsp_architecture
from nnunetv2_gsp.errors import InputError, TargetExistsError
from nnunetv2_gsp.plans import gsp_plans, load_dataset_json, summary, write_gsp_plans
from nnunetv2_gsp.plans_templates import load_template
from tests.planned_dataset import DATASET, effective, stock_plans


def test_every_configuration_names_a_resolved_gsp_network_and_nothing_else_changes():
    before = stock_plans()
    plans = gsp_plans(before, "mine", load_template("default"))
    assert before == stock_plans()
    assert plans["plans_name"] == "mine"
    assert list(plans["configurations"]) == list(before["configurations"])
    for name in before["configurations"]:
        gsp, stock = effective(plans, name), effective(before, name)
        assert gsp.pop("architecture") == gsp_architecture(stock.pop("architecture"), stock["patch_size"])
        assert PlansManager(plans).get_configuration(name).next_stage_names == (
            PlansManager(before).get_configuration(name).next_stage_names
        )
        for key in ("next_stage", "inherits_from"):
            gsp.pop(key, None), stock.pop(key, None)
        assert gsp == stock


def test_a_template_of_the_paper_replaces_the_topology():
    plans = gsp_plans(stock_plans(), "mine", load_template("brats18_csc_dec"))
    assert list(plans["configurations"]) == ["3d_lowres", "3d_fullres", "3d_cascade_fullres"]  # it has three axes
    for name in plans["configurations"]:
        configuration = effective(plans, name)
        kwargs = configuration["architecture"]["arch_kwargs"]
        assert configuration["patch_size"] == [64, 128, 128]
        assert configuration["batch_size"] == 4
        assert kwargs["features_per_stage"] == [16, 32, 64, 128, 256]
        assert kwargs["n_stages"] == len(kwargs["strides"]) == len(kwargs["kernel_sizes"]) == 5
        assert kwargs["n_conv_per_stage"] == [2] * 5
        assert kwargs["n_conv_per_stage_decoder"] == [2] * 4
        assert "n_blocks_per_stage" not in kwargs
        # (5, 5, 5) does not divide the 4×8×8 map
        assert kwargs["spatial_groups"] == [[2, 2, 2], [2, 2, 2], [2, 2, 2], [4, 4, 4], [4, 4, 4]]
        assert kwargs["shift_channels"] == [8, 16, 32, 64, 128]
        assert (kwargs["shift_position"], kwargs["shift_location"]) == ("CSC", "decoder")
    assert plans["gsp_template"]["settings"]["spatial_groups"][-1] == [5, 5, 5]


def test_other_normalisation_means_other_data_and_templates_share_them():
    plans = [gsp_plans(stock_plans(), "mine", load_template(name)) for name in ("brats18_csc", "promise12_prosgv1")]
    for each in plans:
        assert effective(each, "3d_fullres")["use_mask_for_norm"] == [True, True]
        assert effective(each, "3d_fullres")["data_identifier"] == "nnUNetPlans_3d_fullres_masked_norm"
        assert effective(each, "3d_cascade_fullres")["data_identifier"] == "nnUNetPlans_3d_fullres_masked_norm"
        assert effective(each, "3d_lowres")["data_identifier"] == "nnUNetPlans_3d_lowres_masked_norm"
    masked = stock_plans()
    masked["configurations"]["3d_fullres"]["use_mask_for_norm"] = [True, True]
    same = gsp_plans(masked, "mine", load_template("brats18_csc"))
    assert effective(same, "3d_fullres")["data_identifier"] == "nnUNetPlans_3d_fullres"


@pytest.mark.parametrize(("planned", "added"), [([True, False], "_unmasked_norm"), ([False, False], "")])
def test_normalisation_without_the_mask_means_other_data_unless_it_was_planned_so(planned, added):
    stock = stock_plans()
    stock["configurations"]["3d_fullres"]["use_mask_for_norm"] = planned
    plans = gsp_plans(stock, "mine", load_template("default", {"use_mask_for_norm": False}), ["3d_fullres"])
    unmasked = effective(plans, "3d_fullres")
    assert unmasked["use_mask_for_norm"] == [False, False]
    assert unmasked["data_identifier"] == f"nnUNetPlans_3d_fullres{added}"


def test_widths_are_multiples_of_the_planned_ones_and_stages_share_groups():
    settings = {"width_multiplier": 1.4, "spatial_groups": [2, 2, 2]}
    plans = gsp_plans(stock_plans(), "mine", load_template("default", settings), ["3d_fullres"])
    network = effective(plans, "3d_fullres")["architecture"]["arch_kwargs"]
    assert network["features_per_stage"] == [24, 48, 88]  # 22.4, 44.8 and 89.6
    assert network["spatial_groups"] == [[2, 2, 2]] * 3
    halved = gsp_plans(stock_plans(), "mine", load_template("default", {"width_multiplier": 0.1}), ["2d"])
    assert effective(halved, "2d")["architecture"]["arch_kwargs"]["features_per_stage"] == [8, 8, 8]


def test_chosen_configurations_stand_for_themselves_and_a_cascade_comes_with_its_first_stage():
    def configurations(*chosen):
        return gsp_plans(stock_plans(), "mine", load_template("default"), chosen)["configurations"]

    assert list(configurations("2d")) == ["2d"]
    assert list(configurations("3d_cascade_fullres")) == ["3d_lowres", "3d_cascade_fullres"]
    assert configurations("3d_cascade_fullres")["3d_lowres"]["next_stage"] == ["3d_cascade_fullres"]
    alone = configurations("3d_lowres")
    assert list(alone) == ["3d_lowres"]
    assert "next_stage" not in alone["3d_lowres"]  # nnU-Net would look for it after the training


@pytest.mark.parametrize(
    ("template", "overrides", "configurations", "message"),
    [
        ("brats18_csc", {}, ["2d"], "Configuration 2d: template brats18_csc is made for 3 axes, these plans have 2"),
        ("default", {}, ["3d"], r"Expected configurations of these plans \(2d, 3d_lowres, .*got 3d"),
        (
            "default",
            {"spatial_groups": [[2, 2, 2]] * 2},
            None,
            "spatial_groups must have one entry a stage, 3 here, got",
        ),
        ("default", {"spatial_groups": []}, None, r"spatial_groups must have one entry a stage, 3 here, got \[\]"),
        ("default", {"features_per_stage": [16, 32]}, None, "strides must have one entry a stage, 2 here, got"),
        (
            "default",
            {"features_per_stage": [16, 32, 64, 64], "strides": [[1] * 3] * 4},
            None,
            "n_conv_per_stage must have one entry a stage, 4 here, got",
        ),
        ("default", {"strides": [[1, 1], [2, 2], [2, 2]]}, ["3d_fullres"], "made for 2 axes"),
        ("default", {"strides": [[1, 1, 1], [2, 2], [2, 2, 2]]}, ["3d_fullres"], "or 3 of them, one an axis"),
        (
            "default",
            {"strides": [[2, 2, 2], [2, 2, 2], [1, 1, 1]]},
            ["3d_fullres"],
            r"begin with 1, .* got \[2, 2, 2\]",
        ),
        ("default", {"shift_ratio": 0.8, "local_shift_ratio": 0.4}, None, "at most 1, got 0.8"),
        ("default", {"patch_size": [18, 32, 32]}, ["3d_fullres"], "The strides must divide the patch"),
        ("default", {"patch_size": [4, 4]}, ["2d"], r"a patch of \[4, 4\] voxels leaves one voxel after the last of 3"),
        (
            "default",
            {"spatial_groups": [[2] * 3] * 4},
            ["3d_cascade_fullres"],
            r"3d_lowres \(the first stage of a casc",
        ),
        (
            "default",
            {"spatial_groups": [[2] * 3, [2] * 3, [3, 2, 2]], "strict": True},
            ["3d_fullres"],
            "4×8×8 voxels, got 3×2×2: 2×2×2 would",
        ),
        ("default", {"spatial_groups": [[4] * 3] * 3}, ["3d_fullres"], "no whole channel for each of the 64 groups"),
        ("default", {"spatial_groups": [4, 4, 4]}, ["3d_fullres"], "no whole channel for each of the 64 groups"),
        ("default", {"spatial_groups": [2, 2, 2]}, ["2d"], "made for 3 axes"),
        ("default", {"spatial_groups": [[2, 2, 2], 2, 2]}, ["3d_fullres"], "stage 1 must be 3 positive counts"),
        ("default", {"width_multiplier": 0}, ["3d_fullres"], "width_multiplier must be above 0, got 0"),
    ],
)
def test_settings_that_do_not_fit_are_named(template, overrides, configurations, message):
    with pytest.raises(InputError, match=message) as refusal:
        gsp_plans(stock_plans(), "mine", load_template(template, overrides), configurations)
    assert "\n" not in str(refusal.value)


def test_gsp_plans_are_no_source():
    once = gsp_plans(stock_plans(), "mine", load_template("default"))
    with pytest.raises(InputError, match="name a GSP network already"):
        gsp_plans(once, "mine", load_template("default"))


def test_written_beside_the_stock_plans_by_id_or_name(planned):
    assert write_gsp_plans("904") == planned / "nnUNetGSPPlans.json"
    write_gsp_plans(DATASET, output_name="other")
    plans = json.loads((planned / "other.json").read_text())
    assert plans["plans_name"] == "other"
    assert plans["configurations"]["2d"]["architecture"]["network_class_name"] == GSP_NETWORK
    assert json.loads((planned / "nnUNetPlans.json").read_text()) == stock_plans()
    assert write_gsp_plans("904", template="brats18_csc") == planned / "nnUNetGSPPlans_brats18_csc.json"
    assert sorted(file.name for file in planned.iterdir()) == [
        "nnUNetGSPPlans.json",
        "nnUNetGSPPlans_brats18_csc.json",
        "nnUNetPlans.json",
        "other.json",
    ]


def test_existing_plans_are_replaced_only_on_request(planned):
    target = write_gsp_plans("904")
    before = target.read_bytes()
    with pytest.raises(TargetExistsError):
        write_gsp_plans("904", settings={"shift_ratio": 1})
    assert target.read_bytes() == before
    write_gsp_plans("904", settings={"shift_ratio": 1}, overwrite=True)
    assert json.loads(target.read_text())["gsp_template"]["settings"] == {"shift_ratio": 1}


def test_plans_that_are_not_ours_are_never_replaced(planned):
    (planned / "nnUNetResEncUNetMPlans.json").write_text(json.dumps(stock_plans()))
    for name in ("nnUNetPlans", "nnUNetResEncUNetMPlans"):
        with pytest.raises(InputError, match="another kind of file, which is not replaced; change output_name"):
            write_gsp_plans("904", output_name=name, overwrite=True)
        assert json.loads((planned / f"{name}.json").read_text()) == stock_plans()


def test_summary_asks_for_preprocessing_only_where_it_is_missing(planned):
    plans = gsp_plans(stock_plans(), "mine", load_template("default"), ["2d", "3d_fullres"])
    (planned / "nnUNetPlans_2d").mkdir()
    text = summary(plans, planned)
    assert "-c 2d" not in text
    assert "-c 3d_fullres" in text


def test_summary_asks_for_data_that_configurations_share_once(planned):
    text = summary(gsp_plans(stock_plans(), "mine", load_template("default")), planned)
    assert text.count("nnUNetv2_preprocess") == 3
    assert "-c 3d_cascade_fullres" not in text


@pytest.mark.parametrize("name", ["a/b", "a__b", "../up", ".hidden", "dataset", "splits_final", "mine.json"])
def test_a_name_that_cannot_name_plans_is_refused(name, planned):
    with pytest.raises(InputError, match="Expected a name for the plans"):
        write_gsp_plans("904", output_name=name)


def in_kwargs(**changes):
    return lambda configuration: configuration["architecture"]["arch_kwargs"].update(changes)


EDITS = {
    "no architecture": (lambda configuration: configuration.pop("architecture"), "3d_fullres with an architecture"),
    "a nameless architecture": (
        lambda configuration: configuration["architecture"].pop("network_class_name"),
        "network_class_name and arch_kwargs",
    ),
    "no patch": (lambda configuration: configuration.pop("patch_size"), "a patch_size as nnU-Net writes it, got None"),
    "a patch of one number": (lambda configuration: configuration.update(patch_size=32), "patch_size .* got 32"),
    "a batch in words": (lambda configuration: configuration.update(batch_size="2"), "a batch_size .* got '2'"),
    "an empty batch": (lambda configuration: configuration.update(batch_size=0), "a batch_size .* got 0"),
    "a batch below nothing": (lambda configuration: configuration.update(batch_size=-2), "a batch_size .* got -2"),
    "no data": (lambda configuration: configuration.pop("data_identifier"), "a data_identifier"),
    "no blocks": (in_kwargs(n_blocks_per_stage=None), "n_blocks_per_stage must have one entry a stage, 3 here, got No"),
    "decoder stages": (
        in_kwargs(n_conv_per_stage_decoder=[2] * 3),
        "n_conv_per_stage_decoder must have one entry a stage, 2 here",
    ),
    "a stride too few": (in_kwargs(strides=[[1] * 3, [2] * 3]), "strides must have one entry a stage, 3 here"),
    "a stride of 0": (
        in_kwargs(strides=[1, 2, 0]),
        "strides of stage 2 must be a whole number from 1 on, or 3 of them, one an axis, got 0",
    ),
    "strides of two axes": (in_kwargs(strides=[[1, 1], [2, 2], [2, 2]]), "or 3 of them, one an axis"),
    "a first stride": (in_kwargs(strides=[2, 2, 2]), "strides that begin with 1"),
    "one width": (in_kwargs(features_per_stage=32), "features_per_stage .* got 32"),
    "widths in words": (in_kwargs(features_per_stage="abc"), "features_per_stage"),
    "more stages": (in_kwargs(n_stages=9), "must have one entry a stage, 9 here"),
    "a kernel too few": (in_kwargs(kernel_sizes=[[3] * 3] * 2), "kernel_sizes must have one entry a stage, 3 here"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_plans_edited_by_hand_are_refused_by_their_entry(edit, planned):
    change, message = EDITS[edit]
    plans = {**stock_plans(), "plans_name": "edited"}
    change(plans["configurations"]["3d_fullres"])
    (planned / "edited.json").write_text(json.dumps(plans))
    before = sorted(planned.iterdir())
    with pytest.raises(InputError, match=message) as refusal:
        write_gsp_plans("904", "edited", configurations=["3d_fullres"])
    assert "\n" not in str(refusal.value)
    assert sorted(planned.iterdir()) == before


def test_a_configuration_that_is_none_is_refused(planned):
    plans = stock_plans()
    plans["configurations"]["3d_fullres"] = 3
    (planned / "edited.json").write_text(json.dumps(plans))
    with pytest.raises(InputError, match="a configuration 3d_fullres with an architecture, as nnU-Net writes it"):
        write_gsp_plans("904", "edited")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"labels": {}}', '{"labels": {"a": 1}}'])
def test_a_dataset_json_that_is_none_is_refused(content, tmp_path):
    folder = tmp_path / "Dataset007_Pancreas"
    folder.mkdir()
    with pytest.raises(InputError, match="got no such file; run nnUNetv2_plan_and_preprocess -d 7"):
        load_dataset_json(folder)
    (folder / "dataset.json").write_text(content)
    with pytest.raises(InputError, match=r"dataset\.json: expected .*, got .*; run nnUNetv2_plan_and_prep"):
        load_dataset_json(folder)


@pytest.mark.parametrize("channels", ["channel_names", "modality"])
def test_a_dataset_json_may_name_its_channels_in_either_way(channels, tmp_path):
    folder = tmp_path / "Dataset007_Pancreas"
    folder.mkdir()
    content = {"labels": {"background": 0}, channels: {"0": "CT"}}
    (folder / "dataset.json").write_text(json.dumps(content))
    assert load_dataset_json(folder) == content


def test_a_template_of_one_s_own_called_default_gives_no_default_plans(planned, tmp_path):
    file = tmp_path / "default.json"
    file.write_text(json.dumps({"description": "mine", "source": "me", "shift_ratio": 1}))
    assert write_gsp_plans("904", template=str(file)) == planned / "nnUNetGSPPlans_default.json"


def test_a_file_that_is_no_text_is_not_replaced(planned):
    (planned / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="another kind of file, which is not replaced"):
        write_gsp_plans("904", output_name="binary", overwrite=True)


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("nnUNet_preprocessed", "")
    with pytest.raises(InputError, match="nnUNet_preprocessed to name a folder, got none"):
        write_gsp_plans("904")


def test_strides_that_are_one_number_a_stage():
    plans = stock_plans()
    plans["configurations"]["3d_lowres"]["architecture"]["arch_kwargs"]["strides"] = [1, [2, 2, 2], 2]
    narrow = gsp_plans(plans, "mine", load_template("default", {"features_per_stage": [8, 16, 16]}), ["3d_lowres"])
    assert effective(narrow, "3d_lowres")["architecture"]["arch_kwargs"]["strides"] == [[1] * 3, [2] * 3, [2] * 3]


@pytest.mark.parametrize(
    ("dataset", "plans_name", "message"),
    [
        ("905", "nnUNetPlans", "id of a dataset .* got 905"),
        ("Dataset905_Liver", "nnUNetPlans", "a planned dataset, got no such folder; run nnUNetv2_plan_and_preprocess"),
        ("904", "nnUNetResEncUNetPlans", "expected plans, got no such file"),
    ],
)
def test_what_is_missing_is_named(planned, dataset, plans_name, message):
    with pytest.raises(InputError, match=message):
        write_gsp_plans(dataset, plans_name)
    assert [file.name for file in planned.iterdir()] == ["nnUNetPlans.json"]


def test_a_missing_folder_variable_is_named(planned, monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(InputError, match="nnUNet_preprocessed to name a folder, got none"):
        write_gsp_plans("904")


def test_a_patch_that_strides_do_not_divide_is_named_and_nothing_written(planned):
    plans = stock_plans()
    plans["configurations"]["2d"]["patch_size"] = [30, 64]
    (planned / "nnUNetPlans.json").write_text(json.dumps(plans))
    with pytest.raises(InputError, match=r"Configuration 2d: The strides must divide the patch"):
        write_gsp_plans("904")
    assert [file.name for file in planned.iterdir()] == ["nnUNetPlans.json"]
