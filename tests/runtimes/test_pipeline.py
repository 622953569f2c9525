"""pipeline.json says what plans and dataset.json say, and refuses what it has no words for."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.runtimes.pipeline import SCHEMA, pipeline_of
from nnunetv2_gsp.sharing.model import Model
from nnunetv2_gsp.sharing.model_folder import Fold, TrainedModel
from tests.runtimes.models import CT, PLANNED, REGIONS, dataset, plans

STEPS = [{"keep_largest_component_of": [1, 2], "background_label": 0}]


def pipeline(made, about, mirroring_axes=(0, 1, 2)):
    made = {**made, "configurations": {"3d_fullres": made["configurations"]["basis"]}}
    folds = {"0": Fold({}, mirroring_axes and list(mirroring_axes)), "1": Fold({}, [0])}
    return pipeline_of(
        TrainedModel(Model("nnUNetTrainerGSP", "3d_fullres", made, about), folds, None), {"m.onnx": folds}, STEPS
    )


def test_everything_that_plans_say():
    schemes = [
        "CTNormalization",
        "ZScoreNormalization",
        "NoNormalization",
        "RescaleTo01Normalization",
        "RGBTo01Normalization",
    ]
    made = plans(
        channels=5,
        spacing=(3.0, 0.7, 0.8),
        normalization_schemes=schemes,
        use_mask_for_norm=[False, True, False, False, False],
        transpose_forward=[1, 0, 2],
        image_reader_writer="NibabelIOWithReorient",
    )
    content = pipeline(made, dataset(5))
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(content)) == content
    assert [channel["normalization"] for channel in content["channels"]] == [
        {"scheme": "CTNormalization", **{name: CT[name] for name in CT if name != "median"}},
        {"scheme": "ZScoreNormalization", "use_mask": True},
        *({"scheme": scheme} for scheme in schemes[2:]),
    ]
    assert content["channels"][3]["file_suffix"] == "_0003"
    assert content["orientation"] == "RAS"
    assert content["transpose_forward"] == [1, 0, 2]
    assert content["spacing"] == [3.0, 0.7, 0.8]
    # nnU-Net's threshold where plans leave it out
    assert content["resampling"]["data"] == {**PLANNED["data"], "separate_z_anisotropy_threshold": 3}
    assert content["sliding_window"]["patch_size"] == [8, 8, 8]
    assert content["sliding_window"]["mirroring_axes"] == [0, 1, 2]  # of the first fold, as nnU-Net takes them
    assert content["networks"] == [{"file": "m.onnx", "folds": ["0", "1"]}]
    assert content["postprocessing"] == STEPS
    assert content["regions_class_order"] is None


def test_outputs_are_labels_in_order_or_regions():
    unordered = {"labels": {"b": 2, "background": 0, "a": 1, "ignore": 3}}
    assert pipeline(plans(), dataset(**unordered))["outputs"] == [
        {"name": "background", "labels": [0]},
        {"name": "a", "labels": [1]},
        {"name": "b", "labels": [2]},
    ]
    content = pipeline(plans(), dataset(**REGIONS))
    assert content["outputs"] == [
        {"name": "whole", "labels": [1, 2, 3]},
        {"name": "core", "labels": [2, 3]},
        {"name": "enhancing", "labels": [3]},
    ]
    assert content["regions_class_order"] == [1, 2, 3]


def test_no_mirroring():
    assert pipeline(plans(), dataset(), None)["sliding_window"]["mirroring_axes"] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"previous_stage": "3d_lowres"}, "with one stage, got a cascade"),
        ({"preprocessor_name": "MyPreprocessor"}, "with DefaultPreprocessor, got MyPreprocessor"),
        ({"label_manager": "MyLabels"}, "with LabelManager, got MyLabels"),
        ({"image_reader_writer": "Tiff3DIO"}, "got Tiff3DIO"),
        ({"normalization_schemes": ["MyNormalization"]}, "RGBTo01Normalization, got MyNormalization"),
        ({"resampling_fn_probabilities": "resample_torch_fornnunet"}, "got resample_torch_fornnunet"),
        ({"resampling_fn_data_kwargs": {"memefficient_seg_resampling": True}}, "got memefficient_seg_resampling"),
        ({"resampling_fn_data_kwargs": {"is_seg": True}}, "got is_seg for data"),
        ({"resampling_fn_data_kwargs": {"order": 7}}, "order: 7 is greater than the maximum"),
        ({"spacing": [1.0, -1.0, 1.0]}, "spacing"),
    ],
)
def test_what_it_has_no_words_for(changes, said):
    with pytest.raises(InputError, match=said) as refusal:
        pipeline(plans(**changes), dataset())
    assert "\n" not in str(refusal.value)


def test_the_document_explains_every_key():
    text = Path(__file__).parents[2].joinpath("docs", "pipeline.md").read_text(encoding="utf-8")
    keys = set(SCHEMA["properties"]) | set(SCHEMA["properties"]["sliding_window"]["properties"])
    assert [key for key in keys if f"`{key}" not in text and f"{key}`" not in text] == []
