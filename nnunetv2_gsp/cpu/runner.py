"""Lays out programs in memory, and runs all their layers in one call into C."""

import ctypes
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnunetv2_gsp.cpu.library import (
    ALL_ROWS,
    ARENA,
    IMAGE,
    LOGITS,
    MAX_CHUNKS,
    NONE,
    PACKED_MULTIPLE,
    FloatPointer,
    FusedLayers,
    Input,
    Layer,
    Map,
    Target,
)
from nnunetv2_gsp.cpu.program import Buffer, NotFusable, Program, Read, Step, round_up, three
from nnunetv2_gsp.ops.instance_norm import LEAST_DEVIATION

Three = ctypes.c_int32 * 3
DOUBLE = 2  # floats


class Runner:
    """A program for batches of a fixed size, laid out in an arena of `arena_floats` floats.

    It points at the weights in memory, so it is valid until other memory takes their place.

    Args:
        program: program that is run.
        n_samples: number of samples in the batch, from 1 on.
        target: where logits of a single sample and of one resolution are summed up, as `target_in` returns it; None
            stores them.

    Raises:
        NotFusable: the weights are not contiguous fp32 parameters on the CPU in the shapes of their convolutions.
    """

    def __init__(self, program: Program, n_samples: int, target: Target | None = None):
        self.program = program
        self.n_samples = n_samples
        layout = Layout(program.steps, spaces_in(program), n_samples, program.n_axes)
        self._layers = layout.layers()
        if target is not None:
            [logits] = program.logits
            self._layers[[step.out for step in program.steps].index(logits)].target = ctypes.pointer(target)
        self.arena_floats = layout.floats

    def run(self, fused_layers: FusedLayers, image: Tensor, logits: Sequence[Tensor], arena: Tensor) -> None:
        """Compute `logits` (N, classes, *spatial) from `image` (N, channels, *spatial), all contiguous fp32.

        Args:
            fused_layers: build of the compiled layers, as `library.fused_layers` returns it.
            image: input (N, channels, *spatial), which is only read.
            logits: outputs (N, classes, *spatial) as `new_logits` returns them, which are overwritten; none where
                there is a target.
            arena: scratch memory of at least `arena_floats` floats that is not used elsewhere during the call.

        Raises:
            MemoryError: no memory is left for the threads.
        """
        check_memory(
            fused_layers.run(
                self._layers,
                len(self._layers),
                self.n_samples,
                torch.get_num_threads(),
                spaces_of(arena, image, None, *logits),
            )
        )


def spaces_in(program: Program, image: int = IMAGE) -> dict[Buffer, int]:
    """Return the spaces of the buffers that are PyTorch tensors: `image`, and LOGITS and on for the logits."""
    return {program.image: image, **{logits: LOGITS + index for index, logits in enumerate(program.logits)}}


def new_logits(fused_layers: FusedLayers, program: Program, n_samples: int) -> list[Tensor]:
    """Return memory for the logits (n_samples, classes, *spatial) of every resolution, fp32."""
    return [
        fused_layers.new_memory(n_samples, logits.channels, *logits.size[-program.n_axes :])
        for logits in program.logits
    ]


def target_in(program: Program, sums: Tensor, weights: Tensor, mirrored: Collection[int] = ()) -> Target | None:
    """Return where C adds weights · logits of one resolution; None where it can't.

    Args:
        program: program that computes the logits.
        sums: sums (classes, *spatial), a part of a larger volume; only rows have to be contiguous. They must stay in
            memory as long as they are added to, and so must the weights.
        weights: weights (*spatial) of the voxels.
        mirrored: spatial axes, from 0 on, along which logits are mirrored on their way to the sums.
    """
    [logits] = program.logits
    size = logits.size[-program.n_axes :]
    if not (
        all(tensor.dtype is torch.float32 and tensor.device.type == "cpu" for tensor in (sums, weights))
        and sums.shape == (logits.channels, *size)
        and sums.stride(-1) == 1
        and weights.shape == size
        and weights.is_contiguous()
    ):
        return None
    of_classes, *of_sums = sums.stride()
    first_sum, of_axes = _from_the_first_voxel(sums, of_sums, size, mirrored)
    first_weight, of_weights = _from_the_first_voxel(weights, weights.stride(), size, mirrored)
    return Target(
        ctypes.cast(first_sum, FloatPointer),
        first_weight,
        (ctypes.c_int64 * 3)(of_classes, *three(of_axes[:-1], 0)[1:]),
        (ctypes.c_int64 * 2)(*three(of_weights[:-1], 0)[1:]),
        of_axes[-1],
    )


def _from_the_first_voxel(
    tensor: Tensor, strides: Sequence[int], size: Sequence[int], mirrored: Collection[int]
) -> tuple[int, list[int]]:
    """Return the address of the voxel that comes first, and the strides of the spatial axes from there on."""
    behind = sum((size[axis] - 1) * strides[axis] for axis in mirrored)
    first = tensor.data_ptr() + tensor.element_size() * behind
    return first, [-stride if axis in mirrored else stride for axis, stride in enumerate(strides)]


def spaces_of(*tensors: Tensor | None) -> Any:
    """Return the addresses of ARENA, IMAGE, GRADIENTS, LOGITS and the spaces behind them, as C takes them."""
    return (ctypes.c_void_p * len(tensors))(*(None if tensor is None else tensor.data_ptr() for tensor in tensors))


def check_memory(status: int) -> None:
    """Raise MemoryError if C reports that the threads had no memory to work in.

    Examples:
        >>> check_memory(1)
        Traceback (most recent call last):
        MemoryError: No memory is left for the threads of the fused layers: compute with fewer threads.
    """
    if status:
        raise MemoryError("No memory is left for the threads of the fused layers: compute with fewer threads.")


class Layout:
    """Offsets in the arena. Maps share memory if the last reader of one comes before the writer of the other.

    Args:
        steps: steps of the program, in the order in which they run.
        spaces: buffer that lies outside of the arena -> its space.
        n_samples: number of samples in the batch, from 1 on.
        n_axes: number of spatial axes, 2 or 3.
        kept: buffers that are needed after the last step.

    Attributes:
        floats: size of the arena in floats.
        offsets: buffer -> offset of its map in the arena, in floats.
        coefficients: step with a norm -> where the norm's scales and its offsets lie in the arena.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        spaces: Mapping[Buffer, int],
        n_samples: int,
        n_axes: int,
        kept: Collection[Buffer] = (),
    ):
        self.steps = steps
        self.spaces = spaces
        self.n_samples = n_samples
        self.n_axes = n_axes
        self.offsets, self.floats = place(steps, spaces, n_samples, kept)
        self.coefficients = {
            step: (self._reserve(n_samples * step.out.channels), self._reserve(n_samples * step.out.channels))
            for step in steps
            if step.norm is not None
        }

    def layers(self) -> Any:
        """Describe the steps to C, in an array.

        Raises:
            NotFusable: see `Runner`.
        """
        layers = (Layer * len(self.steps))(*map(self._layer, self.steps))
        for layer, step in zip(layers, self.steps, strict=True):
            _point_at_weights(layer, step)
        return layers

    def _layer(self, step: Step) -> Layer:
        """Return the C structure of a step, without its weights, which change between calls."""
        scale, offset = self.coefficients.get(step, (NONE, NONE))
        channels = step.out.channels
        moments = NONE if step.norm is None else self._reserve(self.n_samples * n_chunks(step) * channels * 2 * DOUBLE)
        packed = self._reserve(sum(read.buffer.channels for read in step.reads) * round_up(channels, PACKED_MULTIPLE))
        return Layer(
            inputs=(Input * 2)(*map(self._input, step.reads)),
            low=Map() if step.low is None else self._map(step.low),
            out=self._map(step.out),
            packed=packed,
            scale=scale,
            offset=offset,
            moments=moments,
            n_inputs=len(step.reads),
            has_low=step.low is not None,
            factor=Three(*step.factor),
            log2_rows=step.log2_rows,
        )

    def _input(self, read: Read) -> Input:
        scale, offset = self.coefficients.get(read.producer, (NONE, NONE)) if read.producer else (NONE, NONE)
        group, local = read.group_shift, read.local_shift
        groups = (1,) * 3 if group is None else three(group.spatial_groups, 1)
        first_local = 0 if local is None else local.first_channel
        # the image and interpolated maps have no nonlinearity
        return Input(
            map=self._map(read.buffer),
            scale=scale,
            offset=offset,
            slope=1 if read.nonlin is None else read.nonlin.negative_slope,
            groups=Three(*groups),
            shift_channels=first_local if group is None else group.shift_channels,
            local_axis=3 - self.n_axes,
            local_channels=0 if local is None else local.shift_channels,
            pool=Three(*read.pool),
        )

    def _map(self, buffer: Buffer) -> Map:
        return map_of(buffer, self.spaces.get(buffer, ARENA), self.offsets.get(buffer))

    def _reserve(self, floats: int) -> int:
        begin = self.floats
        self.floats += round_up(floats)
        return begin


def n_chunks(step: Step) -> int:
    """Count the parts of a sample that a step sums up apart, as layers/tiling.h does."""
    rows = step.out.size[0] * step.out.size[1]
    return min(MAX_CHUNKS, -(-rows // min(1 << step.log2_rows, rows)))


def map_of(buffer: Buffer, space: int, offset: int | None) -> Map:
    """Describe to C a map in tiles at an offset of a space; without an offset, one that a PyTorch tensor is."""
    size = Three(*buffer.size)
    if offset is None:
        voxels = buffer.size[0] * buffer.size[1] * buffer.size[2]
        return Map(0, buffer.channels * voxels, 0, voxels, space, buffer.channels, size, ALL_ROWS)
    return Map(
        offset,
        buffer.sample_stride,
        buffer.tile_stride,
        buffer.channel_stride,
        space,
        buffer.channels,
        size,
        buffer.log2_rows,
    )


class _Life(NamedTuple):
    """A map and the first and the last step that need it."""

    buffer: Buffer
    first: int
    last: int


def place(
    steps: Sequence[Step], elsewhere: Collection[Buffer], n_samples: int, kept: Collection[Buffer] = ()
) -> tuple[dict[Buffer, int], int]:
    """Place the largest maps first, each at the lowest offset where nothing else lies while it lives.

    A map lives from the first step that names it to the last, or to the end where it is kept.

    Args:
        steps: steps of a program, in the order in which they run.
        elsewhere: buffers that need no place.
        n_samples: number of samples in the batch, from 1 on.
        kept: buffers that are needed after the last step.

    Returns:
        The offset of each buffer, and the size of the whole, in floats.

    Examples:
        >>> a, b, c = (Buffer(16, (1, 8, 8)) for _ in range(3))
        >>> steps = [Step((Read(a),), b), Step((Read(b),), c)]  # a is not needed any more when c is written
        >>> offsets, _ = place(steps, elsewhere=[], n_samples=1)
        >>> offsets[a] == offsets[c]
        True
    """
    named_in: dict[Buffer, list[int]] = {}
    for index, step in enumerate(steps):
        for buffer in dict.fromkeys((step.out, step.low, *(read.buffer for read in step.reads))):
            if buffer is None or buffer in elsewhere:
                continue
            named_in.setdefault(buffer, []).append(index)
    lives = [
        _Life(buffer, indices[0], len(steps) if buffer in kept else indices[-1]) for buffer, indices in named_in.items()
    ]
    offsets: dict[Buffer, int] = {}
    floats = 0
    placed: list[_Life] = []
    for life in sorted(lives, key=lambda life: -life.buffer.sample_stride):
        size = n_samples * life.buffer.sample_stride
        taken = sorted(
            (offsets[other.buffer], n_samples * other.buffer.sample_stride)
            for other in placed
            if other.first <= life.last and life.first <= other.last
        )
        offsets[life.buffer] = begin = _first_gap(taken, size)
        floats = max(floats, begin + size)
        placed.append(life)
    return offsets, floats


def _first_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """Return the first offset where `size` floats fit between the taken ranges (begin, size), which are sorted."""
    begin = 0
    for taken_begin, taken_size in taken:
        if taken_begin - begin >= size:
            break
        begin = max(begin, taken_begin + taken_size)
    return begin


def _point_at_weights(layer: Layer, step: Step) -> None:
    convolution: Any
    if step.weights is not None:
        convolution, first_column, has_bias = step.weights
        columns, ones = convolution.in_channels, (1,) * len(convolution.kernel_size)
        layer.weight = _address(convolution.weight, (step.out.channels, columns, *ones)) + first_column * ctypes.sizeof(
            ctypes.c_float
        )
        layer.weight_stride = columns
        if has_bias and convolution.bias is not None:
            layer.bias = _address(convolution.bias, (step.out.channels,))
    if step.norm is not None:
        layer.eps, layer.least_deviation = step.norm.eps, LEAST_DEVIATION
        layer.gamma, layer.beta = (
            None if parameter is None else _address(parameter, (step.out.channels,))
            for parameter in (step.norm.weight, step.norm.bias)
        )


def _address(parameter: Any, shape: tuple[int, ...]) -> int:
    if not (
        type(parameter) is torch.nn.Parameter
        and parameter.shape == shape
        and parameter.dtype is torch.float32
        and parameter.device.type == "cpu"
        and parameter.layout is torch.strided
        and parameter.is_contiguous()
    ):
        raise NotFusable(f"expected a contiguous fp32 parameter of shape {shape} on the CPU, got {type(parameter)}")
    return parameter.data_ptr()
