"""How does BraTS data come in? Folders of BraTS 2021 -> an nnU-Net raw dataset.

Inside nnU-Net the labels are 1 necrosis (NCR), 2 oedema (ED), 3 enhancing tumour (ET), for every edition of BraTS.
"""
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunetv2_gsp.errors import InputError
from nnunetv2_gsp.files import beside

CHANNELS = ("t1", "t1ce", "t2", "flair")
BRATS21_LABELS = {0: 0, 1: 1, 2: 2, 4: 3}  # on disk -> inside nnU-Net
REGIONS = {"whole_tumor": (1, 2, 3), "tumor_core": (1, 3), "enhancing_tumor": (3,)}
REGIONS_CLASS_ORDER = (2, 1, 3)  # what is left of each region once the next one is painted over it


def relabel(segmentation: np.ndarray, labels: Mapping[int, int]) -> np.ndarray:
    """Replace each label by its partner in the table; any shape, returned as uint8.

    Raises:
        InputError: the segmentation holds a label that the table does not know.
    """
    found = np.unique(segmentation).tolist()
    unknown = set(found) - set(labels)
    if unknown:
        raise InputError(f"Expected a segmentation with labels among {sorted(labels)}, found {sorted(unknown)}; "
                         f"check that it belongs to this edition.")
    relabelled = np.zeros(segmentation.shape, np.uint8)
    for label in found:
        relabelled[segmentation == label] = labels[label]
    return relabelled


def convert_brats21(source: Path, dataset: Path, held_out: Collection[str] = ()) -> None:
    """Make an nnU-Net raw dataset of a folder with `BraTS2021_00000/BraTS2021_00000_{t1,t1ce,t2,flair,seg}.nii.gz`.

    The dataset appears under its name when it is complete. Geometry and image voxels are those of the source.

    Args:
        source: folder of case folders.
        dataset: folder to make, `.../nnUNet_raw/DatasetXXX_Name`.
        held_out: names of cases that go to imagesTs and labelsTs instead of imagesTr and labelsTr.

    Raises:
        InputError: there are no cases, a held-out one is not among them, the dataset exists, a file is missing, or a
            segmentation holds a label that is not BraTS 2021's.
    """
    from nnunetv2.dataset_conversion.generate_dataset_json import generate_dataset_json

    cases = sorted(path for path in source.glob("BraTS2021_*") if path.is_dir())
    if not cases:
        raise InputError(f"Expected case folders named BraTS2021_00000 and so on in {source}, found none; "
                         f"give the folder that holds them.")
    unknown = set(held_out) - {case.name for case in cases}
    if unknown:
        raise InputError(f"Expected held-out cases among those of {source}, got {', '.join(sorted(unknown))}.")
    if dataset.exists():
        raise InputError(f"{dataset} exists and is not replaced; remove it or choose another name.")
    unfinished = beside(dataset)  # a name nnU-Net does not take for a dataset
    shutil.rmtree(unfinished, ignore_errors=True)
    for case in cases:
        _convert_case(case, unfinished, "Ts" if case.name in held_out else "Tr")

    generate_dataset_json(
        str(unfinished),
        channel_names=dict(enumerate(CHANNELS)),
        labels={"background": 0, **REGIONS},
        num_training_cases=sum(case.name not in held_out for case in cases),
        file_ending=".nii.gz",
        regions_class_order=REGIONS_CLASS_ORDER,
        license="that of the source",
        converted_by="nnunetv2_gsp",
    )
    unfinished.rename(dataset)


def _convert_case(case: Path, dataset: Path, subset: str) -> None:
    images, labels = dataset / f"images{subset}", dataset / f"labels{subset}"
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for number, channel in enumerate(CHANNELS):
        shutil.copyfile(_existing(case / f"{case.name}_{channel}.nii.gz"), images / f"{case.name}_{number:04d}.nii.gz")

    source = sitk.ReadImage(_existing(case / f"{case.name}_seg.nii.gz"))
    target = sitk.GetImageFromArray(relabel(sitk.GetArrayFromImage(source), BRATS21_LABELS))
    target.CopyInformation(source)
    sitk.WriteImage(target, labels / f"{case.name}.nii.gz")


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"Expected {path}, found no such file; each case needs {', '.join(CHANNELS)} and seg.")
    return path
