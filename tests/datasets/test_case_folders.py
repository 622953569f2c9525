import gzip
import json
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunetv2_gsp.challenges import CHALLENGES, FAMILIES
from nnunetv2_gsp.datasets import conversion
from nnunetv2_gsp.datasets.challenges import convert_source
from nnunetv2_gsp.datasets.labels import relabel
from nnunetv2_gsp.errors import InputError, TargetExistsError
from tests.datasets.sources import BRATS_CASES, endings, truncate, voxels, write_brats, write_brats_case, write_image

EDITIONS = [challenge.name for challenge in FAMILIES["brats"]]
convert_brats = partial(convert_source, "brats")


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


@pytest.mark.parametrize("edition", EDITIONS)
def test_files_and_channels_lie_where_nnunet_looks(edition, tmp_path, dataset):
    report = convert_brats(write_brats(tmp_path / "source", edition), dataset, strict=True)
    first, second, to_predict = names(edition)
    channels = range(len(endings(edition)) - 1)
    assert set(tree(dataset)) == {
        "dataset.json",
        "conversion_report.json",
        *[f"imagesTr/{case}_000{channel}.nii.gz" for case in (first, second) for channel in channels],
        *[f"imagesTs/{to_predict}_000{channel}.nii.gz" for channel in channels],
        *[f"labelsTr/{case}.nii.gz" for case in (first, second)],
    }
    assert [
        np.unique(voxels(dataset / "imagesTr" / f"{second}_000{channel}.nii.gz")).tolist() for channel in channels
    ] == [[100 + channel] for channel in channels]
    assert (report.edition, report.training, report.test, report.skipped) == (
        edition,
        sorted([first, second]),
        [to_predict],
        [],
    )


@pytest.mark.parametrize("edition", ["brats2018", "brats2025", "brats2025-ped", "brats2025-men-rt"])
def test_nnunet_accepts_the_dataset(edition, tmp_path, dataset, capsys):
    convert_brats(write_brats(tmp_path / "source", edition), dataset)
    capsys.readouterr()
    verify_dataset_integrity(str(dataset), num_processes=1)
    printed = capsys.readouterr().out
    assert "verify_dataset_integrity Done" in printed
    assert "Warning" not in printed
    assert "Error" not in printed


@pytest.mark.parametrize("edition", [edition for edition in EDITIONS if not edition.endswith("men-rt")])
def test_nnunet_reads_region_predictions_back_as_the_labels(edition, tmp_path, dataset):
    source = write_brats(tmp_path / "source", edition)
    convert_brats(source, dataset)
    description = json.loads((dataset / "dataset.json").read_text())
    assert list(description["channel_names"].values()) == ["t1", "t1ce", "t2", "flair"]
    assert description["numTraining"] == 2
    case = BRATS_CASES[edition][0]
    on_disk = voxels(next((source / case).glob("*seg.nii.gz")))
    label = voxels(dataset / "labelsTr" / f"{names(edition)[0]}.nii.gz")
    assert np.array_equal(label, relabel(on_disk, CHALLENGES[edition].labels))
    regions = [labels for name, labels in description["labels"].items() if name != "background"]
    certain = torch.from_numpy(np.stack([np.isin(label, region) for region in regions])).float() * 20 - 10
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
    expected = relabel(voxels(case / f"{case.name}_seg.nii.gz"), CHALLENGES["brats2020"].labels)
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
    source = write_brats(write_brats(tmp_path / "source", "brats2021"), "brats2020")
    with pytest.raises(InputError, match=r"brats2021 \(3, BraTS2021_00000 for one\), brats2020") as refused:
        convert_brats(source, dataset)
    assert refused.value.parameters == ("edition",)
    report = convert_brats(source, dataset, edition="2021")
    assert (report.edition, len(report.training), report.skipped) == ("brats2021", 4, [])


def test_before_and_after_treatment_mixed_is_2025(tmp_path, dataset):
    source = write_brats(write_brats(tmp_path / "source", "brats2023"), "brats2024")
    assert convert_brats(source, dataset).edition == "brats2025"
    report = convert_brats(source, dataset, edition="2024", overwrite=True)
    assert (report.edition, len(report.training), report.skipped) == ("brats2024", 4, [])


def test_a_task_beside_glioma_is_named_and_counts(tmp_path, dataset):
    source = write_brats(tmp_path / "source", "brats2023")
    for case in ("BraTS-MET-00001-000", "BraTS-SSA-00002-000"):
        write_brats_case(source / case, "brats2023")
    with pytest.raises(InputError, match=r"got 2 problems"):
        convert_brats(source, dataset, strict=True)
    report = convert_brats(source, dataset)
    assert [(skipped.case, len(report.training)) for skipped in report.skipped] == [
        ("BraTS-MET-00001-000", 2),
        ("BraTS-SSA-00002-000", 2),
    ]
    assert "got one of metastases; make a dataset of its own of it (edition 2023-met or" in report.skipped[0].reason
    report = convert_brats(source, dataset, edition="2023-met", overwrite=True)
    assert report.training == ["BraTS-MET-00001-000"]
    assert len(report.skipped) == 4


def test_two_tasks_without_glioma_are_refused(tmp_path, dataset):
    for case in ("BraTS-MET-00001-000", "BraTS-SSA-00002-000"):
        write_brats_case(tmp_path / "source" / case, "brats2023")
    with pytest.raises(InputError, match=r"expected cases of one task, got brats2023-met \(1, .*brats2023-ssa"):
        convert_brats(tmp_path / "source", dataset)


def test_children_of_unknown_year_are_refused_as_their_labels_changed(tmp_path, dataset):
    write_brats_case(tmp_path / "source" / "BraTS-PED-00001-000", "brats2024-ped")
    with pytest.raises(InputError, match=r"got those of brats2023-ped and .* whose labels differ; say which edition"):
        convert_brats(tmp_path / "source", dataset)
    (tmp_path / "source").rename(tmp_path / "BraTS-PEDs2024_Training")
    assert convert_brats(tmp_path / "BraTS-PEDs2024_Training", dataset).edition == "brats2024-ped"


@pytest.mark.parametrize(
    ("case", "edition"), [("BraTS-MET-00001-000", "2025-met"), ("BraTS-SSA-00001-000", "2025-ssa")]
)
def test_names_alone_tell_the_task(case, edition, tmp_path, dataset):
    write_brats_case(tmp_path / "source" / case, "brats2023")
    assert convert_brats(tmp_path / "source", dataset, strict=True).edition == f"brats{edition}"


def test_with_an_edition_folders_of_any_name_are_cases_where_their_files_are(tmp_path, dataset):
    write_brats_case(tmp_path / "source" / "patient_1", "brats2021")
    with pytest.raises(InputError, match=r"case folders named as BraTS 2018 to 2025 .* got none") as refused:
        convert_brats(tmp_path / "source", dataset)
    assert refused.value.parameters == ("edition",)
    assert convert_brats(tmp_path / "source", dataset, edition="2021").training == ["patient_1"]


@pytest.mark.parametrize("case", ["UPENN-GBM-00001_11", "UCSF-PDGM-0004_nifti", "sub-strokecase0001"])
def test_what_is_not_taken_is_called_by_its_name(case, tmp_path, dataset):
    write_image(np.zeros((4, 5, 6), np.int16), tmp_path / "source" / case / f"{case}_T1.nii.gz")
    with pytest.raises(InputError, match=rf"got \S+ \({case} for one\), which is not taken; .* plain nnU-Net dataset"):
        convert_brats(tmp_path / "source", dataset)


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
    assert [note.partition(" holds cases with labels, which are trained on")[0] for note in report.notes] == [
        str(tmp_path / "test_brats")
    ]


@pytest.mark.parametrize("edition", ["brats2018", "brats2019"])
def test_a_folder_of_cases_that_is_named_like_one_is_none(edition, tmp_path, dataset):
    container = {"brats2018": "Brats18_data", "brats2019": "BraTS19_data"}[edition]
    source = write_brats(tmp_path / "source" / container, edition).parent
    report = convert_brats(source, dataset, strict=True)
    assert (len(report.training), len(report.test)) == (2, 1)
    (source / container.replace("data", "empty")).mkdir()
    report = convert_brats(source, dataset, overwrite=True)  # holds no case either, but is not passed over in silence
    assert [skipped.case for skipped in report.skipped] == [container.replace("data", "empty")]


def test_labelled_cases_that_are_set_apart_are_held_out_unless_all_are_asked_for(tmp_path, dataset):
    for folder, numbers in (("train", (0, 1)), ("val", (2, 3)), ("test", (4,))):
        for number in numbers:
            write_brats_case(tmp_path / "source" / folder / f"BraTS2021_0000{number}", "brats2021")
    report = convert_brats(tmp_path / "source", dataset, strict=True)
    assert report.training == ["BraTS2021_00000", "BraTS2021_00001"]
    assert sorted(path.name[:15] for path in (dataset / "labelsTs").iterdir()) == report.test
    assert report.folders == {
        "test": {"training": 0, "test": 1},
        "train": {"training": 2, "test": 0},
        "val": {"training": 0, "test": 2},
    }
    assert json.loads((dataset / "conversion_report.json").read_text())["folders"] == report.folders
    report = convert_brats(tmp_path / "source", dataset, split="all", overwrite=True)
    assert (len(report.training), report.test) == (5, [])


def test_notes_of_finished_cases_survive_an_interruption(source, dataset, monkeypatch):
    label = source / "BraTS2021_00000" / "BraTS2021_00000_seg.nii.gz"
    write_image(voxels(label) * np.float32(1.00002), label)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "_remove_leftovers", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert_brats(source, dataset)
    monkeypatch.setattr(conversion, "convert_case", lambda *_: pytest.fail("all cases are finished"))
    [note] = convert_brats(source, dataset).notes
    assert "scl_slope" in note


def test_nan_in_an_image_or_label_is_not_in_order(source, dataset):
    for case, ending in (("BraTS2021_00000", "t1"), ("BraTS2021_00002", "seg")):
        write_image(np.full((4, 5, 6), np.nan, np.float32), source / case / f"{case}_{ending}.nii.gz")
    report = convert_brats(source, dataset)
    assert (report.training, report.test) == ([], ["BraTS2021_00001"])
    assert ["got NaN or infinity" in skipped.reason for skipped in report.skipped] == [True, True]


def test_images_that_no_case_claims_count_for_strict(source, dataset, monkeypatch):
    write_image(np.zeros((4, 5, 6), np.int16), source / "more" / "patient_1" / "t1.nii.gz")
    write_image(np.zeros((4, 5, 6), np.int16), source / "BraTS2021_00000" / "BraTS2021_00000_dwi.nii.gz")
    with monkeypatch.context() as patch:
        patch.setattr(conversion, "convert_case", lambda *_: pytest.fail("refused before any work"))
        with pytest.raises(InputError, match=r"nothing else, got 2 problems"):
            convert_brats(source, dataset, strict=True)
    report = convert_brats(source, dataset)
    assert [skipped.case for skipped in report.skipped] == ["BraTS2021_00000", "more/patient_1"]
    assert len(report.training) == 2
