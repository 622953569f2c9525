"""What a container does with the cases of an input folder, through every interface, and when one is bad."""

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_gsp.container.__main__ import main
from tests.container.models import CASES, MODALITIES, SPACING_MM, container, noise, write_brats_case
from tests.datasets.sources import write_image
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


def voxels(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(file))


def test_brats_2025_gets_what_nnunet_predicts(brats_container, brats_input, brats_models, tmp_path):
    assert run(brats_container, brats_input, tmp_path / "out") == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [f"{case}.nii.gz" for case in CASES]
    for case in CASES:
        manager, expected = probabilities(brats_models[0], brats_images(brats_input / case))
        expected = manager.convert_probabilities_to_segmentation(expected)
        assert len(np.unique(expected)) > 2
        np.testing.assert_array_equal(voxels(tmp_path / "out" / f"{case}.nii.gz"), expected)


def test_an_ensemble_has_the_mean_of_the_probabilities(brats_models, brats_input, tmp_path):
    folder = container(brats_models, tmp_path / "both", "brats-mlcube")
    assert run(folder, brats_input, tmp_path / "out") == 0
    for case in CASES:
        images = brats_images(brats_input / case)
        (manager, first), (_, second) = (probabilities(model, images) for model in brats_models)
        expected = manager.convert_probabilities_to_segmentation((first + second) / 2)
        assert (expected != manager.convert_probabilities_to_segmentation(first)).any()
        np.testing.assert_array_equal(voxels(tmp_path / "out" / f"{case}.nii.gz"), expected)


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


def test_flare_gets_a_flat_folder_without_the_channel(plain_model, tmp_path):
    folder = container([plain_model], tmp_path / "flare", "flare")
    for case in ("FLARE_1", "FLARE_2"):
        write_image(noise(0), tmp_path / "in" / f"{case}_0000.nii.gz", SPACING_MM)
    assert run(folder, tmp_path / "in", tmp_path / "out") == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["FLARE_1.nii.gz", "FLARE_2.nii.gz"]
    manager, expected = probabilities(plain_model, [tmp_path / "in" / "FLARE_1_0000.nii.gz"])
    np.testing.assert_array_equal(
        voxels(tmp_path / "out" / "FLARE_1.nii.gz"), manager.convert_probabilities_to_segmentation(expected)
    )


def test_meningioma_before_radiotherapy_has_an_underscore(brats_container, tmp_path):
    write_brats_case(tmp_path / "in" / CASES[0], separator="_")
    assert run(brats_container, tmp_path / "in", tmp_path / "out") == 0


def cut_off(folder):
    image = brats_images(folder)[2]
    image.write_bytes(image.read_bytes()[:2000])


def take_away(folder):
    brats_images(folder)[1].unlink()


def move(folder):
    image = sitk.ReadImage(brats_images(folder)[3])
    image.SetOrigin((0, 0, 0))
    sitk.WriteImage(image, brats_images(folder)[3])


def rename(folder):
    other = folder.rename(folder.with_name("patient"))
    for file in other.iterdir():
        file.rename(other / file.name.replace(folder.name, "patient"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut_off, "expected a whole image, got one that is cut off"),
        (take_away, "expected BraTS-GLI-00005-100-t1c.nii.gz or BraTS-GLI-00005-100_t1c.nii.gz, got neither"),
        (move, "expected the origin (-7, 11, 13)"),
        (rename, "Expected images of brats2024, got the case patient."),
    ],
)
def test_a_bad_case_is_named_and_the_others_go_on(spoil, said, brats_container, brats_input, tmp_path, capsys):
    spoil(brats_input / CASES[0])
    assert run(brats_container, brats_input, tmp_path / "out") == 1
    assert [file.name for file in (tmp_path / "out").iterdir()] == [f"{CASES[1]}.nii.gz"]
    told = capsys.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert "1 of 2 cases have a result." in told.out


def test_a_defect_on_one_case_costs_no_other_its_result(brats_container, brats_input, tmp_path, monkeypatch, capsys):
    predict = nnUNetPredictor.predict_logits_from_preprocessed_data
    calls = iter(range(2))

    def fail_once(self, data):
        if next(calls) == 0:
            raise RuntimeError("out of luck")
        return predict(self, data)

    monkeypatch.setattr(nnUNetPredictor, "predict_logits_from_preprocessed_data", fail_once)
    assert run(brats_container, brats_input, tmp_path / "out") == 1
    assert [file.name for file in (tmp_path / "out").iterdir()] == [f"{CASES[1]}.nii.gz"]
    assert "RuntimeError: out of luck" in capsys.readouterr().err


def test_a_result_that_changed_after_it_was_written_is_found(
    brats_container, brats_input, tmp_path, monkeypatch, capsys
):
    from nnunetv2_gsp.container.results import ChallengeResults

    write = ChallengeResults.write

    def write_and_lose(self, case, prediction):
        write(self, case, prediction)
        file = self._output / case.result
        file.write_bytes(file.read_bytes()[:50])

    monkeypatch.setattr(ChallengeResults, "write", write_and_lose)
    assert run(brats_container, brats_input, tmp_path / "out") == 1
    assert capsys.readouterr().err.count("Expected a whole image") == 2


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
    assert "expected a folder that results can be written to, got none" in capsys.readouterr().err
