"""What a container does with the cases of an input folder, through every interface, and when one is bad."""

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_gsp.challenges import CHALLENGES
from nnunetv2_gsp.container.__main__ import main
from nnunetv2_gsp.container.results import ChallengeResults, TrainedLabels
from nnunetv2_gsp.prediction.sliding_window import Predictor
from tests.container.models import (
    CASES,
    MODALITIES,
    PLAIN,
    SPACING_MM,
    container,
    noise,
    write_brats_case,
    write_model,
)
from tests.datasets.sources import truncate, voxels, write_image
from tests.sharing.models import CPU


@pytest.fixture(scope="module")
def brats_container(brats_bundle, tmp_path_factory):
    return container([brats_bundle], tmp_path_factory.mktemp("brats") / "algorithm", "brats2025")


@pytest.fixture
def brats_input(tmp_path):
    for number, case in enumerate(CASES):
        write_brats_case(tmp_path / "in" / case, seed=number)
    return tmp_path / "in"


def run(folder, source, output, *arguments):
    return main([str(folder), *arguments, "-i", str(source), "-o", str(output)])


def probabilities(model_folder, images):
    """Return what nnU-Net itself predicts with the folder that it trained: (classes, Z, Y, X)."""
    predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model_folder), (0,))
    data, properties = predictor.plans_manager.image_reader_writer_class().read_images(list(map(str, images)))
    _, found = predictor.predict_single_npy_array(data, properties, None, None, True)
    return predictor.label_manager, found


def brats_images(folder):
    return [folder / f"{folder.name}-{modality}.nii.gz" for modality in MODALITIES]


def check_labels(file, manager, expected):
    """Check labels against probabilities (classes, Z, Y, X), but for near ties, as nnU-Net sums windows in fp16."""
    expected = np.asarray(expected)
    best_two = np.sort(expected, axis=0)[-2:]
    margin = np.abs(expected - 0.5).min(0) if manager.has_regions else best_two[1] - best_two[0]
    is_clear = margin > 1e-3
    assert is_clear.mean() > 0.9
    labels = np.asarray(manager.convert_probabilities_to_segmentation(expected))
    assert len(np.unique(labels)) > 1
    np.testing.assert_array_equal(voxels(file)[is_clear], labels[is_clear])


def test_brats_2025_gets_what_nnunet_predicts(brats_container, brats_input, brats_models, tmp_path):
    assert run(brats_container, brats_input, tmp_path / "out") == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"{case}.nii.gz" for case in CASES]
    for case in CASES:
        check_labels(
            tmp_path / "out" / f"{case}.nii.gz", *probabilities(brats_models[0], brats_images(brats_input / case))
        )


def test_an_ensemble_has_the_mean_of_the_probabilities(brats_models, brats_input, tmp_path):
    folder = container(brats_models, tmp_path / "both", "brats-mlcube")
    assert run(folder, brats_input, tmp_path / "out") == 0
    for case in CASES:
        images = brats_images(brats_input / case)
        (manager, first), (_, second) = (probabilities(model, images) for model in brats_models)
        mean = (first + second) / 2
        assert (np.abs(mean - first) > 1e-2).mean() > 0.5
        check_labels(tmp_path / "out" / f"{case}.nii.gz", manager, mean)


def test_mlcube_passes_its_own_words(brats_bundle, brats_input, tmp_path):
    folder = container([brats_bundle], tmp_path / "mlcube", "brats-mlcube")
    words = ["infer", f"--data_path={brats_input}", f"--output_path={tmp_path / 'out'}", "--weights=/mlcube_io1"]
    assert main([str(folder), *words]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_grand_challenge_gets_an_mha_where_its_image_lies(plain_model, tmp_path):
    folder = container([plain_model], tmp_path / "gc", "grand-challenge", output_slug="prostate")
    write_image(noise(0), tmp_path / "in" / "images" / "t2" / "0d3c.mha", SPACING_MM)
    assert run(folder, tmp_path / "in", tmp_path / "out") == 0
    [result] = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert result == tmp_path / "out" / "images" / "prostate" / "0d3c.mha"
    image, found = sitk.ReadImage(tmp_path / "in" / "images" / "t2" / "0d3c.mha"), sitk.ReadImage(result)
    assert found.GetPixelID() == sitk.sitkUInt8
    for what in ("Size", "Spacing", "Origin", "Direction"):
        assert getattr(found, f"Get{what}")() == getattr(image, f"Get{what}")()
    assert set(np.unique(voxels(result))) <= {0, 1, 2}


def test_grand_challenges_inputs_are_the_channels_in_the_order_of_the_slugs(trained, tmp_path):
    model = write_model(trained, {**PLAIN, "channel_names": {"0": "T2", "1": "ADC"}}, plans_name="pairPlans")
    slugs = ("t2", "adc")
    folder = container([model], tmp_path / "gc", "grand-challenge", input_slugs=slugs, output_slug="prostate")
    images = [tmp_path / "in" / "images" / slug / "case.mha" for slug in slugs]
    for seed, image in enumerate(images):
        write_image(noise(seed), image, SPACING_MM)
    assert run(folder, tmp_path / "in", tmp_path / "out") == 0
    check_labels(tmp_path / "out" / "images" / "prostate" / "case.mha", *probabilities(model, images))


def test_flare_gets_a_flat_folder_without_the_channel(plain_model, tmp_path):
    folder = container([plain_model], tmp_path / "flare", "flare")
    for case in ("FLARE_1", "FLARE_2"):
        write_image(noise(0), tmp_path / "in" / f"{case}_0000.nii.gz", SPACING_MM)
    assert run(folder, tmp_path / "in", tmp_path / "out") == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["FLARE_1.nii.gz", "FLARE_2.nii.gz"]
    check_labels(
        tmp_path / "out" / "FLARE_1.nii.gz", *probabilities(plain_model, [tmp_path / "in" / "FLARE_1_0000.nii.gz"])
    )


def test_meningioma_before_radiotherapy_has_an_underscore(brats_container, tmp_path):
    write_brats_case(tmp_path / "in" / CASES[0], separator="_")
    assert run(brats_container, tmp_path / "in", tmp_path / "out") == 0


def cut_off(folder):
    truncate(brats_images(folder)[2])


def take_away(folder):
    brats_images(folder)[1].unlink()


def move(folder):
    image = sitk.ReadImage(brats_images(folder)[3])
    image.SetOrigin((0, 0, 0))
    sitk.WriteImage(image, brats_images(folder)[3])


def test_nan_in_a_case_of_brats_is_what_nnunets_reader_makes_of_it(brats_container, brats_input, tmp_path):
    image = nibabel.load(brats_images(brats_input / CASES[0])[0])
    labels = []
    for value in (0, np.nan):
        changed = image.get_fdata(dtype=np.float32)
        changed[2, 3, 1] = value
        nibabel.save(nibabel.Nifti1Image(changed, image.affine), image.get_filename())
        assert run(brats_container, brats_input, tmp_path / f"{value}") == 0
        labels.append(voxels(next((tmp_path / f"{value}").glob("*00005*.nii.gz"))))
    assert labels[0].any()
    assert np.array_equal(*labels)


def test_nan_in_an_image_does_not_matter_to_its_geometry(plain_model, tmp_path):
    image = noise(0)
    image[2, 3, 1] = np.nan
    write_image(image, tmp_path / "in" / "case_0000.nii.gz", SPACING_MM)
    assert run(container([plain_model], tmp_path / "algorithm", "flare"), tmp_path / "in", tmp_path / "out") == 0


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut_off, "expected a whole image, got one that is cut off"),
        (take_away, "expected BraTS-GLI-00005-100-t1c.nii.gz or BraTS-GLI-00005-100_t1c.nii.gz, got neither"),
        (move, "expected the origin (-7, 11, 13)"),
    ],
)
def test_a_bad_case_of_brats_is_named_and_its_gap_is_filled(
    spoil, said, brats_container, brats_input, tmp_path, capsys
):
    spoil(brats_input / CASES[0])
    report = tmp_path / "report" / "report.json"
    assert run(brats_container, brats_input, tmp_path / "out", "--report", str(report)) == 0
    told = capsys.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert f"{CASES[0]}: an empty segmentation stands in its place" in told.err
    assert "1 of 2 cases have a result." in told.out
    reported = json.loads(report.read_text())
    assert reported["predicted"] == [CASES[1]]
    assert said in reported["failed"][CASES[0]]
    assert reported["empty"] == [CASES[0]]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"{case}.nii.gz" for case in CASES]
    empty = nibabel.load(tmp_path / "out" / f"{CASES[0]}.nii.gz")
    image = nibabel.load(brats_images(brats_input / CASES[0])[0])
    assert empty.shape == image.shape
    np.testing.assert_allclose(empty.affine, image.affine, atol=1e-5)
    assert not np.asanyarray(empty.dataobj).any()
    assert b"no prediction" in empty.header["descrip"].item()  # which tells it from a case without a finding
    assert voxels(tmp_path / "out" / f"{CASES[1]}.nii.gz").any()


def test_a_case_whose_geometry_nobody_knows_stays_without_a_file(brats_container, brats_input, tmp_path, capsys):
    for image in (brats_input / CASES[0]).iterdir():
        image.write_bytes(b"no image")
    assert run(brats_container, brats_input, tmp_path / "out") == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == [f"{CASES[1]}.nii.gz"]
    assert f"{CASES[0]}: no image says where an empty one would lie" in capsys.readouterr().err


def test_a_run_that_predicts_nothing_fails_and_fills_no_gap(brats_container, brats_input, tmp_path):
    for case in CASES:
        take_away(brats_input / case)
    report = tmp_path / "report.json"
    assert run(brats_container, brats_input, tmp_path / "out", "--report", str(report)) == 1
    assert list((tmp_path / "out").iterdir()) == []
    assert sorted(json.loads(report.read_text())["failed"]) == list(CASES)


def test_a_bad_case_fails_the_run_where_it_costs_no_other_its_result(plain_model, tmp_path):
    folder = container([plain_model], tmp_path / "flare", "flare")
    for case in ("FLARE_1", "FLARE_2"):
        write_image(noise(0), tmp_path / "in" / f"{case}_0000.nii.gz", SPACING_MM)
    (tmp_path / "in" / "FLARE_1_0000.nii.gz").write_bytes(b"no image")
    assert run(folder, tmp_path / "in", tmp_path / "out") == 1
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["FLARE_2.nii.gz"]


def test_cases_keep_the_names_that_the_organiser_gives_them(brats_models, tmp_path):
    folder = container(brats_models[:1], tmp_path / "algorithm", "brats2025", challenge="brats2025")
    write_brats_case(tmp_path / "in" / "patient")
    assert run(folder, tmp_path / "in", tmp_path / "out") == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["patient.nii.gz"]


def test_a_defect_on_one_case_costs_no_other_its_result(brats_container, brats_input, tmp_path, monkeypatch, capsys):
    predict = Predictor.logits_of
    calls = iter(range(2))

    def fail_once(self, data):
        if next(calls) == 0:
            raise RuntimeError("out of luck")
        return predict(self, data)

    monkeypatch.setattr(Predictor, "logits_of", fail_once)
    assert run(brats_container, brats_input, tmp_path / "out") == 0
    assert not voxels(tmp_path / "out" / f"{CASES[0]}.nii.gz").any()
    assert voxels(tmp_path / "out" / f"{CASES[1]}.nii.gz").any()
    assert "RuntimeError: out of luck" in capsys.readouterr().err


def smaller(file):
    sitk.WriteImage(sitk.ReadImage(file)[1:], file)


def moved(file):
    image = sitk.ReadImage(file)
    image.SetOrigin([5 + at for at in image.GetOrigin()])
    sitk.WriteImage(image, file)


def change_results(results, change, monkeypatch):
    write = results.write

    def write_and_change(self, case, prediction):
        write(self, case, prediction)
        change(self._output / case.result)

    monkeypatch.setattr(results, "write", write_and_change)


@pytest.mark.parametrize(("change", "said"), [(truncate, "Expected a whole image"), (smaller, "voxels")])
def test_a_result_that_changed_after_it_was_written_is_found(
    change, said, brats_container, brats_input, tmp_path, monkeypatch, capsys
):
    change_results(ChallengeResults, change, monkeypatch)
    assert run(brats_container, brats_input, tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert told.count(said) == len(CASES)
    assert all(case in told for case in CASES)
    assert CHALLENGES["brats2025"].example not in told


def test_a_result_in_another_place_is_found(plain_model, tmp_path, monkeypatch, capsys):
    change_results(TrainedLabels, moved, monkeypatch)
    write_image(noise(0), tmp_path / "in" / "case_0000.nii.gz", SPACING_MM)
    assert run(container([plain_model], tmp_path / "algorithm", "flare"), tmp_path / "in", tmp_path / "out") == 1
    assert "origin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda source: None, "expected a folder of images, got none"),
        (lambda source: source.mkdir(), "expected cases of BraTS 2025, got none"),
    ],
)
def test_an_input_without_cases_is_said_in_one_sentence(prepare, said, brats_container, tmp_path, capsys):
    prepare(tmp_path / "in")
    assert run(brats_container, tmp_path / "in", tmp_path / "out") == 1
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1


def test_an_output_that_is_no_folder_is_said_before_any_work(brats_container, brats_input, tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    assert run(brats_container, brats_input, tmp_path / "out") == 1
    assert "expected a folder that can be written to, got none" in capsys.readouterr().err
