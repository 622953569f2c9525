"""The templates against the paper's tables, typed in from the paper."""

import json

import pytest
from jsonschema import Draft202012Validator

from nnunetv2_gsp.architectures.architecture import entry_schemas
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.plans_templates import load_template, schema, template_names

# Table 2 of the paper: (depth, height, width) of stages 1 to 5
TABLE_2 = {
    "promise12_prosgv1": [(2, 2, 2), (2, 2, 2), (2, 4, 4), (1, 8, 8), (1, 8, 8)],
    "promise12_prosgv2": [(1, 2, 2), (1, 4, 4), (2, 4, 4), (1, 8, 8), (1, 8, 8)],
    "promise12_prosgv3": [(2, 2, 2), (1, 4, 4), (1, 4, 4), (1, 8, 8), (1, 8, 8)],
    "promise12_prosgv4": [(1, 2, 2), (2, 2, 2), (2, 4, 4), (1, 8, 8), (1, 8, 8)],
}
BRATS_GROUPS = [(2, 2, 2), (2, 2, 2), (2, 2, 2), (4, 4, 4), (5, 5, 5)]  # Sec. 3.2


def test_every_named_setting_of_the_paper_is_there_and_says_where_it_stands():
    assert set(template_names()) == {
        "default",
        "default_local",
        "gsp_s",
        "gsp_m",
        "gsp_l",
        *TABLE_2,
        "promise12_baseline_pointwise",
        "promise12_baseline_conv3d",
        "brats18_csc",
        "brats18_csc_dec",
        "brats18_csc_dec_local",
        "brats18_baseline_pointwise",
        "brats18_baseline_conv3d",
    }
    for name in template_names():
        template = load_template(name)
        assert "\n" not in template.description
        assert any(place in template.source for place in ("Table", "Sec.", "beyond the paper"))


def test_the_schema_is_one_and_takes_what_comes_with_the_package():
    Draft202012Validator.check_schema(schema())
    for name in template_names():
        Draft202012Validator({**schema(), "required": []}).validate(dict(load_template(name).settings))


def test_settings_of_templates_have_the_types_of_the_networks_entries():
    for name, entry in entry_schemas().items():
        if name in schema()["properties"]:
            assert schema()["properties"][name]["type"] == entry["type"]


@pytest.mark.parametrize("name", TABLE_2)
def test_spatial_groups_of_table_2(name):
    assert [tuple(stage) for stage in load_template(name).request.spatial_groups] == TABLE_2[name]


@pytest.mark.parametrize(("prefix", "patch"), [("promise12", [16, 128, 128]), ("brats18", [64, 128, 128])])
def test_the_papers_topology(prefix, patch):
    for name in template_names():
        if name.startswith(prefix):
            settings = load_template(name).settings
            assert settings["patch_size"] == patch  # Sec. 3, depth first
            assert settings["batch_size"] == 4
            assert settings["features_per_stage"] == [16, 32, 64, 128, 256]
            assert settings["strides"] == [[1, 1, 1], *[[2, 2, 2]] * 4]
            assert (settings["n_conv_per_stage"], settings["n_conv_per_stage_decoder"]) == (2, 2)
            assert settings["use_mask_for_norm"] is True


@pytest.mark.parametrize(
    ("name", "position", "location", "ratio", "local", "kernel"),
    [
        ("default", "CSC", "both", 0.5, 0, 1),
        ("default_local", "CSC", "both", 0.5, 0.375, 1),
        ("gsp_s", "CSCS", "both", 0, 0.375, 1),
        ("gsp_m", "CSCS", "both", 0, 0.375, 1),
        ("gsp_l", "CSCS", "both", 0, 0.375, 1),
        ("promise12_prosgv3", "CSC", "both", 0.5, 0, 1),
        ("promise12_baseline_pointwise", "none", "both", 0, 0, 1),
        ("promise12_baseline_conv3d", "none", "both", 0, 0, 3),
        ("brats18_csc", "CSC", "both", 0.5, 0, 1),
        ("brats18_csc_dec", "CSC", "decoder", 0.5, 0, 1),
        ("brats18_csc_dec_local", "CSC", "decoder", 0.5, 0.375, 1),
        ("brats18_baseline_pointwise", "none", "both", 0, 0, 1),
        ("brats18_baseline_conv3d", "none", "both", 0, 0, 3),
    ],
)
def test_shifts(name, position, location, ratio, local, kernel):
    template = load_template(name)
    request = template.request
    assert (request.shift_position, request.shift_location, request.shift_ratio, request.local_shift_ratio) == (
        position,
        location,
        ratio,
        local,
    )
    assert template.kernel == kernel
    if name.startswith("brats18"):
        assert [tuple(stage) for stage in request.spatial_groups] == BRATS_GROUPS


def test_overrides_replace_and_a_file_inherits(tmp_path):
    assert load_template("brats18_csc", {"shift_position": "CCS"}).settings["shift_position"] == "CCS"
    assert load_template("brats18_csc").request.shift_position == "CSC"
    file = tmp_path / "mine.json"
    file.write_text(
        json.dumps({"description": "mine", "source": "me", "inherits_from": "brats18_csc_dec", "shift_ratio": 0.25})
    )
    template = load_template(str(file))
    assert (template.name, template.description) == ("mine", "mine")
    assert template.settings == {**load_template("brats18_csc_dec").settings, "shift_ratio": 0.25}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("brats18_cs", r"got 'brats18_cs' \(nearest: brats18_csc\)"),
        ("schema", "got 'schema'"),
        ("nowhere.json", "expected a template, got no such file"),
    ],
)
def test_an_unknown_template_is_named_with_the_nearest(name, message):
    with pytest.raises(InputError, match=message):
        load_template(name)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"shift_ration": 1}, r"got 'shift_ration' \(nearest: shift_ratio\)"),
        ({"spatial_group": []}, r"got 'spatial_group' \(nearest: spatial_groups\)"),
        ({"shift_position": ["CSC"]}, r"shift_position: \['CSC'\] is not of type 'string'"),
        ({"shift_ratio": 1.5}, "shift_ratio must be from 0 to 1, got 1.5"),
        ({"strict": "yes"}, "strict: 'yes' is not of type 'boolean'"),
        ({"patch_size": [16, 0, 16]}, r"patch_size\[1\]: 0 is less than the minimum of 1"),
        ({"spatial_groups": [[2, 2, 2], 2.5]}, r"spatial_groups\[1\]: 2.5 is not of type 'integer', 'array'"),
        ({"width_multiplier": "2"}, "width_multiplier: '2' is not of type 'number'"),
        ({"n_conv_per_stage": "two"}, "n_conv_per_stage: 'two' is not of type 'integer', 'array'"),
        ({"n_conv_per_stage": 2.0}, "n_conv_per_stage: 2.0 is not of type"),
        ({"kernel": 3.0}, "kernel: 3.0 is not of type 'integer'"),
        ({"batch_size": 2.0}, "batch_size: 2.0 is not of type 'integer'"),
        ({"batch_size": True}, "batch_size: True is not of type 'integer'"),
        ({"patch_size": [64.0, 64, 64]}, r"patch_size\[0\]: 64.0 is not of type 'integer'"),
        ({"shift_ratio": "half"}, "shift_ratio: 'half' is not of type 'number'"),
        ({"inherits_from": "default"}, "got inherits_from, which belongs into a template's file"),
    ],
)
def test_what_the_schema_does_not_allow_is_named(overrides, message):
    with pytest.raises(InputError, match=message) as refusal:
        load_template("default", overrides)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "a template in JSON"),
        ("[]", "expected settings by name, got a list"),
        ('{"description": "mine"}', "'source' is a required property"),
        ('{"description": "mine", "source": "me", "inherits_from": "mine"}', "got 'mine'"),
        ('{"description": "mine", "source": "me", "inherits_from": ""}', "got ''"),
        (b"\xff\xfe\xfa", "a template in JSON"),
        ('{"description": "mine", "source": "me", "shift": 1}', r"got 'shift' \(nearest: shift_"),
    ],
)
def test_a_broken_file_is_named(content, message, tmp_path):
    file = tmp_path / "mine.json"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        load_template(str(file))
