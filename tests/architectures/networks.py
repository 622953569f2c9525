"""Plans' `architecture` entries as nnU-Net writes them, for any size."""

import pydoc

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.architectures.from_plans import gsp_architecture

STOCK_NETWORKS = {
    "plain": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "residual": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
}


def stock_architecture(features, strides, kind="plain", **changes):
    """Return what nnU-Net's planner writes into plans for these stages."""
    dim = len(strides[0])
    n_stages = len(features)
    blocks = {
        "plain": {"n_conv_per_stage": [2] * n_stages, "n_conv_per_stage_decoder": [2] * (n_stages - 1)},
        "residual": {
            "n_blocks_per_stage": [1, 3, 4, 6, 6, 6, 6, 6][:n_stages],
            "n_conv_per_stage_decoder": [1] * (n_stages - 1),
        },
    }
    return {
        "network_class_name": STOCK_NETWORKS[kind],
        "arch_kwargs": {
            "n_stages": n_stages,
            "features_per_stage": list(features),
            "conv_op": f"torch.nn.modules.conv.Conv{dim}d",
            "kernel_sizes": [[3] * dim] * n_stages,
            "strides": [list(stride) for stride in strides],
            **blocks[kind],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dim}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
            **changes,
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def located(architecture):
    """Return the entry's `arch_kwargs` with dotted names replaced by what they name."""
    kwargs = dict(architecture["arch_kwargs"])
    for name in architecture["_kw_requires_import"]:
        kwargs[name] = kwargs[name] and pydoc.locate(kwargs[name])
    return kwargs


def isotropic(n_stages, dim=3):
    """Return strides that halve every axis from stage to stage."""
    return [[1] * dim] + [[2] * dim] * (n_stages - 1)


def gsp_unet(patch_size, features, strides, input_channels=2, num_classes=3, **changes):
    """Build a GSPUNet with the groups the rule gives for `patch_size`."""
    architecture = gsp_architecture(stock_architecture(features, strides), patch_size)
    return GSPUNet(input_channels=input_channels, num_classes=num_classes, **{**located(architecture), **changes})
