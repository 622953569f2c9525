"""The challenges by name, cheap to import; the modules that know their data are imported when one is converted."""

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
        name: in lower case, by which it is chosen.
        title: as its organisers write it; the name of its dataset unless another is given.
        editions: what follows the name in those editions of it that differ in names or labels, the oldest first.
        takes_archives: whether predictions of it are submitted as an archive.
    """

    name: str
    title: str
    editions: tuple[str, ...] = ()
    takes_archives: bool = True

    @property
    def full_names(self) -> tuple[str, ...]:
        """The names of its editions, or its own where it has none.

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
    """Make a dataset in nnUNet_raw of a challenge's data.

    Args:
        challenge: key of `CHALLENGES`.
        source: folder of the unpacked data, which nothing is written to.
        dataset_id: from 1 to 999, and no other dataset's.
        name: of the dataset; the challenge's title if None.
        edition: one of the challenge's `editions`, in place of the one that the names of the cases tell.
        overwrite: replace a dataset of that name, once the new one is complete.
        strict: make no dataset if a case has to be skipped.
        processes: number of cases that are converted at a time; one takes about 0.3 GB.

    Returns:
        The folder of the dataset, and what was done.

    Raises:
        InputError: as `conversion.raw_dataset`, the challenge's own survey and `conversion.convert`.
        ConflictingInputError: the challenge has no such edition.
        OSError: a file can't be written; what is finished stays for the next time.
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
