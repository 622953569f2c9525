import gzip
import json
import zipfile

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nnunetv2_gsp import cli
from nnunetv2_gsp.datasets.brats import convert_brats
from nnunetv2_gsp.datasets.editions import CHALLENGES, EDITIONS
from nnunetv2_gsp.datasets.labels import LABELS, inverse, relabel
from nnunetv2_gsp.datasets.promise12 import convert_promise12
from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.submission import check_submission, write_submission
from nnunetv2_gsp.submission.rules import rules_of
from nnunetv2_gsp.submission.writing import Job, _written, check_convention
from tests.datasets.sources import truncate, voxels, write_image


def submitted(file, name, folder):
    """Return the voxels of a case in an archive."""
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return voxels(folder / name)


@pytest.mark.parametrize("challenge", CHALLENGES)
def test_an_archive_holds_the_challenges_names_and_labels(challenge, submission_of, tmp_path):
    made = submission_of(challenge)
    assert write_submission(made.predictions, made.file, challenge, images=made.source) == len(made.cases)
    with zipfile.ZipFile(made.file) as archive:
        names = archive.namelist()
    assert not any("/" in name for name in names)
    if challenge == "promise12":
        assert names == ["Case00_segmentation.mhd", "Case00_segmentation.raw", "Case01_segmentation.mhd",
                         "Case01_segmentation.raw"]
    else:
        assert names == [f"{case}.nii.gz" for case in made.cases]
    for case, inside in made.inside.items():
        name = rules_of(challenge).file_name(case)
        on_disk = submitted(made.file, name, tmp_path / "unpacked")
        assert on_disk.dtype == np.uint8
        assert np.array_equal(relabel(on_disk, LABELS[challenge]), inside)
        assert set(np.unique(on_disk)) == set(LABELS[challenge])
    assert check_submission(made.file, challenge, made.source) == []


@pytest.mark.parametrize("challenge", CHALLENGES)
@settings(deadline=None, max_examples=50)  # files take as long as the disk is busy
@given(data=st.data())
def test_labels_to_submission_to_labels_is_the_identity(challenge, data, tmp_path_factory):
    """Predictions -> what goes into the archive -> what `convert` would make of it."""
    folder = tmp_path_factory.getbasetemp() / "circle"
    folder.mkdir(exist_ok=True)
    table, rules = LABELS[challenge], rules_of(challenge)
    shape = data.draw(arrays.array_shapes(min_dims=3, max_dims=3, max_side=4))
    inside = data.draw(arrays.arrays(np.uint8, shape, elements=st.sampled_from(sorted(table.values()))))
    prediction = folder / f"case{rules.prediction_endings[0]}"
    write_image(inside, prediction)
    result = _written(rules, 0, Job(prediction, "Case00.mhd" if challenge == "promise12" else "case.nii.gz", None))
    for name, content in result.files:
        (folder / name).write_bytes(content)
    on_disk = voxels(folder / result.files[0][0])
    assert set(np.unique(on_disk)) <= set(table)
    assert np.array_equal(relabel(on_disk, table), inside)
    assert np.array_equal(relabel(relabel(inside, inverse(table)), table), inside)


@pytest.mark.parametrize("challenge", EDITIONS)
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
            for field in ("qform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
                          "sform_code", "pixdim"):
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
        with pytest.raises(InputError, match="names with Case00"):
            write_submission(promise12.predictions, promise12.file, "promise12", names=template, overwrite=True)


@pytest.mark.parametrize(("challenge", "case", "template"), [
    ("promise12", "Test_Case07", "Case99_{case}.mhd"), ("promise12", "Case07", "Case1{case}.mhd"),
    ("promise12", "Case07", "{case}1_seg.mhd"), ("brats2021", "BraTS2021_00001", "{case}_00002.nii.gz"),
    ("brats2020", "BraTS20_Validation_001", "{case}2.nii.gz"),
    ("brats2023", "BraTS-GLI-00001-000", "{case}-00002-000.nii.gz")])
def test_a_template_does_not_lead_to_another_case(challenge, case, template):
    with pytest.raises(InputError, match="would be called"):
        rules_of(challenge).file_name(case, template)


def test_a_disk_that_takes_no_image_is_named(promise12, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("ITK ERROR: MetaImageIO: File cannot be written")

    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(OSError, match=r"to write \S+Case00_segmentation\.mhd, found that it can't be written; free"):
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
    truncated: r"whole image in \S+BraTS2021_00002\.nii\.gz, found one that is cut off",
    missing: "Expected a prediction of 00002 in .*, found none",
    of_another_dataset: "found the case BraTS20_Validation_001, which would be called",
    of_an_unknown_case: r"found \S+BraTS2021_00009\.nii\.gz, which is not among them",
    of_one_case_twice: "one prediction of 00002, found .* and .*",
    label_of_another_edition: r"labels among \[0, 1, 2, 3\] in \S+BraTS2021_00002\.nii\.gz, found 4",
    of_other_geometry: r"00001\.nii\.gz to have the spacing \(0\.5, 1\.25, 3\) of .*, found \(0\.5, 1\.25, 3\.1\)",
    empty_folder: "Expected predictions of nnU-Net, .nii.gz, in .*, found none",
    of_nnunets_own_converter: r"found the region tumor core of \[2, 3\]",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_prediction_is_named_and_nothing_is_written(spoil, brats2021):
    spoil(brats2021)
    brats2021.file.write_bytes(b"an older one")
    with pytest.raises(InputError, match=BAD[spoil]):
        write_submission(brats2021.predictions, brats2021.file, "brats2021", images=brats2021.source, overwrite=True)
    assert brats2021.file.read_bytes() == b"an older one"
    assert sorted(path.name for path in brats2021.file.parent.iterdir()) == ["predictions", "source", "submission.zip"]


def convention(made, labels):
    """Check predictions beside a dataset.json with these labels."""
    (made.predictions / "dataset.json").write_text(json.dumps({"labels": {"background": 0, **labels}}))
    check_convention(made.predictions, rules_of(made.challenge))


@pytest.mark.parametrize("labels", [
    {"edema": 1, "non-enhancing tumor": 2, "enhancing tumour": 3},  # nnU-Net's converter of the Decathlon
    {"ED": 1, "NCR": 2, "ET": 3}, {"a": 1, "b": 2, "c": 3}, {"necrosis": 1, "edema": 2}, {},
    {"necrosis": 1, "edema": 2, "enhancing": 3, "ET": 4}, {"tumor": 1, "edema": 2, "enhancing": 3},
    {"whole": [1, 2, 3], "enhancing": [3]}, {"whole": [1, 2, 3], "core": [1, 3], "enhancing": 3, "edema": 2},
    {"whole": [1, 2, 3], "core": [1, 2], "enhancing": [3]}], ids=str)
def test_labels_of_another_meaning_are_refused(labels, brats2021):
    with pytest.raises(InputError, match=r"labels 1 necrosis, 2 oedema, 3 enhancing in \S+dataset\.json, .*, found "):
        convention(brats2021, labels)


@pytest.mark.parametrize("labels", [
    {"necrosis": 1, "edema": 2, "enhancing": 3}, {"NCR": 1, "ED": 2, "ET": 3, "RC": 4},
    {"Non-enhancing tumor": 1, "Peritumoral edema": 2, "GD-enhancing tumor": 3}, {"NETC": 1, "SNFH": 2, "ET": 3},
    {"TC": [3, 1], "WT": [1, 2, 3], "ET": 3, "ignore": 5},
    {"WT": [1, 2, 3], "TC": [1, 3], "ET": [3], "RC": [4]}], ids=str)
def test_labels_of_the_same_meaning_are_taken(labels, brats2021):
    convention(brats2021, labels)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"labels": {"a": [[1], [2]]}}', '{"labels": {"a": {}}}',
                                     '{"labels": {"a": []}}', '{"labels": {"a": "1"}}', '{"labels": 5}'])
def test_a_damaged_dataset_json_is_said(content, brats2021):
    (brats2021.predictions / "dataset.json").write_text(content)
    with pytest.raises(InputError, match=r"dataset\.json that can't be read"):
        write_submission(brats2021.predictions, brats2021.file, "brats2021", images=brats2021.source)


def test_every_bad_prediction_is_listed_at_once(brats2021):
    truncated(brats2021)
    of_an_unknown_case(brats2021)
    (brats2021.predictions / "BraTS2021_00000.nii.gz").unlink()
    with pytest.raises(InputError) as refused:
        write_submission(brats2021.predictions, brats2021.file, "brats2021", images=brats2021.source)
    assert len(str(refused.value).splitlines()) == 4


def test_nothing_is_replaced_without_being_asked_to(brats2021):
    brats2021.file.write_bytes(b"an older one")
    with pytest.raises(InputError, match="--overwrite"):
        write_submission(brats2021.predictions, brats2021.file, "brats2021")
    with pytest.raises(InputError, match=r"\.zip"):
        write_submission(brats2021.predictions, brats2021.file.with_suffix(".tar"), "brats2021")


def test_without_images_the_editions_size_counts(brats2021):
    with pytest.raises(InputError, match=r"Expected 240×240×155 voxels in 'BraTS2021_00000\.nii\.gz', found 6×5×4"):
        write_submission(brats2021.predictions, brats2021.file, "brats2021")
    assert not brats2021.file.exists()


def test_images_of_another_challenge_or_of_two_sets_are_refused(brats2021, promise12, tmp_path):
    with pytest.raises(InputError, match=r"images of brats2020 in .*, found brats2021"):
        write_submission(brats2021.predictions, brats2021.file, "brats2020", images=brats2021.source)
    for file in (promise12.source / "test_data").iterdir():
        (promise12.source / "live").mkdir(exist_ok=True)
        (promise12.source / "live" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="one case Case00 in"):
        write_submission(promise12.predictions, promise12.file, "promise12", images=promise12.source)


@pytest.mark.parametrize(("threshold", "enhancing_left"), [(0, 3), (3, 3), (4, 0)])
def test_et_threshold_turns_few_voxels_into_necrosis(threshold, enhancing_left, brats2021, tmp_path):
    few = np.zeros((4, 5, 6))
    few.flat[:10] = [3, 3, 3, 2, 2, 2, 1, 1, 0, 0]
    brats2021.replace("BraTS2021_00000", few)
    write_submission(brats2021.predictions, brats2021.file, "brats2021", images=brats2021.source,
                     et_threshold=threshold)
    on_disk = submitted(brats2021.file, "BraTS2021_00000.nii.gz", tmp_path / "unpacked")
    assert ((on_disk == 4).sum(), (on_disk == 1).sum(), (on_disk == 2).sum()) == (
        enhancing_left, 5 - enhancing_left, 3)


def exit_code(*arguments):
    with pytest.raises(SystemExit) as exited:
        cli.main([str(argument) for argument in arguments])
    return exited.value.code


def test_the_commands_write_and_check(brats2021, capsys, monkeypatch):
    monkeypatch.setattr("nnunetv2_gsp.nnunet.n_processes", lambda: 1)
    options = ("--challenge", "brats2021", "--images", brats2021.source)
    assert exit_code("submit", "-i", brats2021.predictions, "-o", brats2021.file, *options) == 0
    assert f"Wrote {brats2021.file}: 3 cases" in capsys.readouterr().out
    assert exit_code("check-submission", brats2021.file, *options) == 0
    printed = capsys.readouterr().out
    assert "no violations" in printed
    assert "Not checked" not in printed
    assert exit_code("check-submission", brats2021.file, "--challenge", "brats2020") == 1
    printed = capsys.readouterr().out
    assert "3 violations of the rules of brats2020" in printed
    assert "Not checked: whether all cases are there" in printed


def test_an_archive_in_the_way_is_said_before_anything_is_read(brats2021, tmp_path):
    brats2021.file.write_bytes(b"an older one")
    refusal = exit_code("submit", "-i", brats2021.predictions, "-o", brats2021.file, "--challenge", "brats2021",
                        "--et-threshold", "auto", "--cv-folder", tmp_path / "nowhere")
    assert "exists and is not replaced" in refusal


@pytest.mark.parametrize("options", [
    ("--challenge", "promise12", "--et-threshold", "5"), ("--challenge", "brats2021", "--et-threshold", "auto"),
    ("--challenge", "brats2021", "--cv-folder", "x"), ("--challenge", "brats2021", "--et-threshold", "5", "-gt", "x")])
def test_et_options_that_do_not_belong_together_are_refused(options, brats2021):
    refusal = exit_code("submit", "-i", brats2021.predictions, "-o", brats2021.file, *options)
    assert "drop" in refusal
    assert not brats2021.file.exists()


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
