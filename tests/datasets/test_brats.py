import gzip
import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_gsp.datasets.brats import CHANNELS, convert_brats, edition_of
from nnunetv2_gsp.datasets.challenges import BRATS
from nnunetv2_gsp.datasets.labels import LABEL_MAPPINGS, relabel
from nnunetv2_gsp.errors import InputError, TargetExistsError
from tests.datasets.sources import BRATS_CASES, truncate, voxels, write_brats, write_brats_case, write_image

EDITIONS = BRATS.full_names


def names(edition):
    return [path.split("/")[-1] for path in BRATS_CASES[edition]]


@pytest.fixture
def source(tmp_path):
    return write_brats(tmp_path / "source", "brats2021")


@pytest.fixture
def dataset(tmp_path):
    return tmp_path / "nnUNet_raw" / "Dataset021_BraTS"


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_edition_is_told_by_its_names():
    assert {edition: {edition_of(name) for name in names(edition)} for edition in EDITIONS} == {
        edition: {edition} for edition in EDITIONS
    }
    assert edition_of("BraTS-MET-00000-000") is None
    assert edition_of("BraTS2021_00000_t1") is None


@pytest.mark.parametrize("edition", EDITIONS)
def test_files_and_channels_lie_where_nnunet_looks(edition, tmp_path, dataset):
    report = convert_brats(write_brats(tmp_path / "source", edition), dataset, strict=True)
    first, second, to_predict = names(edition)
    assert set(tree(dataset)) == {
        "dataset.json",
        "conversion_report.json",
        *[f"imagesTr/{case}_000{channel}.nii.gz" for case in (first, second) for channel in range(4)],
        *[f"imagesTs/{to_predict}_000{channel}.nii.gz" for channel in range(4)],
        *[f"labelsTr/{case}.nii.gz" for case in (first, second)],
    }
    assert [
        np.unique(voxels(dataset / "imagesTr" / f"{second}_000{channel}.nii.gz")).tolist() for channel in range(4)
    ] == [[100], [101], [102], [103]]
    assert (report.edition, report.training, report.test, report.skipped) == (
        edition,
        sorted([first, second]),
        [to_predict],
        [],
    )


@pytest.mark.parametrize("edition", EDITIONS)
def test_nnunet_accepts_the_dataset(edition, tmp_path, dataset, capsys):
    convert_brats(write_brats(tmp_path / "source", edition), dataset)
    capsys.readouterr()
    verify_dataset_integrity(str(dataset), num_processes=1)
    printed = capsys.readouterr().out
    assert "verify_dataset_integrity Done" in printed
    assert "Warning" not in printed
    assert "Error" not in printed


@pytest.mark.parametrize("edition", EDITIONS)
def test_nnunet_reads_region_predictions_back_as_the_labels(edition, tmp_path, dataset):
    source = write_brats(tmp_path / "source", edition)
    convert_brats(source, dataset)
    description = json.loads((dataset / "dataset.json").read_text())
    assert list(description["channel_names"].values()) == list(CHANNELS)
    assert description["numTraining"] == 2
    case = BRATS_CASES[edition][0]
    on_disk = voxels(next((source / case).glob("*seg.nii.gz")))
    label = voxels(dataset / "labelsTr" / f"{names(edition)[0]}.nii.gz")
    assert np.array_equal(label, relabel(on_disk, LABEL_MAPPINGS[edition]))
    regions = [np.isin(label, region) for region in ((1, 2, 3), (1, 3), (3,), (4,))]
    n_regions = 4 if edition == "brats2024" else 3
    certain = torch.from_numpy(np.stack(regions[:n_regions])).float() * 20 - 10
    labels = LabelManager(description["labels"], description["regions_class_order"])
    assert np.array_equal(labels.convert_logits_to_segmentation(certain), label)


def test_images_keep_every_byte_and_labels_their_geometry(source, dataset):
    before = tree(source)
    convert_brats(source, dataset)
    image = "BraTS2021_00000_t1ce.nii.gz"
    assert (dataset / "imagesTr" / "BraTS2021_00000_0001.nii.gz").read_bytes() == before[f"BraTS2021_00000/{image}"]
    original = sitk.ReadImage(source / "BraTS2021_00000" / "BraTS2021_00000_seg.nii.gz")
    converted = sitk.ReadImage(dataset / "labelsTr" / "BraTS2021_00000.nii.gz")
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(converted, what)() == getattr(original, what)()
    assert tree(source) == before


def test_plain_nii_is_compressed_and_loses_to_gz_beside_it(tmp_path, dataset):
    source = write_brats(tmp_path / "source", "brats2020", ending=".nii")
    case = source / BRATS_CASES["brats2020"][0]
    t1 = (case / f"{case.name}_t1.nii").read_bytes()
    write_image(np.full((4, 5, 6), 77, np.int16), case / f"{case.name}_t2.nii.gz")
    convert_brats(source, dataset, strict=True)
    packed = (dataset / "imagesTr" / f"{case.name}_0000.nii.gz").read_bytes()
    assert gzip.decompress(packed) == t1
    assert packed[3:8] == bytes(5)  # no name, no time
    assert np.unique(voxels(dataset / "imagesTr" / f"{case.name}_0002.nii.gz")) == [77]


@pytest.mark.parametrize("misnamed", ["W39_1998.09.19_Segm.nii", "W39_1998.09.19_Segm.nii.gz"])
def test_the_misnamed_segmentation_of_2020_is_taken_and_noted(misnamed, tmp_path, dataset):
    source = write_brats(tmp_path / "source", "brats2020")
    case = source / BRATS_CASES["brats2020"][1]
    expected = relabel(voxels(case / f"{case.name}_seg.nii.gz"), LABEL_MAPPINGS["brats2020"])
    write_image(voxels(case / f"{case.name}_seg.nii.gz"), case / misnamed)
    (case / f"{case.name}_seg.nii.gz").unlink()
    report = convert_brats(source, dataset, strict=True)
    assert np.array_equal(voxels(dataset / "labelsTr" / "BraTS20_Training_355.nii.gz"), expected)
    assert [misnamed in note and "BraTS20_Training_355" in note for note in report.notes] == [True]


def test_held_out_cases_go_to_test_with_their_labels(source, dataset):
    report = convert_brats(source, dataset, held_out=["BraTS2021_00002"])
    assert report.test == ["BraTS2021_00001", "BraTS2021_00002"]
    assert [path.name for path in (dataset / "labelsTs").iterdir()] == ["BraTS2021_00002.nii.gz"]
    assert json.loads((dataset / "dataset.json").read_text())["numTraining"] == 1
    with pytest.raises(InputError, match="BraTS2021_00009"):
        convert_brats(source, dataset, held_out=["BraTS2021_00009"], overwrite=True)


def damage_t2(case):
    truncate(case / f"{case.name}_t2.nii.gz")


def drop_t2(case):
    (case / f"{case.name}_t2.nii.gz").unlink()


def label_of_another_edition(case):
    write_image(np.full((4, 5, 6), 3, np.uint8), case / f"{case.name}_seg.nii.gz")


def shift_flair(case):
    write_image(np.zeros((4, 5, 6), np.int16), case / f"{case.name}_flair.nii.gz", origin=(-7, 11.01, 13))


def shrink_label(case):
    write_image(np.zeros((4, 5, 5), np.uint8), case / f"{case.name}_seg.nii.gz")


def copy_elsewhere(case):
    write_brats_case(case.parent / "copy" / case.name, "brats2021")


BAD = {
    damage_t2: r"\S*BraTS2021_00002_t2\.nii\.gz: expected a whole image, got one that is cut off or damaged",
    drop_t2: r"\S*BraTS2021_00002: expected BraTS2021_00002_t2\.nii\.gz or \.nii, got neither",
    label_of_another_edition: r"\S*BraTS2021_00002_seg\.nii\.gz: expected labels among \[0, 1, 2, 4\], got 3;",
    shift_flair: r"BraTS2021_00002_flair\.nii\.gz: expected the origin \(-7, 11, 13\) of \S+, got \(-7, 11\.01, 13\)",
    shrink_label: r"BraTS2021_00002_seg\.nii\.gz: expected the size \(6, 5, 4\) of \S+, got \(5, 5, 4\)",
    copy_elsewhere: r"one case BraTS2021_00002, got 2: in \S*BraTS2021_00002 and \S*copy/BraTS2021_00002",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_a_bad_case_is_named_and_the_rest_is_finished(spoil, source, dataset):
    spoil(source / "BraTS2021_00002")
    report = convert_brats(source, dataset)
    [skipped] = report.skipped
    assert skipped.case == "BraTS2021_00002"
    with pytest.raises(InputError, match=BAD[spoil]):
        raise InputError("a whole case", skipped.reason)
    assert report.training == ["BraTS2021_00000"]
    assert not [path for path in tree(dataset) if "00002" in path]
    written = json.loads((dataset / "conversion_report.json").read_text())
    assert written["skipped"] == [{"case": skipped.case, "reason": skipped.reason}]


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
def test_strict_refuses_a_bad_case_and_leaves_nothing(spoil, source, dataset):
    spoil(source / "BraTS2021_00002")
    with pytest.raises(InputError, match=BAD[spoil]):
        convert_brats(source, dataset, strict=True)
    assert not dataset.parent.exists() or not list(dataset.parent.iterdir())


def test_truncated_plain_nifti_is_noticed_too(tmp_path, dataset):
    source = write_brats(tmp_path / "source", "brats2020", ending=".nii")
    truncate(source / BRATS_CASES["brats2020"][0] / "BraTS20_Training_001_t1.nii")
    [skipped] = convert_brats(source, dataset).skipped
    assert "BraTS20_Training_001_t1.nii: expected a whole image, got one that is cut off" in skipped.reason


def test_a_training_case_without_label_is_not_taken_for_a_validation_case(tmp_path, dataset):
    source = write_brats(tmp_path / "source", "brats2018")
    (source / "HGG/Brats18_2013_10_1/Brats18_2013_10_1_seg.nii.gz").unlink()
    report = convert_brats(source, dataset)
    assert [skipped.case for skipped in report.skipped] == ["Brats18_2013_10_1"]
    assert report.test == ["Brats18_CBICA_AAM_1"]


def test_two_editions_are_refused_unless_one_is_given(tmp_path, dataset):
    source = write_brats(write_brats(tmp_path / "source", "brats2023"), "brats2024")
    with pytest.raises(InputError, match=r"brats2023 \(3, BraTS-GLI-00000-000 for one\), brats2024"):
        convert_brats(source, dataset)
    report = convert_brats(source, dataset, edition="brats2024")
    assert (report.edition, len(report.training), report.skipped) == ("brats2024", 4, [])


def test_a_folder_without_cases_is_refused(tmp_path, dataset):
    with pytest.raises(InputError, match="BraTS2021_00000"):
        convert_brats(tmp_path, dataset)
    with pytest.raises(InputError, match="nowhere: expected a folder"):
        convert_brats(tmp_path / "nowhere", dataset)


def test_a_source_of_bad_cases_alone_leaves_no_dataset(source, dataset):
    for case in source.iterdir():
        truncate(case / f"{case.name}_t1.nii.gz")
    with pytest.raises(InputError, match="expected a case that is in order, got 3 problems"):
        convert_brats(source, dataset)
    assert not list(dataset.parent.iterdir())


def test_a_dataset_is_replaced_only_on_demand_and_never_the_source(source, dataset):
    convert_brats(source, dataset)
    before = tree(dataset)
    with pytest.raises(TargetExistsError) as refused:
        convert_brats(source, dataset)
    assert refused.value.parameters == ("dataset", "overwrite")
    assert tree(dataset) == before
    drop_t2(source / "BraTS2021_00002")
    convert_brats(source, dataset, overwrite=True)
    assert "labelsTr/BraTS2021_00002.nii.gz" not in tree(dataset)
    assert [path.name for path in dataset.parent.iterdir()] == [dataset.name]
    with pytest.raises(InputError, match="outside"):
        convert_brats(source, source.parent, overwrite=True)


def test_links_are_followed_and_cycles_end(source, dataset, tmp_path):
    links = tmp_path / "links"
    links.mkdir()
    (links / "data").symlink_to(source)
    (links / "again").symlink_to(links)
    assert len(convert_brats(links, dataset).training) == 2


def test_several_processes_make_the_same_dataset(source, dataset):
    damage_t2(source / "BraTS2021_00002")
    other = dataset.with_name("Dataset022_BraTS")
    assert convert_brats(source, dataset).skipped == convert_brats(source, other, processes=2).skipped
    assert tree(other) == tree(dataset)


@pytest.mark.parametrize("edition", ["brats2019", "brats2021"])
def test_a_source_called_test_still_has_cases_to_train_with(edition, tmp_path, dataset):
    report = convert_brats(write_brats(tmp_path / "test_brats", edition), dataset, strict=True)
    first, second, to_predict = names(edition)
    assert (report.training, report.test) == (sorted([first, second]), [to_predict])


@pytest.mark.parametrize("edition", ["brats2018", "brats2019"])
def test_a_folder_of_cases_that_is_named_like_one_is_none(edition, tmp_path, dataset):
    container = {"brats2018": "Brats18_data", "brats2019": "BraTS19_data"}[edition]
    source = write_brats(tmp_path / "source" / container, edition).parent
    report = convert_brats(source, dataset, strict=True)
    assert (len(report.training), len(report.test)) == (2, 1)
    (source / container.replace("data", "empty")).mkdir()
    report = convert_brats(source, dataset, overwrite=True)  # holds no case either, but is not passed over in silence
    assert [skipped.case for skipped in report.skipped] == [container.replace("data", "empty")]
