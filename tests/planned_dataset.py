"""Plans of a small dataset, as nnU-Net writes them, for what only reads plans."""

import json
from copy import deepcopy

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from tests.architectures.networks import isotropic, stock_architecture

DATASET = "Dataset904_Plans"


def stock_plans():
    """Return plans with a 2d configuration, a fullres one, and the cascade that inherits from it."""

    def configuration(name, patch_size, architecture, **more):
        return {
            "data_identifier": f"nnUNetPlans_{name}",
            "patch_size": patch_size,
            "batch_size": 2,
            "use_mask_for_norm": [True, False],
            "architecture": architecture,
            **more,
        }

    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "configurations": {
            "2d": configuration("2d", [32, 64], stock_architecture((16, 32, 64), isotropic(3, dim=2))),
            "3d_lowres": configuration(
                "3d_lowres",
                [16, 16, 16],
                stock_architecture((16, 32, 64), isotropic(3)),
                next_stage="3d_cascade_fullres",
            ),
            "3d_fullres": configuration(
                "3d_fullres", [16, 32, 32], stock_architecture((16, 32, 64), isotropic(3), "residual")
            ),
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }


def effective(plans, configuration):
    """Return a configuration as nnU-Net sees it."""
    return PlansManager(deepcopy(plans)).get_configuration(configuration).configuration


def write_stock_plans(folder, monkeypatch):
    """Write stock plans into an nnUNet_preprocessed below a folder; returns the dataset's own."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(folder / variable))
    dataset = folder / "nnUNet_preprocessed" / DATASET
    dataset.mkdir(parents=True)
    (dataset / "nnUNetPlans.json").write_text(json.dumps(stock_plans()))
    return dataset
