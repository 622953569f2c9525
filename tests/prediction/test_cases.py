"""What is asked of files, and of nnU-Net's preprocessing, before and after a case is predicted."""

import gzip
from pathlib import Path
from unittest import mock

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunetv2_gsp.errors import ConflictingInputError, DamagedFileError
from nnunetv2_gsp.prediction.cases import Case, _appearing_in, preprocessed
from tests.architectures.networks import isotropic, stock_architecture
from tests.sharing.models import plans_of

PLANNED = plans_of(stock_architecture((8, 12), isotropic(2, 3)), (8, 8, 8))["configurations"]["basis"]


def case_of(n_files):
    return Case("case", tuple(Path(f"case_{number:04d}.png") for number in range(n_files)), None)


def preprocess(n_files, n_channels, n_read=None, *, spacing=(1.0, 1.0), error=None):
    """Preprocess a case of files by a preprocessor that finds `n_read` channels in them."""

    class Reads(DefaultPreprocessor):
        def run_case(self, images, previous, plans, configuration, dataset_json):
            if error is not None:
                raise error
            self.configurations.append(configuration)
            return np.zeros((n_read or n_channels, 1, 8, 8)), None, {"sitk_stuff": {"spacing": spacing}}

    Reads.configurations = []
    manager = ConfigurationManager(PLANNED)
    names = {str(number): f"channel {number}" for number in range(n_channels)}
    predictor = mock.Mock(dataset_json={"channel_names": names}, configuration_manager=manager)
    with mock.patch.object(ConfigurationManager, "preprocessor_class", Reads):
        image = preprocessed(case_of(n_files), predictor).image
    return image, Reads.configurations


def test_files_of_several_channels_each_are_read():
    image, _ = preprocess(n_files=2, n_channels=6)
    assert image.shape == (6, 1, 8, 8)
    assert image.dtype == torch.float32


@pytest.mark.parametrize(("n_files", "n_read", "found"), [(3, 2, 3), (2, 4, 4), (1, 1, 1)])
def test_another_number_of_channels_is_refused(n_files, n_read, found):
    expected = r"as many channels as the model has, 2 \(channel 0, channel 1\)"
    with pytest.raises(ConflictingInputError, match=rf"case_0000\.png: expected {expected}, got {found}"):
        preprocess(n_files, 2, n_read)


def test_an_image_of_four_axes_is_refused_in_every_format():
    with pytest.raises(ConflictingInputError, match="expected an image of 3 axes, one file a channel, got one of 4"):
        preprocess(1, 2, spacing=(1.0, 1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("name", "shape", "reader", "sentence"),
    [
        ("case.png", (6, 5, 4), NaturalImage2DIO, r"as many channels as the model has, 3 \(R, G, B\), got 4"),
        ("case.nrrd", (7, 6, 5, 4), SimpleITKIO, "an image of 3 axes, one file a channel, got one of 4"),
    ],
)
def test_what_was_read_is_refused_before_it_is_normalised(name, shape, reader, sentence, tmp_path):
    """nnU-Net would look for a fourth channel's normalisation in plans that have three."""
    file = tmp_path / name
    image = SimpleITK.GetImageFromArray(np.zeros(shape, np.uint8), isVector=name.endswith("png"))
    SimpleITK.WriteImage(image, str(file))
    configuration = {**PLANNED, "normalization_schemes": ["NoNormalization"] * 3, "use_mask_for_norm": [False] * 3}
    predictor = mock.Mock(
        dataset_json={"channel_names": dict(zip("012", "RGB", strict=True))},
        configuration_manager=ConfigurationManager(configuration),
        plans_manager=mock.Mock(image_reader_writer_class=reader, transpose_forward=[0, 1, 2]),
    )
    with pytest.raises(ConflictingInputError, match=rf"{name}: expected {sentence}"):
        preprocessed(Case("case", (file,), None), predictor)


def niftis(folder, *shapes):
    """Return a case of NIfTI files of these shapes."""
    files = tuple(folder / f"case_{number:04d}.nii.gz" for number in range(len(shapes)))
    for file, shape in zip(files, shapes, strict=True):
        nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), file)
    return Case("case", files, None)


@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [([(4, 5, 6, 2)], "got one of 4"), ([(4, 5, 6), (4, 5, 7)], r"expected 4×5×6 voxels .*, got 4×5×7")],
)
def test_headers_are_refused_before_nnunet_reads_voxels(shapes, sentence, tmp_path):
    predictor = mock.Mock()
    with pytest.raises(ConflictingInputError, match=sentence):
        preprocessed(niftis(tmp_path, *shapes), predictor)
    predictor.configuration_manager.preprocessor_class.assert_not_called()


def predictor_with(run_case, reader=SimpleITKIO, n_channels=1):
    predictor = mock.Mock(dataset_json={"channel_names": {str(number): "MR" for number in range(n_channels)}})
    predictor.plans_manager.image_reader_writer_class = reader
    predictor.configuration_manager.preprocessor_class = mock.Mock(return_value=mock.Mock(run_case=run_case))
    return predictor


def test_axes_in_another_order_are_read_by_a_reader_that_turns_them(tmp_path):
    read = np.zeros((2, 6, 5, 4)), None, {"sitk_stuff": {"spacing": (1.0, 1.0, 1.0)}}
    case, run_case = niftis(tmp_path, (4, 5, 6), (6, 4, 5)), mock.Mock(return_value=read)
    preprocessed(case, predictor_with(run_case, SimpleITKIOWithReorient, n_channels=2))
    run_case.assert_called_once()
    with pytest.raises(ConflictingInputError, match=r"expected 4×5×6 voxels .*, got 6×4×5"):
        preprocessed(case, predictor_with(run_case, n_channels=2))


@pytest.mark.parametrize("reads", [True, False])
def test_a_file_that_was_cut_off_is_refused_whether_nnunet_reads_it_or_not(reads, tmp_path):
    case = niftis(tmp_path, (4, 5, 6))
    [file] = case.images
    content = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(content[:-20]))
    run_case = mock.Mock(side_effect=None if reads else ValueError("too short"), return_value=(None, None, {}))
    with pytest.raises(DamagedFileError, match=f"{len(content) - 20} of {len(content)} bytes"):
        preprocessed(case, predictor_with(run_case))
    run_case.assert_called_once()


def test_want_of_memory_is_no_damage():
    with pytest.raises(MemoryError, match="Unable to allocate"):
        preprocess(1, 2, error=MemoryError("Unable to allocate 40 GiB"))


def test_nnunets_own_preprocessor_alone_leaves_masks_out():
    _, [of_another] = preprocess(1, 1)
    assert type(of_another) is ConfigurationManager
    found = np.zeros((1, 1, 8, 8)), None, {}
    with mock.patch.object(DefaultPreprocessor, "run_case", return_value=found) as run_case:
        predictor = mock.Mock(dataset_json={"channel_names": {"0": "MR"}})
        predictor.configuration_manager = ConfigurationManager(PLANNED)
        preprocessed(case_of(1), predictor)
    _, _, _, of_nnunets, _ = run_case.call_args.args
    mask = np.zeros((1, 4, 4, 4), np.int8)
    assert of_nnunets.resampling_fn_seg(mask, (2, 2, 2), (1, 1, 1), (2, 2, 2)) is mask
    assert of_another.resampling_fn_seg(mask, (2, 2, 2), (1, 1, 1), (2, 2, 2)).shape == (1, 2, 2, 2)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            RuntimeError,
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), torch.OutOfMemoryError),
        (RuntimeError("Exception thrown in SimpleITK ImageFileWriter_Execute"), OSError),
    ],
)
def test_want_of_memory_is_no_full_disk(error, told, tmp_path):
    with pytest.raises(told), _appearing_in(tmp_path, ".nii.gz"):
        raise error
    assert list(tmp_path.iterdir()) == []
