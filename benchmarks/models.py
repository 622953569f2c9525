"""The networks of the tables, the ways to compute them, and models of trainers on disk."""

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn

from benchmarks.measuring import Contender
from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.architectures.spatial_groups import feature_map_sizes, spatial_groups_of
from nnunetv2_gsp.ops import GroupShift
from nnunetv2_gsp.ops.pointwise import PointwiseConv3d
from nnunetv2_gsp.wording import times

CHANNELS, CLASSES = 4, 4
NNUNET_WIDTHS, TINY_WIDTHS = (32, 64, 128, 256, 320, 320), (16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Plan:
    """The plan that a network is built from.

    Attributes:
        patch: patch size in voxels, (D, H, W).
        features: number of channels of each stage, from the highest resolution down.
        spacing_mm: voxel spacing (D, H, W), by which nnU-Net chooses kernels and strides.
        is_cubic: if True, stock has 3×3×3 kernels in every stage, even where nnU-Net plans flat ones.
    """

    patch: tuple[int, ...] = (128, 128, 128)
    features: tuple[int, ...] = NNUNET_WIDTHS
    spacing_mm: tuple[float, ...] = (1.0, 1.0, 1.0)
    is_cubic: bool = False

    @property
    def size(self) -> str:
        """The patch size as text, for a title."""
        return times(self.patch)

    def topology(self) -> dict[str, Any]:
        """Return the arguments that stock and GSP are both built from, as nnU-Net's planner chooses them."""
        n_stages = len(self.features)
        _, strides, kernels, _, _ = get_pool_and_conv_props(self.spacing_mm, self.patch, 4, 999999)
        return {
            "input_channels": CHANNELS,
            "num_classes": CLASSES,
            "n_stages": n_stages,
            "features_per_stage": self.features,
            "conv_op": nn.Conv3d,
            "strides": strides[:n_stages],
            "kernel_sizes": 3 if self.is_cubic else kernels[:n_stages],
            "n_conv_per_stage": 2,
            "n_conv_per_stage_decoder": 2,
            "conv_bias": True,
            "norm_op": nn.InstanceNorm3d,
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": nn.LeakyReLU,
            "nonlin_kwargs": {"inplace": True},
        }


def stock(plan: Plan, deep_supervision: bool = False) -> PlainConvUNet:
    """Build nnU-Net's own network."""
    torch.manual_seed(0)
    return PlainConvUNet(**plan.topology(), deep_supervision=deep_supervision)


def gsp(plan: Plan, deep_supervision: bool = False, shift_position: str = "CSC") -> GSPUNet:
    """Build its GSP counterpart, with the groups that the rule gives."""
    torch.manual_seed(0)
    topology = plan.topology()
    maps = feature_map_sizes(plan.patch, topology["strides"])
    groups = [spatial_groups_of(size, width // 2) for size, width in zip(maps, plan.features, strict=True)]
    return GSPUNet(**topology, spatial_groups=groups, shift_position=shift_position, deep_supervision=deep_supervision)


def prediction(build: Callable[[Plan], nn.Module], way: str, plan: Plan) -> Contender:
    """Return a function that predicts one patch of noise, the same noise every time.

    Args:
        build: makes the network of a plan; `stock` or `gsp`.
        way: how the network is computed, a key of WAYS.
        plan: gives network and patch.
    """
    torch.manual_seed(1)
    image = torch.randn(1, CHANNELS, *plan.patch)
    return WAYS[way](build(plan).eval(), image)


def replace_modules(network: nn.Module, kind: type[nn.Module], replacement: Callable[[Any], nn.Module]) -> int:
    """Replace every module of a class within a network; return the number of modules replaced."""
    places = [
        (module, name, child)
        for module in network.modules()
        for name, child in module.named_children()
        if isinstance(child, kind)
    ]
    for module, name, child in places:
        setattr(module, name, replacement(child))
    return len(places)


def _in_pytorch(network: Any, image: Tensor) -> Contender:
    network.engine = "plain"
    return lambda: network(image)


def _in_fused_layers(network: Any, image: Tensor) -> Contender:
    network.engine = "fused"  # raises an error where it does not apply
    return lambda: network(image)


def _in_openvino(network: nn.Module, image: Tensor) -> Contender:
    """Compute in fp32, with torch's threads, without copies of input and output."""
    import openvino

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather not be traced
        replace_modules(network, PointwiseConv3d, _convolution)
        if replace_modules(network, GroupShift, _Gather):
            _in_pytorch(network, image)()  # settles what is gathered, before anything is traced
        traced = torch.jit.trace(network, image, check_trace=False)  # its output is checked with everybody's
        model = openvino.convert_model(traced, input=list(image.shape))
    compiled = openvino.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        },
    )
    request, pixels = compiled.create_infer_request(), image.numpy()
    return lambda: torch.from_numpy(request.infer([pixels], share_inputs=True, share_outputs=True)[compiled.output(0)])


def _convolution(pointwise: PointwiseConv3d) -> nn.Conv3d:
    """Return what OpenVINO runs a little faster than a matrix product."""
    convolution = nn.Conv3d(pointwise.in_channels, pointwise.out_channels, 1, bias=pointwise.bias is not None)
    convolution.load_state_dict(pointwise.state_dict())
    return convolution


class _Gather(nn.Module):
    """A group shift as OpenVINO can read it, without an autograd function; for the shape of the first call."""

    def __init__(self, shift: GroupShift):
        super().__init__()
        self.shift = shift
        self.source: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        n_blocks = self.shift.spatial_groups[-1]
        if self.source is None:
            runs = torch.arange(x[..., 0].numel() * n_blocks).view(*x.shape[:-1], n_blocks)
            self.source = self.shift(runs).flatten()
        return x.reshape(-1, x.shape[-1] // n_blocks).index_select(0, self.source).view(x.shape)


WAYS: dict[str, Callable[[Any, Tensor], Contender]] = {
    "PyTorch": _in_pytorch,
    "fused": _in_fused_layers,
    "OpenVINO": _in_openvino,
}


def save_model(trainer: nnUNetTrainer, dataset: Mapping[str, Any]) -> Path:
    """Write the files of a training that a prediction reads.

    Args:
        trainer: initialised trainer, whose weights are written.
        dataset: content of dataset.json.

    Returns:
        The model folder TRAINER__PLANS__CONFIGURATION.
    """
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()  # settles the axes to mirror
    trainer._best_ema = 0.0
    trainer.save_checkpoint(str(Path(trainer.output_folder, "checkpoint_final.pth")))
    model = Path(trainer.output_folder_base)
    (model / "plans.json").write_text(json.dumps(trainer.plans_manager.plans))
    (model / "dataset.json").write_text(json.dumps(dataset))
    return model
