"""How far apart are two masks? Overlap, volumes, and distances between surfaces, in mm.

Two kinds of surface are in use. Border voxels are those of the mask with a neighbour outside it, by faces; each counts
the same (medpy, MONAI, CaPTk). Surface elements lie at the corners of voxels, one wherever the eight voxels around a
corner are not all in or all out, and weigh what marching cubes makes of them, in mm² (DeepMind's surface-distance,
https://github.com/google-deepmind/surface-distance, and with it BraTS 2023). Outside the image nothing is in a mask.
"""
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class SurfaceDistances:
    """From each point of one surface to the nearest of the other; neither is empty.

    Attributes:
        from_reference: float64 (n,), mm.
        from_prediction: float64 (m,), mm.
        reference_weights: float64 (n,), ones, or areas in mm².
        prediction_weights: float64 (m,), the same.
    """

    from_reference: np.ndarray
    from_prediction: np.ndarray
    reference_weights: np.ndarray
    prediction_weights: np.ndarray

    @property
    def pooled(self) -> np.ndarray:
        """Both directions in one array, float64 (n + m,), mm."""
        return np.concatenate([self.from_reference, self.from_prediction])

    @property
    def pooled_weights(self) -> np.ndarray:
        """Weights of `pooled`, float64 (n + m,)."""
        return np.concatenate([self.reference_weights, self.prediction_weights])


def border_distances(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Measure between border voxels, each of weight 1.

    Args:
        reference: bool, any number of axes, not empty.
        prediction: bool, of the same shape, not empty.
        spacing_mm: of the axes, in their order.
    """
    theirs, ours = (np.argwhere(_border(mask)) for mask in _around_both(reference, prediction))
    return _between(theirs, ours, np.ones(len(theirs)), np.ones(len(ours)), spacing_mm)


def element_distances(reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Measure between surface elements, weighted by their area.

    Args:
        reference: bool (D, H, W), not empty.
        prediction: bool (D, H, W), not empty.
        spacing_mm: of the axes, in their order.
    """
    areas_mm2 = element_areas_mm2(tuple(map(float, spacing_mm)))
    (theirs, their_codes), (ours, our_codes) = map(_elements, _around_both(reference, prediction))
    return _between(theirs, ours, areas_mm2[their_codes], areas_mm2[our_codes], spacing_mm)


def pooled_hd95(distances: SurfaceDistances) -> float:
    """Return the 95th percentile over both directions at once, in mm; interpolated, as medpy and CaPTk do."""
    return float(np.percentile(distances.pooled, 95))


def directed_hd95(distances: SurfaceDistances) -> float:
    """Return the larger one of the two directions' 95th percentiles, in mm; interpolated, as MONAI does."""
    return float(max(np.percentile(distances.from_reference, 95), np.percentile(distances.from_prediction, 95)))


def area_weighted_hd95(distances: SurfaceDistances) -> float:
    """Return the larger one of the two distances within which 95 % of each surface's area lies, in mm.

    Not interpolated: it is the distance of an element, as in surface-distance's compute_robust_hausdorff.
    """
    return max(_distance_of_share(distances.from_reference, distances.reference_weights, 0.95),
               _distance_of_share(distances.from_prediction, distances.prediction_weights, 0.95))


def normalized_surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """Return the share of both surfaces that lies within a tolerance of the other one (NSD)."""
    weights = distances.pooled_weights
    return float(weights[distances.pooled <= tolerance_mm].sum() / weights.sum())


def average_boundary_distance(distances: SurfaceDistances) -> float:
    """Return the mean over both surfaces, pooled, in mm (ABD, also called ASSD)."""
    return float(np.average(distances.pooled, weights=distances.pooled_weights))


def dice(reference: np.ndarray, prediction: np.ndarray) -> float:
    """Return twice the common volume over the sum of both; NaN if both are empty.

    Args:
        reference: bool, any shape.
        prediction: bool, the same shape.
    """
    total = np.count_nonzero(reference) + np.count_nonzero(prediction)
    return 2 * np.count_nonzero(reference & prediction) / total if total else float("nan")


def volume_mm3(mask: np.ndarray, spacing_mm: Sequence[float]) -> float:
    """Return the volume; in 2D the area in mm².

    Args:
        mask: bool, any number of axes.
        spacing_mm: of the axes.
    """
    return float(np.count_nonzero(mask) * np.prod(spacing_mm))


@lru_cache
def element_areas_mm2(spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Return the area of the surface in each of the 256 neighbourhoods of 2×2×2 voxels, float64 (256,), mm².

    Marching cubes with its vertices half-way between voxels. Where the voxels inside are at most four they are kept
    apart on faces that could be joined either way; more than four have the area of their complement.

    Args:
        spacing_mm: of the three axes.
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


def _cube(code: int) -> np.ndarray:
    """Return the 2×2×2 neighbourhood of a code as float32; see `_neighbourhood_codes` for the order of its bits."""
    return np.array([code >> bit & 1 for bit in range(8)], np.float32).reshape(2, 2, 2)


def _elements(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the surface elements of a mask with a margin: positions, integers (n, 3), and codes, uint8 (n,)."""
    codes = _neighbourhood_codes(mask)
    is_surface = (codes != 0) & (codes != 255)
    return np.argwhere(is_surface), codes[is_surface]


def _neighbourhood_codes(mask: np.ndarray) -> np.ndarray:
    """Return a number for the 2×2×2 voxels from each voxel on, uint8, one shorter along each axis."""
    voxels = mask.view(np.uint8)
    codes = np.zeros([size - 1 for size in mask.shape], np.uint8)
    for bit, (z, y, x) in enumerate(np.ndindex(2, 2, 2)):
        corner = voxels[z:z + codes.shape[0], y:y + codes.shape[1], x:x + codes.shape[2]]
        codes |= corner << np.uint8(bit)
    return codes


def _border(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _around_both(reference: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut both to the box around their union, and lay one voxel of background around it."""
    box = ndimage.find_objects((reference | prediction).view(np.uint8))[0]
    around = [np.pad(mask[box], 1) for mask in (reference, prediction)]
    return around[0], around[1]


def _between(reference: np.ndarray, prediction: np.ndarray, reference_weights: np.ndarray,
             prediction_weights: np.ndarray, spacing_mm: Sequence[float]) -> SurfaceDistances:
    """Measure between two sets of points, integers (n, axes) and (m, axes)."""
    return SurfaceDistances(_nearest(reference, prediction, spacing_mm), _nearest(prediction, reference, spacing_mm),
                            reference_weights, prediction_weights)


def _nearest(points: np.ndarray, others: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Return the distance from each point to the nearest of the others, float64 (n,), mm.

    A tree instead of a distance transform: one stray voxel far off makes the box large, but the surface hardly larger.
    """
    _, indices = cKDTree(others * np.asarray(spacing_mm)).query(points * np.asarray(spacing_mm))
    # from whole voxels once more, or a distance equal to a tolerance falls on either side of it
    return np.sqrt((((points - others[indices]) * np.asarray(spacing_mm)) ** 2).sum(axis=1))


def _distance_of_share(distances: np.ndarray, weights: np.ndarray, share: float) -> float:
    order = np.argsort(distances)
    cumulative = np.cumsum(weights[order])
    index = int(np.searchsorted(cumulative / cumulative[-1], share))
    return float(distances[order][min(index, len(order) - 1)])
