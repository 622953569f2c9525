"""GSPUNet: the U-Net that nnU-Net planned, with 1×1×1 convolutions and group shifts in between."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from dynamic_network_architectures.building_blocks.helper import (
    convert_conv_op_to_dim,
    get_matching_pool_op,
)
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from nnunetv2_gsp.architectures.architecture import Architecture, Operators, Stages
from nnunetv2_gsp.architectures.blocks import GSPConvBlock, shift_or_identity
from nnunetv2_gsp.architectures.settings import DEFAULT_LOCATION, DEFAULT_POSITION, ShiftSettings
from nnunetv2_gsp.architectures.spatial_groups import feature_map_sizes
from nnunetv2_gsp.engines import Part, add_logits, compute
from nnunetv2_gsp.engines.engine import Engine, Map, add_weighted
from nnunetv2_gsp.ops import LinearUpsampling
from nnunetv2_gsp.ops.recording import is_intercepted

PerStage = int | Sequence[int]


class GSPUNet(Part):
    """A U-Net of Group Shift Pointwise convolutions, built from the plans' `arch_kwargs` as `PlainConvUNet` is.

    Its learnable layers are pointwise convolutions and norms. Down-sampling is max-pooling by the planned strides;
    up-sampling is a convolution at the low resolution, then linear interpolation.

    Args:
        input_channels: channels of the image, from 1 on.
        n_stages: number of resolutions, from 2 on.
        features_per_stage: channels C of every stage, the highest resolution first, or one number for all.
        conv_op: class of the convolutions, nn.Conv2d or nn.Conv3d.
        strides: one entry a stage, each a whole number from 1 on or one an axis; or one number for all.
        n_conv_per_stage: convolutions of every encoder stage, from 1 on, or one number for all.
        num_classes: channels of the logits, one for each segmentation head, from 1 on.
        n_conv_per_stage_decoder: convolutions of every decoder stage, from 1 on, lowest resolution first, or one number
            for all.
        spatial_groups: (g_d, g_h[, g_w]) of every stage, counts from 1 on that divide its feature map; resolved, since
            they depend on the patch size.
        shift_channels: number C_s of shifted channels of every stage, a multiple of the product of its groups from 0 to
            C; without it about half of the channels, as in the paper.
        shift_position: where in a block the shifts come: none, CSC, CCS, CSCS or CSCSUpShift (Fig. 2 of the paper).
        shift_location: the half of the network that shifts: encoder, decoder or both.
        local_shift_channels: number of channels behind the first C_s that move by single voxels in every stage, a
            multiple of the number of directions from 0 to C - C_s; without it none, as in the paper.
        kernel: edge of every convolution but the heads, in voxels: 1, or 3 for the paper's baseline (Table 1, 3D FCN).
        kernel_sizes: accepted because stock plans have them, and ignored in favour of `kernel`.
        conv_bias, norm_op, norm_op_kwargs, dropout_op, dropout_op_kwargs, nonlin, nonlin_kwargs, nonlin_first: as in
            `PlainConvUNet`.
        deep_supervision: True returns logits of every decoder stage, False of the highest resolution alone. The heads
            are always built, so that weights load either way.

    Raises:
        ValueError: an argument does not have one fitting entry a stage, or is not among its choices (`rules.py`).

    Examples:
        >>> import torch
        >>> stages = {"n_stages": 2, "features_per_stage": [16, 32], "strides": [1, 2], "conv_op": nn.Conv2d}
        >>> blocks = {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2, "spatial_groups": [(2, 2), (4, 4)]}
        >>> GSPUNet(input_channels=1, num_classes=3, **stages, **blocks).eval()(torch.zeros(1, 1, 16, 16)).shape
        torch.Size([1, 3, 16, 16])
    """

    # of `nnunetv2_gsp.engines.ENGINES`; None for what NNUNETV2_GSP_ENGINE says
    engine: str | None = None

    def __init__(
        self,
        input_channels: int,
        n_stages: int,
        features_per_stage: PerStage,
        conv_op: type[_ConvNd],
        strides: int | Sequence[int | Sequence[int]],
        n_conv_per_stage: PerStage,
        num_classes: int,
        n_conv_per_stage_decoder: PerStage,
        spatial_groups: Sequence[Sequence[int]],
        shift_channels: Sequence[int] | None = None,
        shift_position: str = DEFAULT_POSITION,
        shift_location: str = DEFAULT_LOCATION,
        local_shift_channels: Sequence[int] | None = None,
        kernel: int = 1,
        kernel_sizes: Any = None,
        conv_bias: bool = False,
        norm_op: type[nn.Module] | None = None,
        norm_op_kwargs: dict[str, Any] | None = None,
        dropout_op: type[_DropoutNd] | None = None,
        dropout_op_kwargs: dict[str, Any] | None = None,
        nonlin: type[nn.Module] | None = None,
        nonlin_kwargs: dict[str, Any] | None = None,
        deep_supervision: bool = False,
        nonlin_first: bool = False,
    ):
        super().__init__()
        n_axes = convert_conv_op_to_dim(conv_op)
        stages = Stages.checked(
            n_axes, n_stages, features_per_stage, strides, n_conv_per_stage, n_conv_per_stage_decoder
        )
        self.shift_settings = ShiftSettings.checked(
            stages.features_per_stage,
            n_axes,
            spatial_groups=spatial_groups,
            shift_channels=shift_channels,
            shift_position=shift_position,
            shift_location=shift_location,
            local_shift_channels=local_shift_channels,
        )
        architecture = Architecture(stages, self.shift_settings, kernel)
        self.register_buffer("gsp_settings", self.shift_settings.to_tensor())

        convolution = Operators(
            conv_op,
            conv_bias,
            norm_op,
            norm_op_kwargs,
            dropout_op,
            dropout_op_kwargs,
            nonlin,
            nonlin_kwargs,
            nonlin_first,
        ).of_convolution(architecture.kernel)
        self.encoder = GSPEncoder(input_channels, architecture, convolution)
        self.decoder = GSPDecoder(num_classes, architecture, convolution, deep_supervision)

    def walk(self, image: Map, engine: Engine[Map]) -> Map | list[Map]:
        """Map (N, input_channels, *patch) to logits (N, num_classes, *patch), in the engine's terms.

        With deep supervision to a list of them, the full resolution first.
        """
        return engine.through(self.decoder, engine.through(self.encoder, image))  # type: ignore[no-any-return]

    def parts(self) -> tuple[nn.Module, ...]:
        """Return encoder and decoder."""
        return self.encoder, self.decoder

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Map an image (N, input_channels, *patch) to logits (N, num_classes, *patch).

        With deep supervision to a list of them, the full resolution first. The attribute `engine` chooses what computes
        them (`nnunetv2_gsp.engines`).
        """
        return compute(self, x)

    def add_logits(self, x: Tensor, weights: Tensor, sums: Tensor, mirrored: Sequence[int] = ()) -> None:
        """Add weights · logits of an image to sums; with the fused layers there is never memory for the logits.

        Args:
            x: image (1, input_channels, *patch).
            weights: weights (*patch) of the voxels.
            sums: sums (num_classes, *patch), in any strides.
            mirrored: spatial axes, from 0 on, along which the image was mirrored, and the logits are before they are
                added.
        """
        if self._is_called_as_it_is():
            add_logits(self, x, weights, sums, mirrored)
        else:
            [logits] = self(x)
            add_weighted(logits, weights, sums, mirrored)

    def _is_called_as_it_is(self) -> bool:
        """Tell whether a call is `forward` of this class and nothing else."""
        is_own = type(self).forward is GSPUNet.forward and not is_intercepted(self)
        return is_own and self._compiled_call_impl is None

    def compute_conv_feature_map_size(self, input_size: Sequence[int]) -> int:
        """Count the elements of every convolution's output; nnU-Net's planner estimates GPU memory from it.

        Args:
            input_size: patch size in voxels along each spatial axis.

        Examples:
            >>> stages = {"n_stages": 2, "features_per_stage": [8, 16], "strides": [1, 2], "conv_op": nn.Conv2d}
            >>> blocks = {"n_conv_per_stage": 2, "n_conv_per_stage_decoder": 2, "spatial_groups": [(2, 2), (4, 4)]}
            >>> GSPUNet(input_channels=1, num_classes=3, **stages, **blocks).compute_conv_feature_map_size((16, 16))
            11520
        """
        map_sizes = feature_map_sizes(input_size, self.encoder.strides)
        return self.encoder.compute_conv_feature_map_size(map_sizes) + self.decoder.compute_conv_feature_map_size(
            map_sizes
        )

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Initialise as `PlainConvUNet` does: He for leaky ReLU, biases 0.

        Examples:
            >>> nn.Conv3d(1, 4, kernel_size=1).apply(GSPUNet.initialize).bias.tolist()
            [0.0, 0.0, 0.0, 0.0]
        """
        InitWeights_He(1e-2)(module)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Refuse weights that were trained with other settings: their shapes would fit, but predictions be nonsense."""
        saved = state_dict.get(prefix + "gsp_settings")
        if saved is not None and ShiftSettings.from_tensor(saved) != self.shift_settings:
            raise ValueError(
                f"These weights were trained with other GSP settings than this network has, "
                f"[{ShiftSettings.from_tensor(saved)}] instead of [{self.shift_settings}]: use the plans that were "
                f"saved beside the weights."
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class GSPEncoder(Part):
    """Max-pooling and a convolution block in each stage; returns the features of every stage."""

    def __init__(self, input_channels: int, architecture: Architecture, convolution: dict[str, Any]):
        super().__init__()
        stages, settings = architecture.stages, architecture.shifts
        features = stages.features_per_stage
        self.strides = stages.strides
        max_pool = get_matching_pool_op(convolution["conv_op"], pool_type="max")
        self.pools = nn.ModuleList(
            nn.Identity() if math.prod(stride) == 1 else max_pool(stride, stride) for stride in stages.strides
        )
        self.stages = nn.ModuleList(
            GSPConvBlock(
                n_convolutions,
                channels_in,
                channels,
                _shift_maker(settings, stage),
                _position_in("encoder", settings),
                convolution,
            )
            for stage, (n_convolutions, channels_in, channels) in enumerate(
                zip(stages.n_conv_per_stage, [input_channels, *features[:-1]], features, strict=True)
            )
        )

    def walk(self, x: Map, engine: Engine[Map]) -> list[Map]:
        """Map the image to the features of every stage, the highest resolution first."""
        features = []
        for pool, stage in zip(self.pools, self.stages, strict=True):
            x = engine.finish(engine.through(stage, engine.pool(x, pool)))
            features.append(x)
        return features

    def parts(self) -> tuple[nn.Module, ...]:
        """Return the stages."""
        return tuple(self.stages)

    def compute_conv_feature_map_size(self, map_sizes: Sequence[Sequence[int]]) -> int:
        """Count the elements of every convolution's output; `map_sizes` has one entry a stage."""
        blocks = (module for module in self.modules() if isinstance(module, GSPConvBlock))
        return sum(block.compute_conv_feature_map_size(size) for block, size in zip(blocks, map_sizes, strict=True))


class GSPDecoder(Part):
    """Up-sampling, skip and convolution block in each stage, lowest resolution first, and the segmentation heads."""

    def __init__(
        self, num_classes: int, architecture: Architecture, convolution: dict[str, Any], deep_supervision: bool
    ):
        super().__init__()
        planned, settings = architecture.stages, architecture.shifts
        features = planned.features_per_stage
        self.deep_supervision = deep_supervision
        self.num_classes = num_classes
        position = _position_in("decoder", settings)
        upsamplings, stages, seg_layers = [], [], []
        for index, stage in enumerate(reversed(range(len(features) - 1))):
            make_shift = _shift_maker(settings, stage)
            channels = features[stage]
            upsamplings.append(
                ConvUpsampling(
                    features[stage + 1],
                    channels,
                    planned.strides[stage + 1],
                    convolution,
                    make_shift() if position == "CSCSUpShift" else nn.Identity(),
                )
            )
            stages.append(
                GSPConvBlock(
                    planned.n_conv_per_stage_decoder[index], 2 * channels, channels, make_shift, position, convolution
                )
            )
            seg_layers.append(convolution["conv_op"](channels, num_classes, 1, bias=True))
        self.upsamplings = nn.ModuleList(upsamplings)
        self.stages = nn.ModuleList(stages)
        self.seg_layers = nn.ModuleList(seg_layers)

    def walk(self, features: list[Map], engine: Engine[Map]) -> Map | list[Map]:
        """Map the encoder's features to logits, or with deep supervision to a list, the full resolution first."""
        x, logits = features[-1], []
        stages = zip(self.upsamplings, self.stages, self.seg_layers, features[-2::-1], strict=True)
        for number, (upsampling, stage, head, skip) in enumerate(stages):
            x = engine.through(stage, engine.join(engine.through(upsampling, x), skip))
            is_full_resolution = number == len(self.stages) - 1
            if not is_full_resolution:
                x = engine.finish(x)
            if is_full_resolution or self.deep_supervision:
                logits.append(engine.head(x, head))
        return logits[::-1] if self.deep_supervision else logits[-1]

    def parts(self) -> tuple[nn.Module, ...]:
        """Return the upsamplings and the stages."""
        return *self.upsamplings, *self.stages

    def compute_conv_feature_map_size(self, map_sizes: Sequence[Sequence[int]]) -> int:
        """Count the elements of every convolution's output that `forward` computes; one map size an encoder stage."""
        low, high = list(map_sizes[:0:-1]), list(map_sizes[-2::-1])  # lowest resolution first, as the stages
        upsamplings = (module for module in self.modules() if isinstance(module, ConvUpsampling))
        blocks = (module for module in self.modules() if isinstance(module, GSPConvBlock))
        heads = high if self.deep_supervision else high[-1:]
        return (
            sum(map(ConvUpsampling.compute_conv_feature_map_size, upsamplings, low))
            + sum(map(GSPConvBlock.compute_conv_feature_map_size, blocks, high))
            + sum(self.num_classes * math.prod(size) for size in heads)
        )


class ConvUpsampling(Part):
    """A convolution, norm and nonlinearity at the low resolution, then linear interpolation.

    The other order costs eight times as much; a 1×1×1 convolution alone commutes exactly with the interpolation.

    Examples:
        >>> import torch
        >>> convolution = {"conv_op": nn.Conv2d, "kernel_size": 1, "stride": 1}
        >>> upsampling = ConvUpsampling(16, 8, (1, 2), convolution, shift=nn.Identity())
        >>> upsampling(torch.zeros(1, 16, 4, 4)).shape
        torch.Size([1, 8, 4, 8])
    """

    def __init__(
        self,
        input_channels: int,
        output_channels: int,
        stride: tuple[int, ...],
        convolution: dict[str, Any],
        shift: nn.Module,
    ):
        super().__init__()
        self.convolution = ConvDropoutNormReLU(
            input_channels=input_channels, output_channels=output_channels, **convolution
        )
        self.interpolation = LinearUpsampling(
            scale_factor=tuple(float(step) for step in stride), mode="trilinear" if len(stride) == 3 else "bilinear"
        )
        self.shift = shift

    def compute_conv_feature_map_size(self, low_size: Sequence[int]) -> int:
        """Count the elements of the convolution's output, which has the low resolution.

        Examples:
            >>> convolution = {"conv_op": nn.Conv2d, "kernel_size": 1, "stride": 1}
            >>> upsampling = ConvUpsampling(16, 8, (1, 2), convolution, shift=nn.Identity())
            >>> upsampling.compute_conv_feature_map_size((4, 4)) == 8 * 4 * 4
            True
        """
        return int(self.convolution.compute_conv_feature_map_size(low_size))

    def walk(self, x: Map, engine: Engine[Map]) -> Map:
        """Map (N, input_channels, *low) to (N, output_channels, *high)."""
        return engine.interpolate(engine.convolve(x, self.convolution, nn.Identity()), self.interpolation, self.shift)


def _position_in(location: str, settings: ShiftSettings) -> str:
    return settings.shift_position if settings.shift_location in (location, "both") else "none"


def _shift_maker(settings: ShiftSettings, stage: int) -> Callable[[], nn.Module]:
    return partial(
        shift_or_identity,
        settings.spatial_groups[stage],
        settings.shift_channels[stage],
        settings.local_shift_channels[stage],
    )
