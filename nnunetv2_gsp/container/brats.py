"""BraTS from 2023 on: a folder a case in, `<case>.nii.gz` out."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nnunetv2_gsp.container.interface import FoundCase, FoundCases, Interface, Sockets, collected
from nnunetv2_gsp.errors import ConflictingInputError, MissingInputError

# names of channels in dataset.json, in lower case -> ending of BraTS' files
_MODALITIES = {
    **dict.fromkeys(("t1", "t1n"), "t1n"),
    **dict.fromkeys(("t1ce", "t1c", "t1gd"), "t1c"),
    **dict.fromkeys(("t2", "t2w"), "t2w"),
    **dict.fromkeys(("flair", "t2f"), "t2f"),
}
_SEPARATORS = "-_"  # between case and modality; MEN-RT has the second


class FolderACase(Interface):
    """An interface with a folder for each case, which holds `<case>-<modality>.nii.gz`."""

    def check(self, channels: Sequence[str], sockets: Sockets) -> None:
        """Check that each channel is a modality of BraTS."""
        super().check(channels, sockets)
        for channel in channels:
            if channel.lower() not in _MODALITIES:
                raise ConflictingInputError(
                    f"channels among {', '.join(_MODALITIES)} for {self.name}", channel, parameters=["models"]
                )

    def find(self, folder: Path, channels: Sequence[str], sockets: Sockets) -> FoundCases:
        """Find a case in each folder."""
        folders = sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
        return collected((each.name, partial(_case, each, channels)) for each in folders)


def _case(folder: Path, channels: Sequence[str]) -> FoundCase:
    images = tuple(_image(folder, _MODALITIES[channel.lower()]) for channel in channels)
    return FoundCase(folder.name, images, Path(f"{folder.name}.nii.gz"))


def _image(folder: Path, modality: str) -> Path:
    names = [f"{folder.name}{separator}{modality}.nii.gz" for separator in _SEPARATORS]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise MissingInputError(" or ".join(names), "neither", where=folder)


def _remains(folder: Path, name: str) -> FoundCase:
    return FoundCase(name, tuple(sorted((folder / name).glob("*.nii.gz"))), Path(f"{name}.nii.gz"))


_IMAGE = "docker.synapse.org/synXXXXXXXX/{name}:latest"
_PUSH = "docker login docker.synapse.org && docker push {image}"
_LIMITS = "--memory 16G --shm-size 4G"

BRATS_2025 = FolderACase(
    name="brats2025",
    title="BraTS 2025",
    source="BrainLesion/BraTS 6c3fb6b2, brats/core/docker.py; juampabloheras/brats_submission_template b03016b6",
    input="/input",
    output="/output",
    image=_IMAGE,
    push=_PUSH,
    try_options=_LIMITS,
    challenge="brats2025",
    remains=_remains,
)
BRATS_MLCUBE = FolderACase(
    name="brats-mlcube",
    title="BraTS 2023 and 2024, as MLCube calls the image",
    source="BrainLesion/BraTS 6c3fb6b2, brats/core/docker.py",
    input="/mlcube_io0",
    output="/mlcube_io2",
    image=_IMAGE,
    push=_PUSH,
    try_options=_LIMITS,
    try_arguments="infer --data_path=/mlcube_io0 --output_path=/mlcube_io2",
    challenge="brats2024",
    remains=_remains,
)
