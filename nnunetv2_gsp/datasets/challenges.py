"""Lists the challenges by name; it is cheap to import, as the modules of the challenges are imported when needed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nnunetv2_gsp.errors import ConflictingInputError

if TYPE_CHECKING:
    from nnunetv2_gsp.datasets.conversion import ConversionReport


@dataclass(frozen=True)
class Challenge:
    """A challenge whose data can be converted.

    Attributes:
        name: name in lower case by which it is chosen, such as brats.
        title: name as its organisers write it; also the name of its dataset unless another is given.
        editions: suffixes of the name for editions that differ in case names or labels, the oldest first.
        takes_archives: True where predictions are submitted as an archive.

    Examples:
        >>> [challenge.title for challenge in CHALLENGES.values() if challenge.takes_archives]
        ['BraTS', 'PROMISE12']
    """

    name: str
    title: str
    editions: tuple[str, ...] = ()
    takes_archives: bool = True

    @property
    def full_names(self) -> tuple[str, ...]:
        """Full names of its editions, or its own name where it has none.

        Examples:
            >>> Challenge("brats", "BraTS", ("2018", "2019")).full_names
            ('brats2018', 'brats2019')
        """
        return tuple(f"{self.name}{edition}" for edition in self.editions) or (self.name,)


BRATS = Challenge("brats", "BraTS", ("2018", "2019", "2020", "2021", "2023", "2024"))
PROMISE12 = Challenge("promise12", "PROMISE12")
MSD = Challenge("msd", "MSD", takes_archives=False)

CHALLENGES: Mapping[str, Challenge] = {challenge.name: challenge for challenge in (BRATS, PROMISE12, MSD)}
SUBMISSIONS = tuple(
    name for challenge in CHALLENGES.values() if challenge.takes_archives for name in challenge.full_names
)


def convert_challenge(
    challenge: str,
    source: Path,
    dataset_id: int,
    *,
    name: str | None = None,
    edition: str | None = None,
    overwrite: bool = False,
    strict: bool = False,
    processes: int = 1,
) -> "tuple[Path, ConversionReport]":
    """Make a dataset in nnUNet_raw of the data of a challenge.

    Args:
        challenge: name of the challenge, a key of `CHALLENGES`.
        source: folder of the unpacked data; it is only read.
        dataset_id: id of the new dataset, 1 to 999, that no other dataset has.
        name: name of the dataset behind its id; None takes the challenge's title.
        edition: one of the challenge's `editions`; None goes by the names of the cases.
        overwrite: True replaces a dataset of that name once the new one is complete.
        strict: True makes no dataset if a case has to be skipped.
        processes: number of cases converted at the same time, from 1 on; one takes about 0.3 GB.

    Returns:
        The folder of the dataset, and the report on its cases.

    Raises:
        InputError: as `conversion.raw_dataset`, the challenge's own survey and `conversion.convert`.
        ConflictingInputError: the challenge has no such edition.
        OSError: a file can't be written; finished cases are kept for the next call.
    """
    from nnunetv2_gsp.datasets.brats import convert_brats
    from nnunetv2_gsp.datasets.conversion import raw_dataset
    from nnunetv2_gsp.datasets.msd import convert_msd
    from nnunetv2_gsp.datasets.promise12 import convert_promise12

    chosen = CHALLENGES[challenge]
    _check_edition(chosen, edition)
    converters: dict[str, Callable[..., ConversionReport]] = {
        "brats": partial(convert_brats, edition=edition and f"brats{edition}"),
        "promise12": convert_promise12,
        "msd": convert_msd,
    }
    dataset = raw_dataset(dataset_id, name or chosen.title)
    return dataset, converters[challenge](source, dataset, overwrite=overwrite, strict=strict, processes=processes)


def _check_edition(challenge: Challenge, edition: str | None) -> None:
    if edition is None or edition in challenge.editions:
        return
    if challenge.editions:
        raise ConflictingInputError(
            f"an edition of {challenge.title} among {', '.join(challenge.editions)}", edition, parameters=["edition"]
        )
    raise ConflictingInputError(
        f"no edition with {challenge.title}, whose files tell what they are", edition, remedy="leave the edition out"
    )
