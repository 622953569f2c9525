"""Makes a brain tumour phantom in four contrasts, in BraTS 2021's layout, for use where no data are at hand.

The head is the MNI152 average that nilearn ships in its wheel. Random shapes are drawn in millimetres, not in voxels,
so a case is the same patient at every spacing.

Arrays are (X, Y, Z) with the axes of BraTS: towards the patient's left, back and top. Coordinates are (3, X, Y, Z).
"""

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.challenges.brats import CHANNELS, ORIGIN, SIZE, UNTIL_2022
from nnunetv2_gsp.errors import UnavailableError
from nnunetv2_gsp.images import write_image
from nnunetv2_gsp.parallel import in_parallel

NECROSIS, EDEMA, ENHANCING = UNTIL_2022  # the labels on disk of NCR, ED and ET
FIELD_OF_VIEW_MM = SIZE  # of BraTS, whose voxels are cubes of 1 mm; its origin is in ITK's LPS convention
BRAIN_CENTRE_MNI_MM = (0.0, -17.0, 5.0)

# Signal by modality, relative to white matter in T1. Decoys share their rows with parts of the tumour: white matter
# lesions look like oedema, enhancing nodules like the rim, cysts like the core, and the darkest cores like CSF.
SIGNAL = {
    #                  t1    t1ce  t2    flair
    "white matter": (1.00, 1.00, 0.60, 0.75),
    "grey matter": (0.76, 0.78, 0.80, 0.92),
    "csf": (0.35, 0.36, 1.50, 0.30),
    "edema": (0.80, 0.80, 1.15, 1.35),
    "enhancing": (0.74, 1.45, 0.95, 1.12),
    "vessel": (0.62, 1.60, 0.40, 0.60),
    "bleeding": (1.45, 1.50, 0.65, 1.05),
}


class Head(NamedTuple):
    """The MNI152 template at 1 mm.

    Attributes:
        tissue: (3, X, Y, Z) float32 from 0 to 1, the fractions of white matter, grey matter and CSF in each voxel.
        mni_to_voxel: (4, 4), affine map from MNI mm to indices of voxels.
        deep_white_matter: (N, 3), positions in MNI mm where lesions may start.
    """

    tissue: np.ndarray
    mni_to_voxel: np.ndarray
    deep_white_matter: np.ndarray


@cache
def load_head() -> Head:
    """Read the head from the files of the nilearn package, without a download.

    Raises:
        UnavailableError: nilearn is not installed.
    """
    try:
        from nilearn.datasets import load_mni152_gm_template, load_mni152_template, load_mni152_wm_template
    except ImportError as error:
        raise UnavailableError(
            "nilearn, which the phantom's head comes with", "none", remedy="run: pip install 'nnunetv2_gsp[demo]'"
        ) from error
    from scipy.ndimage import uniform_filter

    brain = load_mni152_template(resolution=1)
    grey, white = (
        load(resolution=1).get_fdata(dtype=np.float32) for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    inside = brain.get_fdata(dtype=np.float32) > 0
    tissue = np.stack([white, grey, 1 - white - grey]).clip(0, 1) * inside

    deep = np.argwhere(uniform_filter(white * inside, size=9) > 0.7)
    deep_mni = deep @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    above_the_cerebellum = deep_mni[:, 2] > 0
    return Head(tissue, np.linalg.inv(brain.affine), deep_mni[above_the_cerebellum])


class Blob(NamedTuple):
    """A capsule in MNI space; a ball where start and end are the same.

    Attributes:
        start_mm: (3,), one end of the axis in MNI mm.
        end_mm: (3,), the other end of the axis in MNI mm.
        radius_mm: distance in mm from the axis to the surface.
    """

    start_mm: np.ndarray
    end_mm: np.ndarray
    radius_mm: float

    def depth_mm(self, position_mm: np.ndarray) -> np.ndarray:
        """Return how deep positions lie below the surface, negative outside.

        Args:
            position_mm: (3, X, Y, Z), position of each voxel in MNI mm.

        Returns:
            Depths (X, Y, Z) in mm.

        Examples:
            >>> ball = Blob(np.zeros(3), np.zeros(3), radius_mm=5)
            >>> ball.depth_mm(np.array([0, 3, 4]).reshape(3, 1, 1, 1)).item()
            0.0
        """
        axis = (self.end_mm - self.start_mm).astype(np.float32)
        offset = position_mm - _column(self.start_mm).astype(np.float32)
        along = np.tensordot(axis, offset, 1) / max(axis @ axis, 1e-6)
        distance: np.ndarray = np.linalg.norm(offset - _column(axis) * along.clip(0, 1), axis=0)
        return self.radius_mm - distance


def make_phantom(folder: Path, n_cases: int, spacing_mm: float, seed: int = 0, processes: int = 1) -> list[Path]:
    """Write cases in the layout of BraTS 2021: `BraTS2021_00000/BraTS2021_00000_{t1,t1ce,t2,flair,seg}.nii.gz`.

    Images are int16 and 0 outside the brain, segmentations uint8 with 0, 1 (necrosis), 2 (oedema), 4 (enhancing). At
    1 mm the geometry is that of BraTS: 240×240×155 voxels. Case k depends on the seed and on k alone. Cases that are
    there already are kept as they are, and an interruption leaves no half-written one.

    Args:
        folder: folder for the case folders, created where it is missing.
        n_cases: number of cases to make, from 1 on.
        spacing_mm: edge of the isotropic voxels in mm.
        seed: seed of the random numbers, from 0 on; the same seed and spacing give the same bits.
        processes: number of cases made at the same time, from 1 on; one takes 1.5 GB at 1 mm.

    Returns:
        The case folders, in order.

    Raises:
        UnavailableError: nilearn is not installed.
        InputError: a process was killed from outside, as for want of memory.
    """
    load_head()
    folder.mkdir(parents=True, exist_ok=True)
    return list(
        in_parallel(partial(_write_case, folder, spacing_mm, seed), range(n_cases), processes, "Making the phantom")
    )


def _write_case(folder: Path, spacing_mm: float, seed: int, number: int) -> Path:
    name = f"BraTS2021_{number:05d}"
    finished = folder / name
    if finished.is_dir():
        return finished

    images, segmentation = make_case(np.random.default_rng([seed, number]), spacing_mm)
    unfinished = folder / f"unfinished_{name}"
    unfinished.mkdir(exist_ok=True)
    for kind, voxels in {**images, "seg": segmentation}.items():
        image = sitk.GetImageFromArray(voxels.T)  # SimpleITK wants (Z, Y, X)
        image.SetSpacing([spacing_mm] * 3)
        image.SetOrigin(ORIGIN)
        write_image(image, unfinished / f"{name}_{kind}.nii.gz", compressed=False)  # .gz is all the same
    return unfinished.rename(finished)


def make_case(rng: np.random.Generator, spacing_mm: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Make the images and the segmentation of one patient.

    Args:
        rng: source of all random numbers; its state advances.
        spacing_mm: edge of the isotropic voxels in mm.

    Returns:
        An int16 image (X, Y, Z) for each modality, 0 outside the brain, and the segmentation (X, Y, Z) uint8 with 0, 1
        (necrosis), 2 (oedema), 4 (enhancing).

    Raises:
        UnavailableError: nilearn is not installed.
    """
    head = load_head()
    position = _position_mni_mm(rng, spacing_mm)
    tissue = _sample_tissue(head, position, spacing_mm)
    brain = tissue.sum(axis=0) > 0.5

    seed_point = rng.choice(head.deep_white_matter)
    core, necrosis, edema = _tumour_depths_mm(rng, position, seed_point, tissue, spacing_mm)
    signal = _vary_contrast(rng)
    layers = [
        *_decoys(rng, head, position, seed_point, spacing_mm),
        ("edema", edema),
        ("enhancing", core),
        ("necrosis", necrosis),
    ]

    images = {}
    noise_level = rng.uniform(0.04, 0.09)
    texture = 1 + 0.05 * _smooth_noise(rng, 8, spacing_mm)
    for channel, modality in enumerate(CHANNELS):
        clean = _paint(tissue, layers, {name: row[channel] for name, row in signal.items()}) * texture
        images[modality] = _scan(rng, clean, noise_level, spacing_mm) * brain
    return images, _label(core, necrosis, edema) * brain


def _position_mni_mm(rng: np.random.Generator, spacing_mm: float) -> np.ndarray:
    """Return each voxel's position (3, X, Y, Z) in MNI mm, by a random affine map and a smooth deformation."""
    from scipy.spatial.transform import Rotation

    towards_mni = np.diag([-1, -1, 1]) @ Rotation.from_euler("xyz", rng.normal(0, 5, 3), degrees=True).as_matrix()
    towards_mni = towards_mni / rng.uniform(0.9, 1.03, 3)
    centre = _column(np.asarray(FIELD_OF_VIEW_MM) / 2 + rng.normal(0, 3, 3))
    voxels = np.stack(np.meshgrid(*_axes_mm(spacing_mm), indexing="ij"))
    affine = np.tensordot(towards_mni, voxels - centre, 1) + _column(np.asarray(BRAIN_CENTRE_MNI_MM))
    wobble = np.stack([_smooth_noise(rng, 45, spacing_mm) for _ in range(3)])
    position: np.ndarray = affine.astype(np.float32) + 4 * wobble
    return position


def _sample_tissue(head: Head, position_mm: np.ndarray, spacing_mm: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter, map_coordinates

    voxel = np.tensordot(head.mni_to_voxel[:3, :3], position_mm, 1) + _column(head.mni_to_voxel[:3, 3])
    voxel = voxel.astype(np.float32)
    # A scanner averages over its voxel; sampling the 1 mm template at points would alias.
    return np.stack(
        [map_coordinates(gaussian_filter(fraction, 0.3 * spacing_mm), voxel, order=1) for fraction in head.tissue]
    )


def _tumour_depths_mm(
    rng: np.random.Generator, position_mm: np.ndarray, centre_mm: np.ndarray, tissue: np.ndarray, spacing_mm: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return depths (X, Y, Z) in mm below the surfaces of the core, the necrosis within and the oedema around it."""
    white_matter, _, csf = tissue
    elongation = rng.normal(0, 6, 3)
    ball = Blob(centre_mm - elongation, centre_mm + elongation, rng.uniform(11, 18))
    core = ball.depth_mm(position_mm) + 2.5 * _smooth_noise(rng, 18, spacing_mm)
    rim = rng.uniform(4, 7) * (1 + 0.35 * _smooth_noise(rng, 20, spacing_mm)).clip(0)
    # Oedema follows the white matter, spares most of the cortex and stops at the ventricles.
    spread = rng.uniform(8, 16) * (0.3 + 0.7 * white_matter) * (1 + 0.3 * _smooth_noise(rng, 25, spacing_mm)).clip(0)
    return core, core - rim, np.minimum(core + spread, 4 * (0.5 - csf))


def _decoys(
    rng: np.random.Generator, head: Head, position_mm: np.ndarray, tumour_mm: np.ndarray, spacing_mm: float
) -> list[tuple[str, np.ndarray]]:
    """Return structures that look like tumour as (name, depth), far enough from it that no label is in doubt."""
    clear = head.deep_white_matter[np.linalg.norm(head.deep_white_matter - tumour_mm, axis=1) > 45]
    unevenness = 1.5 * _smooth_noise(rng, 12, spacing_mm)

    def blobs(
        name: str, count: tuple[int, int], radius_mm: tuple[float, float], half_length_mm: float
    ) -> list[tuple[str, np.ndarray]]:
        made = []
        for centre in rng.choice(clear, rng.integers(*count, endpoint=True)):
            half_axis = rng.normal(0, half_length_mm, 3)
            blob = Blob(centre - half_axis, centre + half_axis, rng.uniform(*radius_mm))
            made.append((name, blob.depth_mm(position_mm) + unevenness))
        return made

    return [
        *blobs("edema", (3, 7), (4, 10), 4),
        *blobs("necrosis", (1, 3), (4, 9), 2),
        *blobs("enhancing", (1, 3), (3, 6), 3),
        *blobs("bleeding", (1, 2), (4, 8), 2),
        *blobs("vessel", (2, 4), (2, 3.5), 12),
    ]


def _vary_contrast(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw a patient's signals: each varies by some 6 %, lesions from faint to bright, cores from CSF to oedema."""
    signal = {name: np.asarray(row) * np.exp(rng.normal(0, 0.06, len(row))) for name, row in SIGNAL.items()}
    signal["edema"] = _mix(signal["grey matter"], signal["edema"], rng.uniform(0.4, 1.1))
    signal["enhancing"] = _mix(signal["grey matter"], signal["enhancing"], rng.uniform(0.4, 1.1))
    signal["necrosis"] = _mix(signal["csf"], signal["edema"], rng.uniform(0, 0.4))
    return signal


def _paint(tissue: np.ndarray, layers: Sequence[tuple[str, np.ndarray]], signal: dict[str, float]) -> np.ndarray:
    """Return the noiseless image (X, Y, Z): tissue, then each layer over what lies below it, with a soft edge."""
    mixture = np.array([signal["white matter"], signal["grey matter"], signal["csf"]], np.float32)
    image = np.tensordot(mixture, tissue, 1)
    for name, depth_mm in layers:
        width_mm = 1.5 if name == "edema" else 0.7  # oedema fades out
        image += _soft_step(depth_mm, width_mm) * (signal[name] - image)
    return image


def _scan(rng: np.random.Generator, clean: np.ndarray, noise_level: float, spacing_mm: float) -> np.ndarray:
    """Return the image as a scanner gives it, int16: with a bias field, Rician noise and an arbitrary scale."""
    received = clean * np.exp(0.12 * _smooth_noise(rng, 90, spacing_mm))
    real, imaginary = noise_level * rng.standard_normal((2, *clean.shape), np.float32)
    magnitude = np.hypot(received + real, imaginary)
    scaled: np.ndarray = (rng.uniform(300, 900) * magnitude).clip(1, np.iinfo(np.int16).max)
    return scaled.astype(np.int16)


def _label(core: np.ndarray, necrosis: np.ndarray, edema: np.ndarray) -> np.ndarray:
    segmentation = np.zeros(core.shape, np.uint8)
    segmentation[edema > 0] = EDEMA
    segmentation[core > 0] = ENHANCING
    segmentation[necrosis > 0] = NECROSIS
    return segmentation


def _smooth_noise(rng: np.random.Generator, wavelength_mm: float, spacing_mm: float) -> np.ndarray:
    """Return noise (X, Y, Z) of mean 0 and standard deviation 1 that varies over `wavelength_mm`: a cubic B-spline.

    Its random coefficients stand on a grid in mm, so the same generator gives the same field at every spacing; being
    separable, it costs three small matrix products.
    """
    weights = []
    for axis_mm, extent_mm in zip(_axes_mm(spacing_mm), FIELD_OF_VIEW_MM, strict=True):
        knots = np.arange(-1, extent_mm / wavelength_mm + 2)
        weights.append(_cubic_b_spline(np.abs(axis_mm[:, None] / wavelength_mm - knots)).astype(np.float32))
    coefficients = rng.normal(size=[weight.shape[1] for weight in weights]).astype(np.float32)
    field: np.ndarray = np.einsum("abc,xa,yb,zc->xyz", coefficients, *weights, optimize=True)
    field /= np.float32(0.479**1.5)  # an axis' squared weights sum to 0.479, averaged over positions
    return field


def _cubic_b_spline(distance: np.ndarray) -> np.ndarray:
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clip(0) ** 3 / 6
    weight: np.ndarray = np.where(distance < 1, near, far)
    return weight


def _axes_mm(spacing_mm: float) -> list[np.ndarray]:
    return [np.arange(round(extent / spacing_mm)) * spacing_mm for extent in FIELD_OF_VIEW_MM]


def _soft_step(depth_mm: np.ndarray, width_mm: float) -> np.ndarray:
    from scipy.special import expit

    step: np.ndarray = expit(depth_mm / width_mm)
    return step


def _mix(low: np.ndarray, high: np.ndarray, share: float) -> np.ndarray:
    mixed: np.ndarray = low + share * (high - low)
    return mixed


def _column(vector: np.ndarray) -> np.ndarray:
    return vector[:, None, None, None]  # (3, 1, 1, 1)
