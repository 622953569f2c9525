"""Compares an exported network with PyTorch's, on patches of several kinds."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from nnunetv2_gsp.errors import InputError

LARGEST_LOGIT_DIFFERENCE = 1e-3  # as a part of the largest logit
LARGEST_LABEL_DIFFERENCE = 1e-4  # as a part of the voxels
Predict = Callable[[np.ndarray], np.ndarray]


class Parity(NamedTuple):
    """How far two networks differ.

    Attributes:
        logit_difference: largest difference of a logit, as a part of the largest logit.
        label_difference: part of the voxels, from 0 to 1, whose labels differ.
    """

    logit_difference: float
    label_difference: float


def sample_patches(channels: int, patch_size: Sequence[int], seed: int = 0) -> dict[str, np.ndarray]:
    """Make patches of each kind that a network meets.

    Args:
        channels: number of input channels, from 1 on.
        patch_size: patch size in voxels along each spatial axis.
        seed: seed of the random numbers.

    Returns:
        Kind of patch -> float32 (N, C, *patch): normalised noise; tissue with soft edges inside an ellipsoid, and zeros
        around it; constant patches; and tissue with intensities ten thousand times too large.

    Examples:
        >>> {kind: patches.shape for kind, patches in sample_patches(2, (8, 8)).items()}
        {'random': (2, 2, 8, 8), 'real-like': (1, 2, 8, 8), 'constant': (2, 2, 8, 8), 'extreme': (1, 2, 8, 8)}
    """
    rng = np.random.default_rng(seed)
    shape = (channels, *patch_size)
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in patch_size), indexing="ij")
    inside = sum(axis**2 for axis in grid) < 0.9
    smooth = gaussian_filter(rng.normal(size=shape), (0, *(size / 12 for size in patch_size)))
    tissue = (np.round(1.5 * smooth / max(smooth.std(), 1e-6)) + rng.normal(0, 0.1, shape)) * inside
    kinds = {
        "random": rng.normal(size=(2, *shape)),
        "real-like": tissue[None],
        "constant": np.stack([np.zeros(shape), np.full(shape, 1.5)]),
        "extreme": 1e4 * tissue[None],
    }
    return {kind: patches.astype(np.float32) for kind, patches in kinds.items()}


def compared(expected: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], has_regions: bool) -> Parity:
    """Compare the logits of two networks, and refuse those that differ too far.

    Args:
        expected: kind of patch -> logits (N, outputs, *patch) of PyTorch.
        got: the same of the exported network.
        has_regions: True if outputs are regions, each decided alone; False if they are labels.

    Returns:
        The largest differences of all kinds.

    Raises:
        InputError: logits or labels differ by more than is rounding.

    Examples:
        >>> logits = {"random": np.array([[[1.0, -2.0], [0.5, 0.0]]])}  # two labels, two voxels
        >>> compared(logits, logits, has_regions=False)
        Parity(logit_difference=0.0, label_difference=0.0)
    """
    found = {kind: _difference(logits, got[kind], has_regions) for kind, logits in expected.items()}
    for kind, parity in found.items():
        is_close = parity.logit_difference <= LARGEST_LOGIT_DIFFERENCE  # NaN is not
        if not is_close or parity.label_difference > LARGEST_LABEL_DIFFERENCE:
            raise InputError(
                f"an exported network that predicts what PyTorch predicts on {kind} patches",
                f"logits that differ by {parity.logit_difference:.2g} of the largest, and "
                f"{100 * parity.label_difference:.2g} % other labels",
                remedy="update the packages that export and run it",
            )
    return Parity(*(max(differences) for differences in zip(*found.values(), strict=True)))


def _difference(expected: np.ndarray, got: np.ndarray, has_regions: bool) -> Parity:
    largest = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    labels = [logits > 0 if has_regions else logits.argmax(axis=1)[:, None] for logits in (expected, got)]
    return Parity(float(np.abs(got - expected).max()) / largest, float((labels[0] != labels[1]).any(axis=1).mean()))
