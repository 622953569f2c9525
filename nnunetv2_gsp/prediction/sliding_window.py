"""Predicts the logits of a preprocessed image window by window, with nnU-Net's windows, weights and mirroring."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations, product
from typing import Any

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunetv2_gsp.architectures import GSPUNet
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.prediction.sparing import sparing

CPU = torch.device("cpu")
Window = tuple[slice | int, ...]  # index into (channels, D, H, W)


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
        axes = [axis + 2 for axis in self.mirroring_axes]  # behind batch and channels
        self._mirrorings = list(chain.from_iterable(combinations(axes, n) for n in range(1, len(axes) + 1)))
        self._nnunets = None if self.device.type == "cpu" else self._nnunets_predictor()

    def get_ready(self) -> None:
        """Compute what all windows share, for 0.3 s in which the first image may be read."""
        if self._nnunets is None:
            self._window_weights  # noqa: B018 (cached)

    @torch.inference_mode()
    def predict_logits_from_preprocessed_data(self, image: Tensor) -> Tensor:
        """Return logits (classes, D, H, W) on the CPU of a preprocessed image (channels, D, H, W), also for a 2d model.

        Raises:
            InputError: the network makes numbers of the image that are not finite.
        """
        if self._nnunets is not None:
            return _finite(_logits_of(self._nnunets, image))
        patch_size = self.configuration_manager.patch_size
        image, without_padding = pad_nd_image(image, patch_size, "constant", {"value": 0}, True, None)
        first, *others = self.fold_weights
        with _nnunets_threads():
            logits = self._of_fold(first, image)
            for weights in others:
                logits += self._of_fold(weights, image)
        if others:
            logits /= len(self.fold_weights)
        inside = (slice(None), *without_padding[1:])
        return logits[inside]

    def _of_fold(self, weights: dict[str, Any], image: Tensor) -> Tensor:
        self.network.load_state_dict(weights)
        window_weights, windows = self._window_weights, self._windows(image.shape[1:])
        logits = torch.zeros((self.label_manager.num_segmentation_heads, *image.shape[1:]))
        for n_done, window in enumerate(windows):
            self.on_window(n_done, len(windows))
            self._add_window(image[window][None].contiguous(), window_weights, logits[window])
        sum_of_weights = torch.zeros(image.shape[1:])  # not before, as the network needs most of the memory
        for window in windows:
            sum_of_weights[window[1:]] += window_weights
        logits /= sum_of_weights
        return _finite(logits)

    def _windows(self, size: Sequence[int]) -> list[Window]:
        """Return nnU-Net's windows in an image of this size (D, H, W); a 2d model has some in every slice."""
        patch_size = self.configuration_manager.patch_size
        n_axes_of_slices = len(size) - len(patch_size)
        firsts = compute_steps_for_sliding_window(tuple(size[n_axes_of_slices:]), patch_size, self.step_size)
        slices: list[Sequence[int]] = [range(n) for n in size[:n_axes_of_slices]]
        return [
            (slice(None), *first[:n_axes_of_slices], *map(_from, first[n_axes_of_slices:], patch_size))
            for first in product(*slices, *firsts)
        ]

    def _add_window(self, window: Tensor, weights: Tensor, sums: Tensor) -> None:
        """Add weights · logits of a window (1, channels, *patch) to sums (classes, *patch)."""
        if isinstance(self._forward, GSPUNet) and not self._mirrorings:
            self._forward.add_logits(window, weights, sums)
        else:
            sums.addcmul_(self._of_window(window), weights)

    def _of_window(self, window: Tensor) -> Tensor:
        """Return logits (classes, *patch) of a window (1, channels, *patch), the mean over all mirrorings."""
        logits = self._forward(window)
        for axes in self._mirrorings:
            logits += self._forward(window.flip(axes)).flip(axes)
        return logits[0].div_(len(self._mirrorings) + 1) if self._mirrorings else logits[0]

    @cached_property
    def _window_weights(self) -> Tensor:
        patch_size = tuple(self.configuration_manager.patch_size)
        weights: Tensor = compute_gaussian(patch_size, sigma_scale=1 / 8, value_scaling_factor=10, device=CPU)
        return weights.float()  # rounded to fp16 as nnU-Net's are

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


def _logits_of(nnunets: Any, image: Tensor) -> Tensor:
    """Let nnU-Net's predictor predict."""
    try:
        logits: Tensor = nnunets.predict_logits_from_preprocessed_data(image)
    except RuntimeError as error:
        if not str(error).startswith("Encountered inf"):  # which nnU-Net finds, but no NaN
            raise
        raise _not_finite() from error
    return logits


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
