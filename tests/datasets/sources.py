"""Small sources in the layouts of the challenges: names and folders exact, images of a few voxels."""

import json

import numpy as np
import SimpleITK as sitk

SHAPE = (4, 5, 6)  # (Z, Y, X)
UNTIL_2022 = ("_t1", "_t1ce", "_t2", "_flair", "_seg")
FROM_2023 = ("-t1n", "-t1c", "-t2w", "-t2f", "-seg")
BRATS_CASES = {  # two to train with and one to predict, as paths below the source
    "brats2018": ("HGG/Brats18_2013_10_1", "LGG/Brats18_TCIA09_141_1", "validation/Brats18_CBICA_AAM_1"),
    "brats2019": ("HGG/BraTS19_2013_10_1", "LGG/BraTS19_TCIA09_141_1", "validation/BraTS19_CBICA_AAM_1"),
    "brats2020": (
        "MICCAI_BraTS2020_TrainingData/BraTS20_Training_001",
        "MICCAI_BraTS2020_TrainingData/BraTS20_Training_355",
        "MICCAI_BraTS2020_ValidationData/BraTS20_Validation_001",
    ),
    "brats2021": ("BraTS2021_00000", "BraTS2021_00002", "BraTS2021_00001"),
    "brats2023": ("BraTS-GLI-00000-000", "BraTS-GLI-00002-001", "BraTS-GLI-00001-000"),
    "brats2024": ("BraTS-GLI-00005-100", "BraTS-GLI-00005-101", "BraTS-GLI-00006-100"),
}
TASKS = {
    "men": "BraTS-MEN-0000{}-000",
    "met": "BraTS-MET-0000{}-000",
    "ped": "BraTS-PED-0000{}-000",
    "ssa": "BraTS-SSA-0000{}-000",
    "goat": "BraTS-GoAT-0000{}",
    "men-rt": "BraTS-MEN-RT-000{}-1",
}
BRATS_CASES |= {  # under a folder whose name tells the year
    f"brats{year}-{task}": tuple(f"BraTS{year}-Data/{case.format(number)}" for number in (0, 2, 1))
    for year, tasks in (("2023", "men met ped ssa"), ("2024", "met ped ssa goat men-rt"), ("2025", " ".join(TASKS)))
    for task, case in ((task, TASKS[task]) for task in tasks.split())
}
BRATS_CASES["brats2025"] = ("BraTS-GLI-00000-000", "BraTS-GLI-00002-100", "BraTS-GLI-00001-000")
BRATS_CASES["fets2022"] = ("FeTS2022_00000", "FeTS2022_00002", "FeTS2022_00001")
_OF_OTHERS = {  # labels on disk
    "brats2023": (0, 1, 2, 3),
    "2024": (0, 1, 2, 3, 4),
    "2025": (0, 1, 2, 3, 4),
    "ssa": (0, 1, 2, 3),
    "goat": (0, 1, 2, 3),
    "men": (0, 1, 2, 3),
    "men-rt": (0, 1),
}


def labels_on_disk(edition):
    """Labels of an edition's files, as the organisers' own code has them."""
    if edition in ("brats2018", "brats2019", "brats2020", "brats2021", "fets2022"):
        return (0, 1, 2, 4)
    year, _, task = edition.partition("-")
    return _OF_OTHERS.get(task) or _OF_OTHERS.get(year) or _OF_OTHERS[year.removeprefix("brats")]


def write_image(voxels, file, spacing=(0.5, 1.25, 3), origin=(-7, 11, 13), direction=(0, 1, 0, -1, 0, 0, 0, 0, 1)):
    """Write voxels (Z, Y, X); geometry in ITK's order."""
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, file)


def segmentation(labels, shape=SHAPE, seed=0):
    """A uint8 segmentation that holds every label."""
    voxels = np.random.default_rng(seed).choice(np.array(labels, np.uint8), shape)
    voxels.flat[: len(labels)] = labels
    return voxels


def write_brats(source, edition, ending=".nii.gz", shape=SHAPE):
    """Write three cases, the last without a segmentation; channel c of case k is 100k + c everywhere."""
    for number, path in enumerate(BRATS_CASES[edition]):
        write_brats_case(source / path, edition, number, ending, shape, labelled=number < 2)
    return source


def endings(edition):
    if edition.endswith("men-rt"):
        return ("_t1c", "_gtv")
    return UNTIL_2022 if edition in ("brats2018", "brats2019", "brats2020", "brats2021", "fets2022") else FROM_2023


def write_brats_case(folder, edition, number=0, ending=".nii.gz", shape=SHAPE, labelled=True):
    *modalities, seg = endings(edition)
    for channel, modality in enumerate(modalities):
        write_image(np.full(shape, 100 * number + channel, np.int16), folder / f"{folder.name}{modality}{ending}")
    if labelled:
        write_image(segmentation(labels_on_disk(edition), shape, number), folder / f"{folder.name}{seg}{ending}")


def write_promise12(source, folders=("training_data", "test_data", "livechallenge_test_data"), n_cases=2):
    """Write Case00 ... of each folder; cases of the first alone have labels."""
    for kind, folder in enumerate(folders):
        for number in range(n_cases):
            image = np.full(SHAPE, 10 * kind + number, np.int16)
            spacing = (0.6250001234, 0.625, 3.6)
            write_image(image, source / folder / f"Case{number:02d}.mhd", spacing)
            if kind == 0:
                write_image(segmentation((0, 1)), source / folder / f"Case{number:02d}_segmentation.mhd", spacing)
    return source


def write_msd(source, modalities, labels):
    """Write two 4D cases to train with and one to predict; channel c is c everywhere."""
    channels = [np.full(SHAPE, channel, np.float32) for channel in range(len(modalities))]
    image = sitk.JoinSeries([sitk.GetImageFromArray(channel) for channel in channels])
    for folder, numbers in (("imagesTr", (1, 2)), ("imagesTs", (3,))):
        (source / folder).mkdir(parents=True)
        for number in numbers:
            sitk.WriteImage(image, source / folder / f"BRATS_00{number}.nii.gz")
    for number in (1, 2):
        write_image(
            segmentation(labels),
            source / "labelsTr" / f"BRATS_00{number}.nii.gz",
            (1, 1, 1),
            (0, 0, 0),
            (1, 0, 0, 0, 1, 0, 0, 0, 1),
        )
    (source / "imagesTr" / "._BRATS_001.nii.gz").write_bytes(b"left by macOS")
    (source / "dataset.json").write_text(json.dumps({"modality": dict(enumerate(modalities))}))
    return source


def voxels(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(file))


def truncate(file):
    content = file.read_bytes()
    file.write_bytes(content[: 3 * len(content) // 4])
