"""Measures how far apart the surfaces of two masks are, in mm.

Two kinds of surface are in use. Border voxels are voxels of the mask that share a face with a voxel outside it; each
has weight 1 (medpy, MONAI, CaPTk). Surface elements lie at the corners of voxels, one wherever the eight voxels around
a corner are neither all inside nor all outside; each is weighted by its area in mm² according to marching cubes
(DeepMind's surface-distance, https://github.com/google-deepmind/surface-distance, and with it BraTS 2023). Voxels
beyond the image count as outside the mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import cKDTree

from nnunetv2_gsp.metrics.morphology import box_around
from nnunetv2_gsp.metrics.overlap import Mask

Floats = npt.NDArray[np.float64]
Points = npt.NDArray[np.integer[Any]]  # (n, axes), in voxels
Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances from each point of one surface to the nearest point of the other; neither surface is empty.

    Attributes:
        from_reference: float64 (n,), distance in mm of each point of the reference's surface, from 0 on.
        from_prediction: float64 (m,), distance in mm of each point of the prediction's surface, from 0 on.
        reference_weights: float64 (n,), ones for border voxels, areas in mm² for surface elements.
        prediction_weights: float64 (m,), the same for the prediction's points.
    """

    from_reference: Floats
    from_prediction: Floats
    reference_weights: Floats
    prediction_weights: Floats

    @property
    def pooled(self) -> Floats:
        """Distances of both directions in one array, float64 (n + m,), mm.

        Examples:
            >>> SurfaceDistances(np.array([0.0, 4.0]), np.array([1.0]), np.ones(2), np.ones(1)).pooled.tolist()
            [0.0, 4.0, 1.0]
        """
        return np.concatenate([self.from_reference, self.from_prediction])

    @property
    def pooled_weights(self) -> Floats:
        """Weights of `pooled`, float64 (n + m,)."""
        return np.concatenate([self.reference_weights, self.prediction_weights])


def border_distances(reference: Mask, prediction: Mask, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Measure distances between border voxels, each of weight 1.

    Args:
        reference: bool, any shape, not empty.
        prediction: bool, the same shape, not empty.
        spacing_mm: edge of a voxel along each axis of the masks, in their order.

    Examples:
        >>> reference, prediction = np.array([[True, False, False]]), np.array([[False, False, True]])
        >>> border_distances(reference, prediction, (1.0, 0.5)).pooled.tolist()
        [1.0, 1.0]
    """
    of_reference, of_prediction = (np.argwhere(_border(mask)) for mask in _around_both(reference, prediction))
    return _between(of_reference, of_prediction, np.ones(len(of_reference)), np.ones(len(of_prediction)), spacing_mm)


def element_distances(reference: Mask, prediction: Mask, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Measure distances between surface elements, weighted by their area.

    Args:
        reference: bool (D, H, W), not empty.
        prediction: bool (D, H, W), not empty.
        spacing_mm: edge of a voxel along D, H and W.

    Examples:
        >>> reference = np.array([[[True, False, False]]])
        >>> element_distances(reference, np.flip(reference), (1.0, 1.0, 0.5)).from_reference.max().item()
        1.0
    """
    areas_mm2 = element_areas_mm2(tuple(map(float, spacing_mm)))
    elements = [_elements(mask) for mask in _around_both(reference, prediction)]
    (of_reference, reference_codes), (of_prediction, prediction_codes) = elements
    return _between(of_reference, of_prediction, areas_mm2[reference_codes], areas_mm2[prediction_codes], spacing_mm)


def pooled_hd95(distances: SurfaceDistances) -> float:
    """Return HD95 as the percentile of both directions pooled, in mm; interpolated, as medpy and CaPTk do.

    Args:
        distances: distances from each surface to the other, in mm, with their weights.

    Examples:
        >>> distances = SurfaceDistances(np.array([0.0, 0.0, 4.0]), np.array([0.0]), np.ones(3), np.ones(1))
        >>> round(pooled_hd95(distances), 6)
        3.4
    """
    return float(np.percentile(distances.pooled, 95))


def directed_hd95(distances: SurfaceDistances) -> float:
    """Return HD95 as the larger of the two directions' percentiles, in mm; interpolated, as MONAI does.

    Args:
        distances: distances from each surface to the other, in mm, with their weights.

    Examples:
        >>> distances = SurfaceDistances(np.array([0.0, 0.0, 4.0]), np.array([0.0]), np.ones(3), np.ones(1))
        >>> round(directed_hd95(distances), 6)
        3.6
    """
    return float(max(np.percentile(distances.from_reference, 95), np.percentile(distances.from_prediction, 95)))


def area_weighted_hd95(distances: SurfaceDistances) -> float:
    """Return HD95 as the larger of the two distances within which 95 % of each surface's area lies, in mm.

    Not interpolated: it is the distance of an element, as in surface-distance's compute_robust_hausdorff.

    Args:
        distances: distances between surface elements in mm, weighted by area (`element_distances`).

    Examples:
        >>> weights = np.array([10.0, 10.0, 1.0])  # mm², of which the distant element has less than 5 %
        >>> distances = SurfaceDistances(np.array([0.0, 0.0, 4.0]), np.array([0.0]), weights, np.ones(1))
        >>> area_weighted_hd95(distances)
        0.0
    """
    return max(
        _distance_of_share(distances.from_reference, distances.reference_weights, 0.95),
        _distance_of_share(distances.from_prediction, distances.prediction_weights, 0.95),
    )


def normalized_surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Return the share of both surfaces that lies within a tolerance of the other surface (NSD), 0 to 1.

    Args:
        distances: distances from each surface to the other, in mm, with their weights.
        tolerance_mm: largest distance in mm that counts as within the tolerance, from 0 on.

    Examples:
        >>> distances = SurfaceDistances(np.array([0.0, 0.0, 4.0]), np.array([0.0]), np.ones(3), np.ones(1))
        >>> normalized_surface_dice(distances, tolerance_mm=1.0)
        0.75
    """
    weights = distances.pooled_weights
    return float(weights[distances.pooled <= tolerance_mm].sum() / weights.sum())


def mean_surface_share(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Return the mean of the two surfaces' shares within a tolerance of the other (NSD in BraTS from 2024), 0 to 1.

    Args:
        distances: distances between border voxels in mm (`border_distances`).
        tolerance_mm: largest distance in mm that counts as within the tolerance, from 0 on.

    Examples:
        >>> distances = SurfaceDistances(np.array([0.0, 0.0, 0.0, 4.0]), np.array([0.0]), np.ones(4), np.ones(1))
        >>> mean_surface_share(distances, tolerance_mm=1.0)
        0.875
    """
    shares = [(each <= tolerance_mm).mean() for each in (distances.from_reference, distances.from_prediction)]
    return float(np.mean(shares))


def average_boundary_distance(distances: SurfaceDistances) -> float:
    """Return the weighted mean distance over both surfaces, pooled, in mm (ABD, also called ASSD).

    Args:
        distances: distances from each surface to the other, in mm, with their weights.

    Examples:
        >>> distances = SurfaceDistances(np.array([0.0, 0.0, 4.0]), np.array([0.0]), np.ones(3), np.ones(1))
        >>> average_boundary_distance(distances)
        1.0
    """
    return float(np.average(distances.pooled, weights=distances.pooled_weights))


@lru_cache
def element_areas_mm2(spacing_mm: tuple[float, ...]) -> Floats:
    """Return the area of the surface in each of the 256 neighbourhoods of 2×2×2 voxels, float64 (256,), mm².

    Computed by marching cubes with its vertices half-way between voxels. Up to four voxels inside are kept apart on
    faces that could be joined either way; more than four have the area of their complement.

    Args:
        spacing_mm: edge of a voxel along each of the three axes.

    Examples:
        >>> element_areas_mm2((3.0, 1.0, 0.5))[0b00001111].item()  # the four voxels of the first slice are inside
        0.5
    """
    from skimage.measure import marching_cubes, mesh_surface_area

    areas = np.zeros(256)
    for code in range(1, 255):
        cube = _cube(code)
        n_inside = cube.sum()
        if n_inside <= 4:
            vertices, faces, *_ = marching_cubes(cube, 0.5, spacing=spacing_mm, method="lorensen")
            areas[code] = mesh_surface_area(vertices, faces)
        if n_inside < 4:
            areas[255 - code] = areas[code]
    return areas


def _cube(code: int) -> npt.NDArray[np.float32]:
    """Return the 2×2×2 neighbourhood of a code as float32; see `_neighbourhood_codes` for the order of its bits."""
    return np.array([code >> bit & 1 for bit in range(8)], np.float32).reshape(2, 2, 2)


def _elements(mask: Mask) -> tuple[Points, Codes]:
    """Return the surface elements of a mask with a margin: positions, integers (n, 3), and codes, uint8 (n,)."""
    codes = _neighbourhood_codes(mask)
    is_surface = (codes != 0) & (codes != 255)
    return np.argwhere(is_surface), codes[is_surface]


def _neighbourhood_codes(mask: Mask) -> Codes:
    """Return a number for the 2×2×2 voxels from each voxel on, uint8, one shorter along each axis."""
    voxels = mask.view(np.uint8)
    codes = np.zeros([size - 1 for size in mask.shape], np.uint8)
    for bit, (z, y, x) in enumerate(np.ndindex(2, 2, 2)):
        corner = voxels[z : z + codes.shape[0], y : y + codes.shape[1], x : x + codes.shape[2]]
        codes |= corner << np.uint8(bit)
    return codes


def _border(mask: Mask) -> Mask:
    inside: Mask = ndimage.binary_erosion(mask)
    return mask & ~inside


def _around_both(reference: Mask, prediction: Mask) -> tuple[Mask, Mask]:
    """Crop both masks to the box around their union, with a margin of one voxel of background."""
    box = box_around(reference | prediction)
    around = [np.pad(mask[box], 1) for mask in (reference, prediction)]
    return around[0], around[1]


def _between(
    reference: Points,
    prediction: Points,
    reference_weights: Floats,
    prediction_weights: Floats,
    spacing_mm: Sequence[float],
) -> SurfaceDistances:
    """Measure distances between two sets of points, (n, axes) and (m, axes)."""
    return SurfaceDistances(
        _nearest(reference, prediction, spacing_mm),
        _nearest(prediction, reference, spacing_mm),
        reference_weights,
        prediction_weights,
    )


def _nearest(points: Points, others: Points, spacing_mm: Sequence[float]) -> Floats:
    """Return the distance from each point to the nearest of the others, float64 (n,), mm.

    A tree instead of a distance transform: one stray voxel far off makes the box large, but the surface hardly larger.
    """
    _, indices = cKDTree(others * np.asarray(spacing_mm)).query(points * np.asarray(spacing_mm))
    # from whole voxels once more, or a distance equal to a tolerance falls on either side of it
    distances: Floats = np.sqrt((((points - others[indices]) * np.asarray(spacing_mm)) ** 2).sum(axis=1))
    return distances


def _distance_of_share(distances: Floats, weights: Floats, share: float) -> float:
    """Return the smallest distance within which lies at least a share of the weights."""
    order = np.argsort(distances)
    cumulative = np.cumsum(weights[order])
    index = int(np.searchsorted(cumulative / cumulative[-1], share))
    return float(distances[order][min(index, len(order) - 1)])
