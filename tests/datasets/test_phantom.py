import sys

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from nnunetv2_gsp.challenges.brats import CHANNELS
from nnunetv2_gsp.datasets.phantom import _vary_contrast, load_head, make_case, make_phantom
from nnunetv2_gsp.errors import InputError

COARSE_MM = 5.0


@pytest.fixture(scope="module")
def cases() -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    return [make_case(np.random.default_rng([0, number]), COARSE_MM) for number in range(4)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    make_phantom(folder, 2, COARSE_MM)
    return folder


def _image(folder, case: int, kind: str) -> sitk.Image:
    name = f"BraTS2021_{case:05d}"
    return sitk.ReadImage(folder / name / f"{name}_{kind}.nii.gz")


def _voxels(folder, case: int, kind: str) -> np.ndarray:
    return sitk.GetArrayFromImage(_image(folder, case, kind))


def test_the_files_are_those_of_brats_2021(folder):
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        f"BraTS2021_0000{case}/BraTS2021_0000{case}_{kind}.nii.gz"
        for case in (0, 1)
        for kind in ("flair", "seg", "t1", "t1ce", "t2")
    ]


@pytest.mark.parametrize("kind", [*CHANNELS, "seg"])
def test_every_file_has_the_geometry_of_brats(folder, kind):
    image = _image(folder, 1, kind)
    assert image.GetSize() == (48, 48, 31)  # 240×240×155 mm
    assert image.GetSpacing() == (5, 5, 5)
    assert image.GetOrigin() == (0, -239, 0)
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)


def test_the_voxels_hold_the_labels_of_brats_2021(cases):
    for _, segmentation in cases:
        assert segmentation.dtype == np.uint8
        assert np.unique(segmentation).tolist() == [0, 1, 2, 4]


def test_the_head_lies_on_its_back_as_in_brats(cases):
    """The cerebellum: what lies lowest in z lies further back, at higher y, than the rest."""
    for images, _ in cases:
        x, y, z = np.nonzero(images["t1"])
        lowest = z <= np.quantile(z, 0.1)
        assert y[lowest].mean() > y.mean() + 3
        assert abs(x[lowest].mean() - x.mean()) < 3


def test_outside_the_brain_is_zero_and_inside_is_not(cases):
    for images, segmentation in cases:
        brain = images["t1"] > 0
        assert 1000 < brain.sum() * COARSE_MM**3 / 1000 < 2300  # ml
        assert all(np.array_equal(brain, image > 0) for image in images.values())
        assert brain[segmentation > 0].all()


def test_one_tumour_a_case_with_the_necrosis_inside(cases):
    for _, segmentation in cases:
        components, _ = ndimage.label(segmentation > 0, np.ones((3, 3, 3)))
        assert np.bincount(components.ravel())[1:].max() > 0.95 * (segmentation > 0).sum()
        touched_by_necrosis = ndimage.binary_dilation(segmentation == 1) & (segmentation != 1)
        assert (segmentation[touched_by_necrosis] == 4).mean() > 0.8


def test_the_contrasts_are_those_of_the_modalities(cases):
    for images, segmentation in cases:
        necrosis, edema, enhancing = (segmentation == label for label in (1, 2, 4))
        brain = images["t1"] > 0
        relative = {modality: image / np.median(image[brain]) for modality, image in images.items()}
        assert relative["t1ce"][enhancing].mean() > 1.2 * relative["t1"][enhancing].mean()
        assert relative["flair"][edema].mean() > 1.1
        assert relative["flair"][necrosis].mean() < relative["flair"][edema].mean()
        assert relative["t2"][necrosis].mean() > 1.2


def test_the_contrasts_vary_from_patient_to_patient():
    patients = [_vary_contrast(np.random.default_rng(seed)) for seed in range(50)]
    edema_in_flair = np.array([signal["edema"][3] / signal["grey matter"][3] for signal in patients])
    core_in_t1 = np.array([signal["necrosis"][0] / signal["csf"][0] for signal in patients])
    assert edema_in_flair.max() / edema_in_flair.min() > 1.3
    assert core_in_t1.min() < 1.1
    assert core_in_t1.max() > 1.3


def test_much_that_is_as_bright_as_oedema_is_no_tumour(cases):
    volumes_ml = []
    for images, segmentation in cases:
        far = (ndimage.distance_transform_edt(segmentation == 0) > 3) & (images["t1"] > 0)
        as_bright = [images[modality] > np.median(images[modality][segmentation == 2]) for modality in ("t2", "flair")]
        volumes_ml.append((far & as_bright[0] & as_bright[1]).sum() * COARSE_MM**3 / 1000)
    assert np.median(volumes_ml) > 5


@pytest.mark.parametrize("modality", CHANNELS)
def test_no_threshold_finds_the_tumour(cases, modality):
    """Even the best threshold of each case, which only the answer tells."""
    best = []
    for images, segmentation in cases:
        image, tumour = images[modality], segmentation > 0
        candidates = [image > level for level in np.quantile(image[image > 0], np.linspace(0.5, 0.999, 100))]
        best.append(max(2 * (mask & tumour).sum() / (mask.sum() + tumour.sum()) for mask in candidates))
    assert np.mean(best) < 0.7


def test_a_seed_gives_the_same_bits_and_another_seed_others():
    first, again, other = (make_case(np.random.default_rng(seed), COARSE_MM) for seed in (3, 3, 4))
    assert all(np.array_equal(first[0][modality], again[0][modality]) for modality in CHANNELS)
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


def test_a_case_does_not_depend_on_the_number_of_cases(folder, tmp_path):
    make_phantom(tmp_path, 1, COARSE_MM)
    for kind in (*CHANNELS, "seg"):
        assert np.array_equal(_voxels(tmp_path, 0, kind), _voxels(folder, 0, kind))


def test_a_case_is_the_same_patient_at_every_spacing(cases):
    _, finer = make_case(np.random.default_rng([0, 0]), 4.0)
    _, coarse = cases[0]
    assert (finer > 0).sum() * 4.0**3 == pytest.approx((coarse > 0).sum() * COARSE_MM**3, rel=0.1)


def test_a_second_run_keeps_what_is_there_and_ends_what_was_interrupted(folder, tmp_path):
    interrupted = tmp_path / "unfinished_BraTS2021_00001"
    kept = tmp_path / "BraTS2021_00000"
    interrupted.mkdir(parents=True)
    (interrupted / "BraTS2021_00001_t1.nii.gz").write_bytes(b"half")
    kept.mkdir()
    assert make_phantom(tmp_path, 2, COARSE_MM) == [kept, tmp_path / "BraTS2021_00001"]
    assert not list(kept.iterdir())
    assert not interrupted.exists()
    assert np.array_equal(_voxels(tmp_path, 1, "t1"), _voxels(folder, 1, "t1"))


def test_without_nilearn_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nilearn.datasets", None)
    with pytest.raises(InputError, match=r"pip install 'nnunetv2_gsp\[demo\]'"):
        load_head.__wrapped__()
