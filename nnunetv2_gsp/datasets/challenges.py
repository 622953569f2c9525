"""Makes datasets of a challenge's data, whichever it is."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Literal, TypeAlias

from nnunetv2_gsp.challenges import FAMILIES
from nnunetv2_gsp.challenges.challenge import CaseFolders, Decathlon, MetaImages
from nnunetv2_gsp.datasets.case_folders import survey_case_folders
from nnunetv2_gsp.datasets.conversion import ConversionReport, convert, raw_dataset
from nnunetv2_gsp.datasets.decathlon import survey_decathlon
from nnunetv2_gsp.datasets.meta_images import survey_meta_images
from nnunetv2_gsp.datasets.source import TEST, TRAINING, Survey, part_told_by
from nnunetv2_gsp.errors import ConflictingInputError, check_name

Split: TypeAlias = Literal["folders", "all"]

_SURVEYS: dict[type, Callable[..., Survey]] = {
    CaseFolders: survey_case_folders,
    MetaImages: survey_meta_images,
    Decathlon: survey_decathlon,
}


def survey(family: str, source: Path, edition: str | None = None) -> Survey:
    """Find the cases of a challenge in a source, and whatever else stands there.

    Args:
        family: name of the challenges that it may be of, a key of `FAMILIES`.
        source: folder of the unpacked data.
        edition: one of the family's editions; None goes by the names of the cases.

    Raises:
        ConflictingInputError: the family has no such edition, or the source holds several.
        InputError: there is no such family; or the source holds no case, or can't be understood.
    """
    _check_names(family, edition)
    challenges = FAMILIES[family]
    found = _SURVEYS[type(challenges[0].layout)](challenges, source, edition)
    _note_on_the_sources_name(found, source.resolve())
    return found


def _note_on_the_sources_name(found: Survey, source: Path) -> None:
    """Say so where labelled cases are trained on though the source itself is called val or test."""
    set_apart = part_told_by(source, source, labelled=False) == TEST
    if set_apart and any(case.label and case.part == TRAINING for case in found.cases):
        found.notes.append(
            f"{source} holds cases with labels, which are trained on whatever its name says; give the folder above it "
            f"to hold them out."
        )


def convert_source(
    family: str,
    source: Path,
    dataset: Path,
    *,
    edition: str | None = None,
    split: Split = "folders",
    held_out: Collection[str] = (),
    overwrite: bool = False,
    strict: bool = False,
    processes: int = 1,
) -> ConversionReport:
    """Make an nnU-Net raw dataset of a challenge's data in a folder of one's choice.

    Cases with a segmentation go to imagesTr and labelsTr, unless a folder's name sets them apart; the others, with
    their labels if they have any, to imagesTs and labelsTs.

    Args:
        family: name of the challenges that it may be of, a key of `FAMILIES`.
        source: folder of the unpacked data; it is only read.
        dataset: folder to create, `.../nnUNet_raw/DatasetXXX_Name`.
        edition: one of the family's editions; None goes by the names of the cases.
        split: "folders" holds out what folders called val, test and so on hold; "all" trains on all that has a label.
        held_out: names of cases that go to imagesTs and labelsTs instead of imagesTr and labelsTr.
        overwrite: True replaces a dataset of that name once the new one is complete.
        strict: True makes no dataset if anything in the source has to be skipped.
        processes: number of cases converted at the same time, from 1 on; one takes about 0.3 GB.

    Raises:
        InputError: as `survey` and `conversion.convert`, or a held-out case is not among the cases.
        OSError: a file can't be written; finished cases are kept for the next call.
    """

    def look_through(source: Path) -> Survey:
        found = survey(family, source, edition)
        if split == "all":
            found.train_on_all()
        found.hold_out(held_out)
        return found

    return convert(look_through, source, dataset, overwrite=overwrite, strict=strict, processes=processes)


def convert_challenge(
    challenge: str,
    source: Path,
    dataset_id: int,
    *,
    name: str | None = None,
    edition: str | None = None,
    split: Split = "folders",
    overwrite: bool = False,
    strict: bool = False,
    processes: int = 1,
) -> tuple[Path, ConversionReport]:
    """Make a dataset in nnUNet_raw of the data of a challenge.

    Args:
        challenge: name of the challenge, a key of `FAMILIES`.
        source: folder of the unpacked data; it is only read.
        dataset_id: id of the new dataset, 1 to 999, that no other dataset has.
        name: name of the dataset behind its id; None takes the challenge's title.
        edition: one of the challenge's editions; None goes by the names of the cases.
        split: "folders" holds out what folders called val, test and so on hold; "all" trains on all that has a label.
        overwrite: True replaces a dataset of that name once the new one is complete.
        strict: True makes no dataset if anything in the source has to be skipped.
        processes: number of cases converted at the same time, from 1 on; one takes about 0.3 GB.

    Returns:
        The folder of the dataset, and the report on its cases.

    Raises:
        InputError: as `conversion.raw_dataset` and `convert_source`.
        OSError: a file can't be written; finished cases are kept for the next call.
    """
    _check_names(challenge, edition)
    dataset = raw_dataset(dataset_id, name or FAMILIES[challenge][0].title)
    report = convert_source(
        challenge,
        source,
        dataset,
        edition=edition,
        split=split,
        overwrite=overwrite,
        strict=strict,
        processes=processes,
    )
    return dataset, report


def _check_names(family: str, edition: str | None) -> None:
    check_name("a challenge", family, FAMILIES, parameters=["challenge"])
    title, editions = FAMILIES[family][0].title, [each.edition for each in FAMILIES[family] if each.edition]
    if edition is None or edition in editions:
        return
    if editions:
        raise ConflictingInputError(
            f"an edition of {title} among {', '.join(editions)}", edition, parameters=["edition"]
        )
    raise ConflictingInputError(
        f"no edition with {title}, whose files tell what they are", edition, remedy="leave the edition out"
    )
