"""Plans, names and tensors that are refused before nnU-Net looks anything up by them."""

import pytest
import torch

from tests.sharing.bundles import assert_unsound, in_configuration, in_json, in_manifest, in_network, in_weights
from tests.sharing.models import ARCHITECTURE, MB, WEIGHTS

FIRST = "encoder.stages.0.convs.0.conv.weight"
UNSOUND = {
    "dataset of other plans": (in_manifest("dataset", "Dataset902_Other"), "plans.json: expected plans of the dataset"),
    "trainer is unknown": (in_manifest("trainer", "nnUNetTrainerOfNobody"), "install the package that has it"),
    "trainer is a function": (in_manifest("trainer", "join"), "a trainer that nnU-Net finds"),
    "trainer is another class": (in_manifest("trainer", "PlansManager"), "a trainer that nnU-Net finds"),
    "trainer of another network": (in_manifest("trainer", "nnUNetTrainerBN"), "num_batches_tracked, got none"),
    "trainer of no GSP network": (in_manifest("trainer", "nnUNet_Primus_S_Trainer"), "Primus"),
    "configuration is not there": (in_manifest("configuration", "3d_lowres"), "3d_lowres"),
    "another network": (in_json("plans.json", *ARCHITECTURE, "network_class_name", "os.system"), "os.system"),
    "a network of this name": (in_json("plans.json", *ARCHITECTURE, "network_class_name", "evil.GSPUNet"), "evil"),
    "imports more": (in_json("plans.json", *ARCHITECTURE, "_kw_requires_import", ["kernel"]), "kernel"),
    "imports a module": (in_network("nonlin", "antigravity.fly"), "antigravity"),
    "imports a function": (in_network("conv_op", "os.system"), "os.system"),
    "imports another layer": (in_network("norm_op", "torch.nn.Linear"), "torch.nn.Linear"),
    "layer gets an object": (in_network("nonlin_kwargs", {"inplace": ["x"]}), "nonlin_kwargs"),
    "layer gets unknown": (in_network("norm_op_kwargs", {"nonsense": 1}), "nonsense"),
    "network gets unknown": (in_network("nonsense", 1), "nonsense"),
    "endless stages": (in_network("n_stages", 10**9), "n_stages"),
    "endless convolutions": (in_network("n_conv_per_stage", [10**9, 2, 2]), "n_conv_per_stage"),
    "endless decoder": (in_network("n_conv_per_stage_decoder", 10**9), "n_conv_per_stage_decoder"),
    "endless channels": (in_network("features_per_stage", [10**15] * 3), "network|weights"),
    "other groups": (in_network("spatial_groups", [[1, 2, 2], [2, 2, 2], [2, 2, 1]]), "network|other GSP settings"),
    "other position": (in_network("shift_position", "CCS"), "other GSP settings"),
    "inherits": (in_configuration("inherits_from", "3d_fullres"), "inherits_from"),
    "folder of data is a path": (in_configuration("data_identifier", "../x"), "data_identifier"),
    "folder of data is absolute": (in_configuration("data_identifier", "/x"), "data_identifier"),
    "stage is a path": (in_configuration("previous_stage", "../x"), "previous_stage"),
    "two configurations": (in_json("plans.json", "configurations", "2d", {}), "2d"),
    "reader is a module": (in_json("plans.json", "image_reader_writer", "os"), "BaseReaderWriter"),
    "reader is not there": (in_json("plans.json", "image_reader_writer", "ReaderOfNobody"), "ReaderOfNobody"),
    "labels by a module": (in_json("plans.json", "label_manager", "np"), "LabelManager"),
    "preprocessor is a function": (in_configuration("preprocessor_name", "join"), "DefaultPreprocessor"),
    "preprocessor is no name": (in_configuration("preprocessor_name", 7), "network"),
    "normalization is a module": (in_configuration("normalization_schemes", ["np"]), "ImageNormalization"),
    "resampling is a module": (in_configuration("resampling_fn_seg", "np"), "resamples"),
    "resampling is a class": (in_configuration("resampling_fn_data", "OrderedDict"), "resamples"),
    "plans are a list": (lambda contents: contents.update({"plans.json": b"[]"}), "plans.json"),
    "plans are no JSON": (lambda contents: contents.update({"plans.json": b"\x80\x04."}), "plans.json"),
    "plans of a terminal": (in_json("plans.json", "dataset_name", "\x1b[2J"), "expected plans of the dataset"),
    "ending is a path": (in_json("dataset.json", "file_ending", "/../../x"), "file_ending"),
    "dataset's reader is a module": (
        in_json("dataset.json", "overwrite_image_reader_writer", "traceback"),
        "BaseReaderWriter",
    ),
    "other labels": (in_json("dataset.json", "labels", {"background": 0, "one": 1}), "seg_layers"),
    "no background": (in_json("dataset.json", "labels", {}), "[Bb]ackground"),
    "deep nesting": (
        lambda contents: contents.update(
            {"dataset.json": contents["dataset.json"][:-1] + b', "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"}
        ),
        "JSON",
    ),
    "a tensor is missing": (in_weights(lambda tensors: tensors.pop(FIRST)), f"expected the tensor {FIRST}, got none"),
    "a tensor too many": (in_weights(lambda tensors: tensors.update(more=torch.zeros(1))), "more, which is no tensor"),
    "an alias is stored": (
        in_weights(
            lambda tensors: tensors.update(
                {FIRST.replace("conv.weight", "all_modules.0.weight"): tensors[FIRST].clone()}
            )
        ),
        "no tensor of the network",
    ),
    "no settings": (in_weights(lambda tensors: tensors.pop("gsp_settings")), "gsp_settings"),
    "other settings": (in_weights(lambda tensors: tensors["gsp_settings"].__setitem__(1, 2)), "other GSP settings"),
    "another shape": (in_weights(lambda tensors: tensors.update({FIRST: tensors[FIRST][:4]})), "network of the plans"),
    "another type": (in_weights(lambda tensors: tensors.update({FIRST: tensors[FIRST].half()})), "torch.float16"),
    "not a number": (in_weights(lambda tensors: tensors[FIRST].view(-1)[:1].fill_(torch.nan)), "not finite"),
    "infinite": (in_weights(lambda tensors: tensors[FIRST].view(-1)[:1].fill_(torch.inf)), "not finite"),
    "weights are a pickle": (lambda contents: contents.update({WEIGHTS: b"\x80\x02}q\x00."}), "expected sound weights"),
    "much too many weights": (lambda contents: contents.update({WEIGHTS: bytes(3 * MB)}), "at most .*, got 3000000"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_an_unsound_model_is_refused(case, bundle, results, tmp_path):
    assert_unsound(*UNSOUND[case], bundle, results, tmp_path / "model.zip")
