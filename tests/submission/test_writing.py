import gzip
import json
import zipfile
from functools import partial

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nnunetv2_gsp.challenges import CHALLENGES, FAMILIES, SUBMISSIONS
from nnunetv2_gsp.datasets.challenges import convert_source
from nnunetv2_gsp.datasets.labels import inverse, relabel
from nnunetv2_gsp.errors import InputError, TargetExistsError
from nnunetv2_gsp.submission import check_submission, write_submission
from nnunetv2_gsp.submission.rules import rules_of
from nnunetv2_gsp.submission.writing import PredictedCase, _convert
from tests.datasets.sources import truncate, voxels, write_image

TABLES = {str(CHALLENGES[name].labels): name for name in SUBMISSIONS}  # one challenge for each label table
BRATS = [challenge.name for challenge in FAMILIES["brats"] if challenge.archive]
convert_brats, convert_promise12 = (partial(convert_source, family) for family in ("brats", "promise12"))


def submitted(file, name, folder):
    """Return the voxels of a case in an archive."""
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return voxels(folder / name)


@pytest.mark.parametrize("challenge", SUBMISSIONS)
def test_an_archive_holds_the_challenges_names_and_labels(challenge, submission_of, tmp_path):
    made = submission_of(challenge)
    assert write_submission(made.predictions, made.file, challenge, images=made.source) == len(made.cases)
    with zipfile.ZipFile(made.file) as archive:
        names = archive.namelist()
    assert not any("/" in name for name in names)
    if challenge == "promise12":
        assert names == [
            "Case00_segmentation.mhd",
            "Case00_segmentation.raw",
            "Case01_segmentation.mhd",
            "Case01_segmentation.raw",
        ]
    else:
        assert names == [f"{case}.nii.gz" for case in made.cases]
    for case, inside in made.inside.items():
        name = rules_of(challenge).file_name(case)
        on_disk = submitted(made.file, name, tmp_path / "unpacked")
        assert on_disk.dtype == np.uint8
        assert np.array_equal(relabel(on_disk, CHALLENGES[challenge].labels), inside)
        assert set(np.unique(on_disk)) == set(CHALLENGES[challenge].labels)
    assert check_submission(made.file, challenge, made.source) == []


@pytest.mark.parametrize("challenge", [*TABLES.values()])
@settings(deadline=None, max_examples=50)  # files take as long as the disk is busy
@given(data=st.data())
def test_labels_to_submission_to_labels_is_the_identity(challenge, data, tmp_path_factory):
    """Predictions -> what goes into the archive -> what `convert` would make of it."""
    folder = tmp_path_factory.getbasetemp() / "circle"
    folder.mkdir(exist_ok=True)
    table, rules = CHALLENGES[challenge].labels, rules_of(challenge)
    shape = data.draw(arrays.array_shapes(min_dims=3, max_dims=3, max_side=4))
    inside = data.draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from(sorted(table.values()))))
    prediction = folder / f"case{rules.prediction_endings[0]}"
    write_image(inside, prediction)
    name = "Case00.mhd" if challenge == "promise12" else "case.nii.gz"
    result = _convert(rules, 0, PredictedCase(prediction, name, None))
    for name, content in result.files:
        (folder / name).write_bytes(content)
    on_disk = voxels(folder / result.files[0][0])
    assert set(np.unique(on_disk)) <= set(table)
    assert np.array_equal(relabel(on_disk, table), inside)
    assert np.array_equal(relabel(relabel(inside, inverse(table)), table), inside)


@pytest.mark.parametrize("challenge", BRATS)
def test_the_circle_closes_over_convert(challenge, submission_of, tmp_path):
    """Submitted labels put back among the images as segmentations convert to the predictions."""
    made = submission_of(challenge)
    write_submission(made.predictions, made.file, challenge, images=made.source)
    with zipfile.ZipFile(made.file) as archive:
        archive.extractall(tmp_path / "unpacked")
    for case in made.cases:
        folder = next(path for path in made.source.rglob(case) if path.is_dir())
        ending = "-seg" if challenge >= "brats2023" else "_seg"
        (tmp_path / "unpacked" / f"{case}.nii.gz").rename(folder / f"{case}{ending}.nii.gz")
    convert_brats(made.source, tmp_path / "raw" / "Dataset001_X", strict=True)
    for case, inside in made.inside.items():
        [label] = (tmp_path / "raw" / "Dataset001_X").glob(f"labels*/{case}.nii.gz")
        assert np.array_equal(voxels(label), inside)


def test_nnunets_own_images_serve_as_the_source(promise12, brats2021, tmp_path):
    for made, convert in ((promise12, convert_promise12), (brats2021, convert_brats)):
        dataset = tmp_path / "raw" / f"Dataset001_{made.challenge}"
        convert(made.source, dataset)
        write_submission(made.predictions, made.file, made.challenge, images=dataset / "imagesTs", overwrite=True)
        assert check_submission(made.file, made.challenge, made.source) == []


def test_the_qform_is_the_sources_to_the_last_bit(submission_of):
    made = submission_of("brats2023")
    oblique = sitk.Euler3DTransform((0, 0, 0), 0.1, 0.2, 0.3).GetMatrix()
    for number, case in enumerate(made.cases):
        folder = made.source / case
        for file in folder.iterdir():
            write_image(np.zeros((4, 5, 6), np.int16), file, spacing=(0.7, 0.9, 1.1), direction=oblique)
            image = nibabel.load(file)  # a qform of doubles that no ITK would have written
            image.header["quatern_b"] += np.float32(3e-7)
            image.header["sform_code"] = 0
            file.write_bytes(gzip.compress(nibabel.Nifti1Image(image.get_fdata(), None, image.header).to_bytes()))
        made.predict(case, next(folder.glob("*t1n.nii.gz")), ".nii.gz", number)
    write_submission(made.predictions, made.file, "brats2023", images=made.source)
    with zipfile.ZipFile(made.file) as archive:
        for case in made.cases:
            written = nibabel.Nifti1Image.from_bytes(gzip.decompress(archive.read(f"{case}.nii.gz"))).header
            source = nibabel.load(made.source / case / f"{case}-t1n.nii.gz").header
            for field in (
                "qform_code",
                "quatern_b",
                "quatern_c",
                "quatern_d",
                "qoffset_x",
                "qoffset_y",
                "qoffset_z",
                "sform_code",
                "pixdim",
            ):
                assert np.array_equal(written[field], source[field])


def test_promise12_is_uncompressed_uint8_with_the_sources_geometry(promise12, tmp_path):
    write_submission(promise12.predictions, promise12.file, "promise12", images=promise12.source)
    with zipfile.ZipFile(promise12.file) as archive:
        archive.extractall(tmp_path)
    header = (tmp_path / "Case01_segmentation.mhd").read_text()
    assert "CompressedData = False" in header
    assert "ElementType = MET_UCHAR" in header
    assert (tmp_path / "Case01_segmentation.raw").stat().st_size == 4 * 5 * 6
    written = sitk.ReadImage(tmp_path / "Case01_segmentation.mhd")
    source = sitk.ReadImage(promise12.source / "test_data" / "Case01.mhd")
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(written, what)() == getattr(source, what)()


def test_names_follow_a_template(promise12):
    write_submission(promise12.predictions, promise12.file, "promise12", names="{case}_seg_team.mhd")
    with zipfile.ZipFile(promise12.file) as archive:
        assert archive.namelist()[0] == "Case00_seg_team.mhd"
    for template in ("{case}_seg.nii.gz", "segmentation.mhd", "x/{case}.mhd"):
        with pytest.raises(InputError, match=r"names with (\{case\}|Case00)"):
            write_submission(promise12.predictions, promise12.file, "promise12", names=template, overwrite=True)


def test_a_disk_that_takes_no_image_is_named(promise12, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("ITK ERROR: MetaImageIO: File cannot be written")

    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(OSError, match=r"Case00_segmentation\.mhd: expected to write an image, .*; free"):
        write_submission(promise12.predictions, promise12.file, "promise12", images=promise12.source)
    assert not promise12.file.exists()


def test_the_same_predictions_give_the_same_bytes(brats2021, promise12):
    for made in (brats2021, promise12):
        write_submission(made.predictions, made.file, made.challenge, images=made.source)
        first = made.file.read_bytes()
        write_submission(made.predictions, made.file, made.challenge, images=made.source, overwrite=True, processes=2)
        assert made.file.read_bytes() == first
        with zipfile.ZipFile(made.file) as archive:
            packed = [archive.read(name) for name in archive.namelist() if name.endswith(".gz")]
        assert all(content[4:8] == bytes(4) for content in packed)  # gzip's time
        made.file.unlink()


def truncated(made):
    truncate(made.predictions / "BraTS2021_00002.nii.gz")


def missing(made):
    (made.predictions / "BraTS2021_00002.nii.gz").unlink()


def of_another_dataset(made):
    (made.predictions / "BraTS2021_00002.nii.gz").rename(made.predictions / "BraTS20_Validation_001.nii.gz")


def of_an_unknown_case(made):
    file = made.predictions / "BraTS2021_00002.nii.gz"
    (made.predictions / "BraTS2021_00009.nii.gz").write_bytes(file.read_bytes())


def of_one_case_twice(made):
    file = made.predictions / "BraTS2021_00002.nii.gz"
    (made.predictions / "again_00002.nii.gz").write_bytes(file.read_bytes())


def label_of_another_edition(made):
    made.replace("BraTS2021_00002", np.full((4, 5, 6), 4))


def of_other_geometry(made):
    write_image(np.zeros((4, 5, 6), np.uint8), made.predictions / "BraTS2021_00002.nii.gz")
    image = made.predictions / "BraTS2021_00001.nii.gz"
    write_image(np.zeros((4, 5, 6), np.uint8), image, spacing=(0.5, 1.25, 3.1))


def empty_folder(made):
    for file in made.predictions.iterdir():
        file.unlink()


def of_nnunets_own_converter(made):
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
    (made.predictions / "dataset.json").write_text(json.dumps({"labels": labels}))


BAD = {
    truncated: r"\S+BraTS2021_00002\.nii\.gz: expected a whole image, got one that is cut off",
    missing: "Expected a prediction of 00002 in .*, got none",
    of_another_dataset: "got the case BraTS20_Validation_001, which would be called",
    of_an_unknown_case: r"BraTS2021_00009\.nii\.gz: expected a prediction of one of the images, got one of another",
    of_one_case_twice: "one prediction of 00002, got .* and .*",
    label_of_another_edition: r"\S+BraTS2021_00002\.nii\.gz: expected labels among \[0, 1, 2, 3\], got 4",
    of_other_geometry: r"00001\.nii\.gz: expected the spacing \(0\.5, 1\.25, 3\) of .*, got \(0\.5, 1\.25, 3\.1\)",
    empty_folder: r"expected predictions of nnU-Net \(\.nii\.gz\), got none",
    of_nnunets_own_converter: r"got the region tumor core of \[2, 3\]",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_prediction_is_named_and_nothing_is_written(spoil, brats2021):
    spoil(brats2021)
    brats2021.file.write_bytes(b"an older one")
    with pytest.raises(InputError, match=BAD[spoil]):
        write_submission(brats2021.predictions, brats2021.file, "brats2021", images=brats2021.source, overwrite=True)
    assert brats2021.file.read_bytes() == b"an older one"
    assert sorted(path.name for path in brats2021.file.parent.iterdir()) == ["predictions", "source", "submission.zip"]


def test_every_bad_prediction_is_listed_at_once(brats2021):
    truncated(brats2021)
    of_an_unknown_case(brats2021)
    (brats2021.predictions / "BraTS2021_00000.nii.gz").unlink()
    with pytest.raises(InputError) as refused:
        write_submission(brats2021.predictions, brats2021.file, "brats2021", images=brats2021.source)
    assert len(refused.value.problems) == 3
    assert len(str(refused.value).splitlines()) == 4


def test_nothing_is_replaced_without_being_asked_to(brats2021):
    brats2021.file.write_bytes(b"an older one")
    with pytest.raises(TargetExistsError):
        write_submission(brats2021.predictions, brats2021.file, "brats2021")
    with pytest.raises(InputError, match=r"\.zip"):
        write_submission(brats2021.predictions, brats2021.file.with_suffix(".tar"), "brats2021")


def test_without_images_the_editions_size_counts(brats2021):
    with pytest.raises(InputError, match=r"Expected 240×240×155 voxels in 'BraTS2021_00000\.nii\.gz', got 6×5×4"):
        write_submission(brats2021.predictions, brats2021.file, "brats2021")
    assert not brats2021.file.exists()


@pytest.mark.parametrize(("threshold", "enhancing_left"), [(0, 3), (3, 3), (4, 0)])
def test_et_threshold_turns_few_voxels_into_necrosis(threshold, enhancing_left, brats2021, tmp_path):
    few = np.zeros((4, 5, 6))
    few.flat[:10] = [3, 3, 3, 2, 2, 2, 1, 1, 0, 0]
    brats2021.replace("BraTS2021_00000", few)
    write_submission(
        brats2021.predictions, brats2021.file, "brats2021", images=brats2021.source, et_threshold=threshold
    )
    on_disk = submitted(brats2021.file, "BraTS2021_00000.nii.gz", tmp_path / "unpacked")
    assert ((on_disk == 4).sum(), (on_disk == 1).sum(), (on_disk == 2).sum()) == (enhancing_left, 5 - enhancing_left, 3)


def test_a_full_size_case_passes_without_images(tmp_path):
    predictions = tmp_path / "predictions"
    empty = np.zeros((155, 240, 240), np.uint8)
    write_image(empty, predictions / "BraTS2021_00001.nii.gz", (1, 1, 1), (0, -239, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    assert write_submission(predictions, tmp_path / "full.zip", "brats2021") == 1
    assert check_submission(tmp_path / "full.zip", "brats2021") == []
    [violation] = check_submission(tmp_path / "full.zip", "brats2024")
    assert "00000-100.nii.gz" in violation
    with zipfile.ZipFile(tmp_path / "gli.zip", "w") as archive:
        archive.write(predictions / "BraTS2021_00001.nii.gz", "BraTS-GLI-00001-100.nii.gz")
    assert check_submission(tmp_path / "gli.zip", "brats2023") == []
    [violation] = check_submission(tmp_path / "gli.zip", "brats2024")
    assert "Expected 182×218×182 voxels" in violation
