"""What a challenge is: how its files lie and are named, what their labels mean, and what a submission looks like."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

_EXAMPLES = (
    (r"\d{5}", "00000"),
    (r"\d{4}", "0000"),
    (r"\d{1,3}", "1"),
    (r"\d{3}", "000"),
    (r"0\d{2}", "000"),
    (r"[1-9]\d{2}", "100"),
    (r"\w+", "*"),
    (r"\d+", "00"),
)  # part of a pattern of names -> what it can match


@dataclass(frozen=True)
class Tissue:
    """A label with its meaning inside nnU-Net.

    Attributes:
        label: label inside nnU-Net, from 1 on.
        short: the organisers' abbreviation, such as ET.
        names: pattern of the beginnings, in lower case, of names that others give a label of this meaning.
    """

    label: int
    short: str
    names: str


@dataclass(frozen=True)
class CaseFolders:
    """A source with a folder for each case; the files are `<case><ending>.nii.gz` or `.nii`.

    Attributes:
        case: pattern that the names of case folders match.
        images: ending of each channel's image, in the order of the challenge's channels.
        segmentation: ending of the segmentation.
    """

    case: re.Pattern[str]
    images: tuple[str, ...]
    segmentation: str

    def challenges_name(self, case: str) -> str:
        """Return the challenge's name of a case of the dataset, which is the same."""
        return case


@dataclass(frozen=True)
class MetaImages:
    """A source of `<case>.mhd` files at any depth, whose names repeat from folder to folder.

    Attributes:
        case: pattern that the names of cases match.
        segmentation: ending of the segmentation's name, before `.mhd`.
        prefixes: beginning of a word in a folder's name -> prefix of its cases' names; the first that matches counts.
    """

    case: re.Pattern[str]
    segmentation: str
    prefixes: tuple[tuple[str, str], ...]

    def challenges_name(self, case: str) -> str:
        """Return the challenge's name of a case of the dataset, without the prefix.

        Examples:
            >>> MetaImages(re.compile("Case.*"), "_seg", (("test", "Test_"),)).challenges_name("Test_Case00")
            'Case00'
        """
        for _, prefix in self.prefixes:
            case = case.removeprefix(prefix)
        return case


@dataclass(frozen=True)
class Decathlon:
    """A task of the Medical Segmentation Decathlon: dataset.json, imagesTr, labelsTr and imagesTs, with 4D images.

    Attributes:
        folder: name of the task's folder, such as Task05_Prostate.
        modalities: the names in dataset.json, in lower case, in the order of the channels.
        keeps_order: True where the dataset keeps the order and the names that dataset.json has.
    """

    folder: str
    modalities: tuple[str, ...]
    keeps_order: bool = False

    def challenges_name(self, case: str) -> str:
        """Return the challenge's name of a case of the dataset, which is the same."""
        return case


Layout: TypeAlias = CaseFolders | MetaImages | Decathlon


class Place(Enum):
    """How exactly a submitted file has to lie where its image does; its size always has to be the image's."""

    ANYWHERE = "size only"
    CLOSE = "affine, up to a thousandth of a millimetre"
    EXACT = "qform, to the last bit"


@dataclass(frozen=True)
class Archive:
    """What a challenge takes as an archive of predictions.

    Attributes:
        key: pattern whose first group is the part of a file's name that identifies the case.
        naming: the names that `key` matches, in words, for errors.
        names: template with {case} of the names in archives that are written here.
        ending: ending of the case's file, `.nii.gz`, or `.mhd` with a `.raw` beside it.
        place: how exactly a file has to lie where its image does.
        lenient: True where folders and a system's hidden files are passed over, and floating-point files are taken.
    """

    key: re.Pattern[str]
    naming: str
    names: str = "{case}.nii.gz"
    ending: str = ".nii.gz"
    place: Place = Place.CLOSE
    lenient: bool = False


@dataclass(frozen=True)
class Challenge:
    """A challenge, or one of its tasks, in one of its editions.

    Attributes:
        name: name by which it is chosen, such as brats2023-met.
        family: what `convert` is given, such as brats; challenges of a family share how their sources are searched.
        title: name as the organisers write it, and of its datasets unless another is given.
        edition: what tells it within its family, such as 2023-met; empty where the files alone tell.
        task: what is segmented; cases of one task can be converted as another edition of it.
        layout: how the files of a source lie and are named.
        channels: names of the channels, by which nnU-Net chooses the normalisation.
        on_disk: label in the challenge's files -> its meaning; 0 is the background everywhere.
        regions: name of each region that a network learns -> its labels inside nnU-Net, or a plain label.
        regions_class_order: label painted for each region, where later ones cover earlier ones; None for plain labels.
        scores: name of the definition in `metrics` by which the challenge scores.
        source: where the facts stand.
        unconfirmed: what is from memory or the work of others; empty where everything was read in a source.
        told_by_names: True where cases named so are taken for this edition, though others share the names.
        optional: tissues that predictions may have or lack, as networks trained on another edition do.
        sizes: numbers of voxels (X, Y, Z) that an image can have; empty where cases differ.
        origin: ITK's origin of every image, in mm, with axes along the patient's at 1 mm; None where cases differ.
        file_ending: ending of the names of images and labels in nnU-Net's dataset.
        archive: what is taken as an archive of predictions; None where none is.
        container: interface of the containers that the test set is predicted with; None where archives decide.
    """

    name: str
    family: str
    title: str
    edition: str
    task: str
    layout: Layout
    channels: tuple[str, ...]
    on_disk: Mapping[int, Tissue]
    regions: Mapping[str, int | tuple[int, ...]]
    regions_class_order: tuple[int, ...] | None
    scores: str
    source: str
    unconfirmed: str = ""
    told_by_names: bool = False
    optional: tuple[Tissue, ...] = ()
    sizes: tuple[tuple[int, int, int], ...] = ()
    origin: tuple[float, float, float] | None = None
    file_ending: str = ".nii.gz"
    archive: Archive | None = None
    container: str | None = None

    @property
    def labels(self) -> dict[int, int]:
        """Label on disk -> label inside nnU-Net, the background included.

        Examples:
            >>> from nnunetv2_gsp.challenges import CHALLENGES
            >>> CHALLENGES["brats2021"].labels
            {0: 0, 1: 1, 2: 2, 4: 3}
        """
        return {0: 0, **{label: tissue.label for label, tissue in self.on_disk.items()}}

    @property
    def required(self) -> tuple[Tissue, ...]:
        """Tissues that predictions have to have.

        Examples:
            >>> from nnunetv2_gsp.challenges import CHALLENGES
            >>> [tissue.short for tissue in CHALLENGES["brats2024"].required]
            ['NETC', 'SNFH', 'ET']
        """
        return tuple(tissue for tissue in self.on_disk.values() if tissue not in self.optional)

    @property
    def example(self) -> str:
        """An example of the names of cases; of a Decathlon's task, the name of its folder.

        Examples:
            >>> from nnunetv2_gsp.challenges import CHALLENGES
            >>> CHALLENGES["brats2025-men-rt"].example
            'BraTS-MEN-RT-0000-1'
        """
        if isinstance(self.layout, Decathlon):
            return self.layout.folder
        text = self.layout.case.pattern.split("|")[0].replace("(", "")
        for pattern, example in _EXAMPLES:
            text = text.replace(pattern, example)
        return f"{text}_001" if text.endswith("Training") else text

    def has(self, *tissues: Tissue) -> bool:
        """Tell whether the challenge has tissues with these labels and meanings, whatever they are called.

        Args:
            tissues: tissues that are looked for.

        Examples:
            >>> from nnunetv2_gsp.challenges import CHALLENGES
            >>> from nnunetv2_gsp.challenges.brats import ET
            >>> CHALLENGES["brats2025-men-rt"].has(ET)
            False
        """
        own = {(tissue.label, tissue.names) for tissue in self.on_disk.values()}
        return own >= {(tissue.label, tissue.names) for tissue in tissues}
