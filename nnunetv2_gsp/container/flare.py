"""FLARE: a flat folder of nnU-Net's names in, `<case>.nii.gz` out."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nnunetv2_gsp.container.interface import FoundCase, FoundCases, Interface, Sockets, collected
from nnunetv2_gsp.errors import InputError, MissingInputError


class FlatFolder(Interface):
    """An interface with `<case>_0000.nii.gz` and so on in one folder."""

    def find(self, folder: Path, channels: Sequence[str], sockets: Sockets) -> FoundCases:
        """Find the cases by the names of their files."""
        from nnunetv2_gsp.images import visible_files  # here, as the command line imports the registry for its choices

        files = visible_files(folder, "*.nii.gz")
        names = dict.fromkeys(re.sub(r"_\d{4}\.nii\.gz\Z", "", file.name) for file in files)
        return collected((name, partial(_case, folder, name, len(channels))) for name in names)


def _case(folder: Path, name: str, n_channels: int) -> FoundCase:
    if name.endswith(".nii.gz"):
        raise InputError("a name that ends in _0000.nii.gz", name, where=folder)
    images = tuple(folder / f"{name}_{channel:04d}.nii.gz" for channel in range(n_channels))
    for image in images:
        if not image.is_file():
            raise MissingInputError(image.name, "none", where=folder)
    return FoundCase(name, images, Path(f"{name}.nii.gz"))


FLARE = FlatFolder(
    name="flare",
    title="FLARE",
    source="nnU-Net 2.8, documentation/competitions/FLARE24/Task_2",
    input="/workspace/inputs",
    output="/workspace/outputs",
    image="{name}:latest",
    push="docker save {image} | gzip -c > {name}.tar.gz  # then upload the file",
    try_options="--memory 28G",
    try_arguments='/bin/bash -c "sh predict.sh"',
    script=True,
)
