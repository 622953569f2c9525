"""Makes the table of all challenges."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nnunetv2_gsp.challenges.challenge import Challenge
from nnunetv2_gsp.wording import times

if TYPE_CHECKING:
    from nnunetv2_gsp.tables import Table

_HEADER = ("challenge", "task", "cases are named", "labels on disk", "voxels", "scores", "submission")


def challenge_table(challenges: Iterable[Challenge]) -> "Table":
    """Return a table with a row for each challenge: its names, labels, sizes, scores and submission.

    Args:
        challenges: the challenges, in the order of the rows.

    Examples:
        >>> from nnunetv2_gsp.challenges import CHALLENGES
        >>> challenge_table([CHALLENGES["brats2021"]]).rows[0][:4]
        ('`brats2021` *', 'glioma', '`BraTS2021_00000`', '1 NCR, 2 ED, 4 ET')
    """
    from nnunetv2_gsp.tables import Table  # which costs an import that the command line's choices do without

    return Table(_HEADER, [_row(challenge) for challenge in challenges], n_labels=len(_HEADER))


def _row(challenge: Challenge) -> tuple[str, ...]:
    labels = ", ".join(f"{label} {tissue.short}" for label, tissue in challenge.on_disk.items())
    sizes = " or ".join(times(size) for size in challenge.sizes) or "any"
    ways = ["archive"] * (challenge.archive is not None) + ["container"] * (challenge.container is not None)
    return (
        f"`{challenge.name}`{' *' * bool(challenge.unconfirmed)}",
        challenge.task,
        f"`{challenge.example}`",
        labels,
        sizes,
        f"`{challenge.scores}`",
        ", ".join(ways) or "none",
    )
