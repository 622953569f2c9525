"""Predicts the logits of a preprocessed image window by window, with nnU-Net's windows, weights and mirroring."""

from collections.abc import Callable

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import Tensor, nn

from nnunetv2_gsp.errors import InputError

_CPU = torch.device("cpu")


class Predictor(nnUNetPredictor):
    """nnU-Net's predictor; on the CPU it sums up windows in fp32 and in place, where nnU-Net rounds each sum to fp16.

    Attributes:
        on_window: called before each window with the number of windows that are done, and of all.
    """

    network: nn.Module
    on_window: Callable[[int, int], None] = staticmethod(lambda n_done, n_windows: None)

    @torch.inference_mode()
    def predict_sliding_window_return_logits(self, input_image: Tensor) -> Tensor:
        """Return logits (classes, D, H, W) of a preprocessed image (channels, D, H, W).

        Raises:
            InputError: the network makes numbers of the image that are not finite.
        """
        if self.device.type != "cpu":
            logits: Tensor = super().predict_sliding_window_return_logits(input_image)
            return logits
        self.network.eval()
        patch_size = self.configuration_manager.patch_size
        image, without_padding = pad_nd_image(input_image, patch_size, "constant", {"value": 0}, True, None)
        inside = (slice(None), *without_padding[1:])
        return self._mean_of_windows(image)[inside]

    def _mean_of_windows(self, image: Tensor) -> Tensor:
        window_weights, windows = self._window_weights(), self._internal_get_sliding_window_slicers(image.shape[1:])
        logits = torch.zeros(self.label_manager.num_segmentation_heads, *image.shape[1:])
        weights = torch.zeros(image.shape[1:])
        for n_done, window in enumerate(windows):
            self.on_window(n_done, len(windows))
            predicted = self._internal_maybe_mirror_and_predict(image[window][None].contiguous())[0]
            logits[window].addcmul_(predicted, window_weights)
            weights[window[1:]] += window_weights
        logits /= weights
        if not torch.isfinite(torch.stack(torch.aminmax(logits))).all():
            raise InputError(
                "finite logits", "some that are NaN or infinite", remedy="look for such voxels in the image"
            )
        return logits

    def _window_weights(self) -> Tensor:
        patch_size = tuple(self.configuration_manager.patch_size)
        if not self.use_gaussian:
            return torch.ones(patch_size)
        weights: Tensor = compute_gaussian(patch_size, sigma_scale=1 / 8, value_scaling_factor=10, device=_CPU)
        return weights.float()  # rounded to fp16 as nnU-Net's are
