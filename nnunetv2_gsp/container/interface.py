"""What an interface is: where a challenge puts its images in a container, and where it looks for results."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunetv2_gsp.datasets.source import SkippedCase
from nnunetv2_gsp.errors import InputError


@dataclass(frozen=True)
class FoundCase:
    """A case that is to be predicted.

    Attributes:
        name: name that no other case of the input has.
        images: a file for each channel of the model, in their order.
        result: path of the segmentation, relative to the output folder.
    """

    name: str
    images: tuple[Path, ...]
    result: Path


@dataclass
class FoundCases:
    """Cases of an input folder.

    Attributes:
        whole: cases with all their images.
        skipped: cases that lack images, with the reason.
    """

    whole: list[FoundCase] = field(default_factory=list)
    skipped: list[SkippedCase] = field(default_factory=list)


@dataclass(frozen=True)
class Sockets:
    """Names under which grand-challenge.org hands images over; other interfaces have none.

    Attributes:
        inputs: slug of each channel's input, in their order; empty takes the only folder that there is.
        output: slug of the output; None where the interface has none.
    """

    inputs: tuple[str, ...] = ()
    output: str | None = None


@dataclass(frozen=True)
class Interface(ABC):
    """A way in which challenges run containers.

    Attributes:
        name: name by which it is chosen, such as brats2025.
        title: whose interface it is, in words.
        source: where the interface is described.
        input: folder of the images in the container.
        output: folder of the results in the container.
        image: name of the image, as the challenge's registry takes it, with {name}.
        push: command that hands the image in, with {image} and {name}.
        try_options: further options of `docker run` for a trial, as near to the challenge's own as can be.
        try_arguments: words behind the image's name in `docker run`, as the challenge passes them.
        challenge: name of the challenge whose rules results follow, one of `challenges.CONTAINERS`; None where results
            have the labels of the trained dataset.
        user: user and group ids that the image runs as; None leaves that to whoever runs it.
        remains: function that returns what is left of a failed case, by the input folder and the case's name, where the
            challenge drops all results of a run that fails or lacks one; None where a failed case costs its own alone.
        script: True if the challenge calls a script of the working directory instead of the image's entry point.
    """

    name: str
    title: str
    source: str
    input: str
    output: str
    image: str
    push: str
    try_options: str = ""
    try_arguments: str = ""
    challenge: str | None = None
    user: str | None = None
    remains: Callable[[Path, str], FoundCase] | None = None
    script: bool = False

    def check(self, channels: Sequence[str], sockets: Sockets) -> None:
        """Check, when the container is made, that images of the interface can be given to a model.

        Args:
            channels: names of the model's channels, in their order.
            sockets: names of inputs and output.

        Raises:
            InputError: a channel has no image in the interface, or the sockets do not fit.
        """
        if sockets != Sockets():
            raise InputError(
                f"no slugs with the interface {self.name}",
                " ".join(filter(None, (*sockets.inputs, sockets.output))),
                remedy="leave them out",
            )

    @abstractmethod
    def find(self, folder: Path, channels: Sequence[str], sockets: Sockets) -> FoundCases:
        """Find the cases in an input folder.

        Args:
            folder: folder of the images; it is only read.
            channels: names of the model's channels, in their order.
            sockets: names of inputs and output.
        """


def collected(candidates: Iterable[tuple[str, Callable[[], FoundCase]]]) -> FoundCases:
    """Sort candidates into whole cases and skipped ones.

    Args:
        candidates: name of each candidate, and a function that returns its case or raises InputError.

    Examples:
        >>> case = FoundCase("case_1", (Path("case_1_0000.nii.gz"),), Path("case_1.nii.gz"))
        >>> collected([("case_1", lambda: case)]).whole == [case]
        True
    """
    found = FoundCases()
    for name, find in candidates:
        try:
            found.whole.append(find())
        except InputError as error:
            found.skipped.append(SkippedCase(name, error.told()))
    return found
