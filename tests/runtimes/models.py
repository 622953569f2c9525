"""Plans as nnU-Net's planner writes them, with what differs between datasets: spacing, channels, labels."""

from tests.architectures.networks import isotropic, stock_architecture
from tests.sharing.models import dataset_json, plans_of

PLANNED = {  # by nnU-Net's planner
    "data": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
    "seg": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
    "probabilities": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
}
CT = {"mean": 60.0, "std": 40.0, "percentile_00_5": -150.0, "percentile_99_5": 220.0, "median": 55.0}


def plans(patch_size=(8, 8, 8), features=(8, 12), spacing=(1.0, 1.0, 1.0), channels=1, resampling=PLANNED, **changes):
    """Return plans of a small network; `changes` are of the configuration, or of the plans where these have them."""
    dim = len(patch_size)
    made = plans_of(stock_architecture(features, isotropic(len(features), dim)), patch_size)
    made["foreground_intensity_properties_per_channel"] = {str(channel): CT for channel in range(channels)}
    made["configurations"]["basis"].update(
        spacing=list(spacing),
        normalization_schemes=["ZScoreNormalization"] * channels,
        use_mask_for_norm=[False] * channels,
        **{f"resampling_fn_{what}_kwargs": kwargs for what, kwargs in resampling.items()},
    )
    for name, value in changes.items():
        (made if name in made else made["configurations"]["basis"])[name] = value
    return made


def dataset(channels=1, **changes):
    """Return a dataset.json with so many channels."""
    names = {str(channel): f"MR{channel}" for channel in range(channels)}
    return {**dataset_json(), "channel_names": names, **changes}


REGIONS = {
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]},
    "regions_class_order": [1, 2, 3],
}
