"""Says in plain data what a program does around an exported network: the content of pipeline.json."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.nnunet import channel_names, settings_of_resampling
from nnunetv2_gsp.sharing.bundle import PLANS
from nnunetv2_gsp.sharing.model_folder import TrainedModel
from nnunetv2_gsp.sharing.refused import check_schema

PIPELINE = "pipeline.json"
SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("pipeline.schema.json").read_text(encoding="utf-8"))

# of nnU-Net's predictor: the step and the Gaussian are its defaults, and it adds logits up in half precision
_WINDOW = {"step": 0.5, "gaussian": {"sigma": 1 / 8, "peak": 10}, "dtype": "float16"}
_ORIENTATIONS = {"SimpleITKIO": "stored", "NibabelIO": "stored", "NibabelIOWithReorient": "RAS"}
_OF_FINGERPRINT = ("mean", "std", "percentile_00_5", "percentile_99_5")
_NORMALIZATIONS = (
    "ZScoreNormalization",
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)


def pipeline_of(
    trained: TrainedModel, networks: Mapping[str, Sequence[str]], postprocessing: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the content of pipeline.json, which fits `SCHEMA`; docs/pipeline.md explains it.

    Args:
        trained: trained model.
        networks: name of each network's file -> folds that it averages.
        postprocessing: steps as `read_postprocessing` returns them.

    Raises:
        InputError: the plans ask for something that it cannot express.
        RefusedError: a value in the plans is none that its kind can have.
    """
    model = trained.model
    plans = PlansManager(model.plans)
    configuration = plans.get_configuration(model.configuration)
    _check_expressible(plans, configuration)
    labels = plans.get_label_manager(model.dataset_json)
    pipeline = {
        "format": 1,
        "model": {
            "dataset": plans.dataset_name,
            "trainer": model.trainer,
            "plans": plans.plans_name,
            "configuration": model.configuration,
        },
        "versions": {package: version(package) for package in ("nnunetv2_gsp", "nnunetv2", "torch")},
        "networks": [{"file": file, "folds": list(folds)} for file, folds in networks.items()],
        "file_ending": model.dataset_json["file_ending"],
        "orientation": _ORIENTATIONS[plans.plans["image_reader_writer"]],
        "channels": _channels(plans, configuration, model.dataset_json),
        "transpose_forward": plans.transpose_forward,
        "crop_to_nonzero": True,
        "spacing": configuration.spacing,
        "resampling": {what: _resampling(configuration, what) for what in ("data", "seg", "probabilities")},
        "sliding_window": {
            "patch_size": configuration.patch_size,
            "mirroring_axes": next(iter(trained.folds.values())).mirroring_axes or [],  # nnU-Net takes the first fold's
            **_WINDOW,
        },
        "outputs": _outputs(labels),
        "regions_class_order": list(labels.regions_class_order) if labels.has_regions else None,
        "postprocessing": [dict(step) for step in postprocessing],
    }
    check_schema(pipeline, SCHEMA, PIPELINE)
    return pipeline


def _check_expressible(plans: PlansManager, configuration: ConfigurationManager) -> None:
    _expect("one stage", "a cascade", configuration.previous_stage_name is None)
    _expect(*_one_of(["DefaultPreprocessor"], configuration.preprocessor_name))
    _expect(*_one_of(["LabelManager"], plans.plans.get("label_manager", "LabelManager")))
    _expect(*_one_of(list(_ORIENTATIONS), plans.plans["image_reader_writer"]))
    for scheme in configuration.normalization_schemes:
        _expect(*_one_of(_NORMALIZATIONS, scheme))
    for what in ("data", "seg", "probabilities"):
        name = configuration.configuration[f"resampling_fn_{what}"]
        _expect(*_one_of([resample_data_or_seg_to_shape.__name__], name))
        unknown = set(configuration.configuration[f"resampling_fn_{what}_kwargs"]) - set(settings_of_resampling({}))
        _expect("known arguments of it", ", ".join(sorted(unknown)), not unknown)
        _expect(
            "values, not labels, to be resampled",
            f"is_seg for {what}",
            what == "seg" or not _resampling(configuration, what)["is_seg"],
        )


def _one_of(known: Sequence[str], name: str) -> tuple[str, str, bool]:
    return " or ".join(known), name, name in known


def _expect(expected: str, got: str, is_met: bool) -> None:
    if not is_met:
        raise InputError(
            f"plans that {PIPELINE} can express, with {expected}",
            got,
            where=PLANS,
            remedy="share the model as a bundle, which nnU-Net predicts with",
            parameters=["format"],
        )


def _channels(
    plans: PlansManager, configuration: ConfigurationManager, dataset_json: Mapping[str, Any]
) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "file_suffix": f"_{number:04d}",
            "normalization": _normalization(plans, configuration, number),
        }
        for number, name in enumerate(channel_names(dataset_json))
    ]


def _normalization(plans: PlansManager, configuration: ConfigurationManager, channel: int) -> dict[str, Any]:
    scheme = configuration.normalization_schemes[channel]
    if scheme == "ZScoreNormalization":
        return {"scheme": scheme, "use_mask": configuration.use_mask_for_norm[channel]}
    if scheme == "CTNormalization":
        fingerprint = plans.foreground_intensity_properties_per_channel[str(channel)]
        return {"scheme": scheme, **{name: fingerprint[name] for name in _OF_FINGERPRINT}}
    return {"scheme": scheme}


def _resampling(configuration: ConfigurationManager, what: str) -> dict[str, Any]:
    return settings_of_resampling(configuration.configuration[f"resampling_fn_{what}_kwargs"])


def _outputs(labels: LabelManager) -> list[dict[str, Any]]:
    """Return what each channel of the logits stands for, in their order."""
    of_names = {
        name: list(map(int, values)) if isinstance(values, (list, tuple)) else [int(values)]
        for name, values in labels.label_dict.items()
        if name != "ignore"
    }
    if labels.has_regions:
        return [{"name": name, "labels": values} for name, values in of_names.items() if set(values) != {0}]
    return sorted(
        ({"name": name, "labels": values} for name, values in of_names.items()), key=lambda out: out["labels"]
    )
