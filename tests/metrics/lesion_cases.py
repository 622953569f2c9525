"""Generated pairs of label maps with false, missed, merged, split, touching and tiny lesions, and empty ones.

Needs numpy alone, so that the official codes' environments can make the same ones (`official_scores.py`).
"""

import random
import zlib

import numpy as np

SHAPE = (30, 34, 38)  # (D, H, W)
SPACINGS_MM = ((1.0, 1.0, 1.0), (2.0, 1.0, 0.5), (1.0, 1.0, 1.0), (0.75, 1.5, 1.5))  # D, H, W
N_CASES = 12


def generated(seed):
    """Return the reference and the prediction, labels 0 to 4 as uint8 (D, H, W), and the spacing in mm."""
    draw = random.Random(seed)
    reference, prediction = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    for _ in range(draw.randint(2, 7)):
        _pair_of_tumours(draw, reference, prediction)
    for labels, most, largest in ((prediction, 5, 4), (reference, 4, 3)):  # most of them tiny
        for _ in range(draw.randint(0, most)):
            corner, edge = [draw.randint(0, size - 1) for size in SHAPE], draw.randint(1, largest)
            labels[tuple(slice(start, start + edge) for start in corner)] = draw.randint(1, 4)
    if seed in (0, 1):
        reference[:] = 0
    if seed in (0, 2):
        prediction[:] = 0
    return reference, prediction, SPACINGS_MM[seed % len(SPACINGS_MM)]


def fingerprint(seed):
    """Return a number that changes where a case does."""
    return zlib.crc32(np.stack(generated(seed)[:2]).tobytes())


def _pair_of_tumours(draw, reference, prediction):
    """Draw a tumour of the reference, and what a prediction may make of it."""
    centre, radii = [draw.uniform(2, size - 2) for size in SHAPE], [draw.uniform(0.6, 6) for _ in SHAPE]
    _tumour(draw, reference, centre, radii)
    fate = draw.choice(["missed", "split", "moved", "moved", "same", "smaller"])
    if fate != "missed":
        moved = [axis + draw.uniform(-4, 4) * (fate == "moved") for axis in centre]
        _tumour(draw, prediction, moved, [radius * (0.6 if fate == "smaller" else 1) for radius in radii])
    if fate == "split":
        prediction[:, int(centre[1])] = 0
    if fate == "same" and draw.random() < 0.5:  # a bridge to what lies beside it
        prediction[int(centre[0]), int(centre[1]), int(centre[2]) :][: draw.randint(3, 12)] = draw.choice([1, 2, 3])


def _tumour(draw, labels, centre, radii):
    """Draw oedema, enhancing tumour in it, a necrotic core in that, and a cavity beside."""
    shares = {2: 1.0, 3: draw.choice([0.0, 0.7, 0.9]), 1: draw.choice([0.0, 0.4, 0.6])}
    for label, share in shares.items():
        labels[_ellipsoid(centre, [share * radius for radius in radii])] = label
    if draw.random() < 0.4:
        beside = [axis + draw.choice([-1, 1]) * radius for axis, radius in zip(centre, radii, strict=True)]
        labels[_ellipsoid(beside, [0.5 * radius for radius in radii])] = 4


def _ellipsoid(centre, radii):
    grid = np.indices(SHAPE)
    distance = sum(((axis - at) / max(radius, 1e-3)) ** 2 for axis, at, radius in zip(grid, centre, radii, strict=True))
    return distance < 1
