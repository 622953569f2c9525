"""Predicts the logits of a preprocessed image window by window, with nnU-Net's windows, weights and mirroring."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations, groupby, product
from typing import Any, NamedTuple

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.utilities.label_handling.label_handling import LabelManager, determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.prediction.slabs import Logits, Slab
from nnunetv2_gsp.prediction.sparing import sparing

CPU = torch.device("cpu")
Window = tuple[slice | int, ...]  # index into (channels, D, H, W)
_ALL = slice(None)
_SLICES = 16  # of a row of a 2d model


def _tell_nobody(n_done: int, n_windows: int) -> None: ...


@dataclass
class Predictor:
    """A trained model that predicts; on the CPU it sums up windows in fp32, where nnU-Net rounds each sum to fp16.

    Another device is left to nnU-Net's predictor.

    Attributes:
        plans_manager: plans of the model.
        configuration_manager: configuration of the plans that the model has.
        dataset_json: content of the model's dataset.json.
        trainer_name: name of the trainer's class.
        network: network without deep supervision; its weights are replaced.
        fold_weights: state_dict of each fold; logits are averaged over folds.
        mirroring_axes: spatial axes, from 0 on, along which windows are mirrored; logits are averaged over all ways.
        device: device that the network works on.
        all_on_device: True keeps image and sums on the device, too, as long as they fit.
        step_size: step from window to window, as a part of the patch size, above 0 and up to 1.
        on_window: called before each window with the number of windows that are done, and of all; on the CPU alone.
    """

    plans_manager: PlansManager
    configuration_manager: ConfigurationManager
    dataset_json: dict[str, Any]
    trainer_name: str
    network: nn.Module
    fold_weights: Sequence[dict[str, Any]]
    mirroring_axes: Sequence[int] = ()
    device: torch.device = CPU
    all_on_device: bool = True
    step_size: float = 0.5
    on_window: Callable[[int, int], None] = _tell_nobody

    def __post_init__(self) -> None:
        """Prepare what all windows and images share."""
        self.label_manager: LabelManager = self.plans_manager.get_label_manager(self.dataset_json)
        is_compiled = os.environ.get("nnUNet_compile", "").lower() in ("true", "1", "t")
        self._forward: Callable[[Tensor], Tensor] = self.network.eval()
        if self.device.type == "cpu":
            self._forward = torch.compile(self.network) if is_compiled else sparing(self.network)
        axes = self.mirroring_axes
        self._mirrorings = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))
        self._nnunets = None if self.device.type == "cpu" else self._nnunets_predictor()

    def get_ready(self) -> None:
        """Do what needs no image, while the first one may be read: 0.3 s, or as long as a GPU takes to start."""
        if self._nnunets is None:
            self._mean_weights  # noqa: B018 (cached)
            return
        channels = determine_num_input_channels(self.plans_manager, self.configuration_manager, self.dataset_json)
        patch_size = self.configuration_manager.patch_size
        with suppress(RuntimeError):  # of memory, say, which the first image will tell
            self._nnunets.predict_sliding_window_return_logits(
                torch.zeros(channels, *[1] * (3 - len(patch_size)), *patch_size)
            )

    def predict_logits_from_preprocessed_data(self, image: Tensor) -> Tensor:
        """Return logits (classes, D, H, W) on the CPU of a preprocessed image (channels, D, H, W), also for a 2d model.

        Raises:
            InputError: the network makes numbers of the image that are not finite.
        """
        return self.logits_of(image).whole().cpu()

    def logits_of(self, image: Tensor) -> Logits:
        """Return the same, computed when it is asked for: on the CPU a slab for each row of windows.

        Sums are in memory of as many slices as a window has, or of some for a 2d model. Another device gives all logits
        at once. They stay there if there is one fold, `all_on_device` is True and they fit.

        Raises:
            InputError: as above, when a slab is asked for.
        """
        shape = (self.label_manager.num_segmentation_heads, *image.shape[1:])
        return Logits(shape, self._slabs(image) if self._nnunets is None else self._nnunets_slab(image))

    @torch.inference_mode()
    def _slabs(self, image: Tensor) -> Iterator[Slab]:
        patch_size = self.configuration_manager.patch_size
        image, without_padding = pad_nd_image(image, patch_size, "constant", {"value": 0}, True, None)
        _, inside_d, *inside = without_padding
        rows = self._rows(image.shape[1:])
        n_windows, n_done = len(self.fold_weights) * sum(len(row.windows) for row in rows), 0
        sums = _Sums(self.label_manager.num_segmentation_heads, rows[0].stop - rows[0].first, image.shape[2:])
        for row, end in zip(rows, [*(row.first for row in rows[1:]), rows[-1].stop], strict=True):
            with _nnunets_threads():
                for weights in self.fold_weights:
                    if n_done == 0 or len(self.fold_weights) > 1:
                        self.network.load_state_dict(weights)
                    for window in row.windows:
                        self.on_window(n_done, n_windows)
                        self._add_window(image[window][None].contiguous(), *sums.of(window, row.first))
                        n_done += 1
                logits = sums.finished(end - row.first)
            # with the slice before, and without those that pad the image
            first, stop = max(row.first - 1, inside_d.start), min(end, inside_d.stop)
            index: Window = (_ALL, slice(first - row.first + 1, stop - row.first + 1), *inside)
            yield Slab(first - inside_d.start, _finite(logits[index]))
            sums.move(end - row.first)

    def _nnunets_slab(self, image: Tensor) -> Iterator[Slab]:
        """Let nnU-Net's predictor predict; the network has the weights of a single fold already."""
        nnunets: Any = self._nnunets
        predict = (
            nnunets.predict_logits_from_preprocessed_data
            if len(self.fold_weights) > 1
            else nnunets.predict_sliding_window_return_logits
        )
        try:
            logits: Tensor = predict(image)
        except RuntimeError as error:
            if not str(error).startswith("Encountered inf"):  # which nnU-Net finds, but no NaN
                raise
            raise _not_finite() from error
        yield Slab(0, _finite(logits))

    def _rows(self, size: Sequence[int]) -> "list[_Row]":
        """Return nnU-Net's windows in an image of this size (D, H, W), in rows that begin at the same slice.

        A 2d model has some in every slice, and a row of several slices.
        """
        patch_size = self.configuration_manager.patch_size
        firsts = compute_steps_for_sliding_window(tuple(size[-len(patch_size) :]), patch_size, self.step_size)
        along = [[_from(first, length) for first in each] for each, length in zip(firsts, patch_size, strict=True)]
        if len(patch_size) == len(size):
            [along_d, *in_slices] = along
            # nnU-Net's steps come to the same slice more than once where they are shorter than a slice
            return [
                _Row(first, first + patch_size[0], [(_ALL, *rest) for rest in product(same, *in_slices)])
                for first, same in groupby(along_d, key=lambda at: at.start)
            ]
        some = [range(first, min(first + _SLICES, size[0])) for first in range(0, size[0], _SLICES)]
        return [_Row(each.start, each.stop, [(_ALL, *rest) for rest in product(each, *along)]) for each in some]

    def _add_window(self, window: Tensor, sums: Tensor, sums_of_weights: Tensor) -> None:
        """Add weights · logits of a window (1, channels, *patch) to sums (classes, *patch), and weights to theirs.

        Logits are the mean over all mirrorings.
        """
        sums_of_weights += self._window_weights
        if isinstance(self._forward, GSPUNet):
            unmirrored, *mirrorings = self._mirrorings
            self._forward.add_logits(window, self._mean_weights, sums, unmirrored)
            mirrored = torch.empty_like(window)
            for axes in mirrorings:
                # not `torch.flip`: the first touch of its new tensor takes longer than all else in it
                np.copyto(mirrored.numpy(), np.flip(window.numpy(), tuple(axis + 2 for axis in axes)))
                self._forward.add_logits(mirrored, self._mean_weights, sums, axes)
        else:
            sums.addcmul_(self._of_window(window), self._window_weights)

    def _of_window(self, window: Tensor) -> Tensor:
        """Return logits (classes, *patch) of a window (1, channels, *patch), the mean over all mirrorings."""
        _, *mirrorings = self._mirrorings
        logits = self._forward(window)
        for axes in mirrorings:
            behind = [axis + 2 for axis in axes]
            logits += self._forward(window.flip(behind)).flip(behind)
        return logits[0].div_(len(self._mirrorings))

    @cached_property
    def _window_weights(self) -> Tensor:
        patch_size = tuple(self.configuration_manager.patch_size)
        weights: Tensor = compute_gaussian(patch_size, sigma_scale=1 / 8, value_scaling_factor=10, device=CPU)
        return weights.float()  # rounded to fp16 as nnU-Net's are

    @cached_property
    def _mean_weights(self) -> Tensor:
        """Weights of a window's logits in one of all mirrorings, whose number is a power of 2."""
        return self._window_weights / len(self._mirrorings)

    def _nnunets_predictor(self) -> Any:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # takes longer to import than all above

        predictor = nnUNetPredictor(
            tile_step_size=self.step_size,
            use_mirroring=bool(self.mirroring_axes),
            perform_everything_on_device=self.all_on_device,
            device=self.device,
            allow_tqdm=False,
        )
        predictor.manual_initialization(
            self.network,
            self.plans_manager,
            self.configuration_manager,
            list(self.fold_weights),
            self.dataset_json,
            self.trainer_name,
            tuple(self.mirroring_axes),
        )
        return predictor


class _Row(NamedTuple):
    """Windows that lie in some slices of an image: all in each of them, or those of a 2d model in one.

    Attributes:
        first: index of the first slice.
        stop: index behind the last one.
        windows: the windows.
    """

    first: int
    stop: int
    windows: list[Window]


class _Sums:
    """Sums of a row's windows in memory, behind the last slice of the row before.

    Args:
        n_classes: number of classes.
        depth: number of slices of a row.
        size: voxels (H, W) of a slice.
    """

    def __init__(self, n_classes: int, depth: int, size: Sequence[int]):
        self._all = torch.zeros(n_classes + 1, 1 + depth, *size)  # the weights are one class more
        self._depth = depth

    def of(self, window: Window, first: int) -> tuple[Tensor, Tensor]:
        """Return sums of logits (classes, *patch) and of weights (*patch) in a window of the row from `first` on."""
        _, along_d, *others = window
        at = along_d - first + 1 if isinstance(along_d, int) else slice(1, None)
        index: Window = (_ALL, at, *others)
        here = self._all[index]
        return here[:-1], here[-1]

    def finished(self, n: int) -> Tensor:
        """Return logits (classes, 1 + n, H, W) of the slice before and of the next n, which no window changes again."""
        self._all[:-1, 1 : 1 + n] /= self._all[-1, 1 : 1 + n]
        return self._all[:-1, : 1 + n]

    def move(self, n: int) -> None:
        """Move to the next row, which begins n slices behind this one."""
        n_left = 1 + self._depth - n
        for first in range(0, n_left, n):  # what is read is not what is written
            some = slice(first, min(first + n, n_left))
            self._all[:, some] = self._all[:, some.start + n : some.stop + n]
        self._all[:, n_left:] = 0


def _finite(logits: Tensor) -> Tensor:
    """Return logits (classes, D, H, W); raise InputError if one is NaN or infinite."""
    if not all(torch.isfinite(torch.stack(torch.aminmax(of_class))).all() for of_class in logits):
        raise _not_finite()
    return logits


def _not_finite() -> InputError:
    return InputError("finite logits", "some that are NaN or infinite", remedy="look for such voxels in the image")


def _from(first: int, size: int) -> slice:
    return slice(first, first + size)


@contextmanager
def _nnunets_threads() -> Iterator[None]:
    """Let torch take no more threads than nnU-Net lets it."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(default_num_processes, before))
    try:
        yield
    finally:
        torch.set_num_threads(before)
