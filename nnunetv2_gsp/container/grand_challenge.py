"""grand-challenge.org: one job a case, and a folder for the image of each socket."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nnunetv2_gsp.container.interface import FoundCase, FoundCases, Interface, Sockets, collected
from nnunetv2_gsp.errors import InputError, MissingInputError

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]*")


class OneJobACase(Interface):
    """An interface that hands over one case, as an image in `images/<slug>` for each channel."""

    def check(self, channels: Sequence[str], sockets: Sockets) -> None:
        """Check that there is an input for each channel, and an output."""
        if sockets.output is None:
            raise MissingInputError(
                f"the slug of the output's socket with the interface {self.name}", "none", parameters=["output_slug"]
            )
        if len(sockets.inputs) != len(channels) and (sockets.inputs or len(channels) > 1):
            raise InputError(
                f"an input's slug for each channel ({', '.join(channels)})",
                " ".join(sockets.inputs) or "none",
                parameters=["input_slugs"],
            )
        for slug in (*sockets.inputs, sockets.output):
            if not _SLUG.fullmatch(slug):
                raise InputError(
                    "slugs of lower-case letters, digits and hyphens", slug, parameters=["input_slugs", "output_slug"]
                )

    def find(self, folder: Path, channels: Sequence[str], sockets: Sockets) -> FoundCases:
        """Find the one case."""
        return collected([("the job's case", partial(_case, folder / "images", sockets))])


def _case(folder: Path, sockets: Sockets) -> FoundCase:
    folders = [folder / slug for slug in sockets.inputs] or [_only_folder(folder)]
    images = tuple(map(_only_image, folders))
    return FoundCase(images[0].stem, images, Path("images", sockets.output or "", images[0].name))


def _only_folder(folder: Path) -> Path:
    folders = [each for each in folder.glob("*") if each.is_dir()]
    if len(folders) != 1:
        raise MissingInputError("one folder of an input's image", str(len(folders)), where=folder)
    return folders[0]


def _only_image(folder: Path) -> Path:
    from nnunetv2_gsp.images import visible_files  # here, as the command line imports the registry for its choices

    images = visible_files(folder, "*.mha")
    if len(images) != 1:
        raise MissingInputError("one .mha file", str(len(images)), where=folder)
    return images[0]


GRAND_CHALLENGE = OneJobACase(
    name="grand-challenge",
    title="grand-challenge.org",
    source="DIAGNijmegen/rse-grand-challenge-forge 306db6e9, partials/example-algorithm",
    input="/input",
    output="/output",
    image="{name}:latest",
    push="docker save {image} | gzip -c > {name}.tar.gz  # then upload the file on the algorithm's page",
    user="1000:1000",  # the platform refuses images that run as root
)
