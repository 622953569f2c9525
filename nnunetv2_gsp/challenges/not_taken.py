"""Data sets that people bring to BraTS, and that are not taken: other names, other files, other labels."""

import re

_NOT_TAKEN = {
    "UPENN-GBM": re.compile(r"UPENN-GBM-\d+.*", re.IGNORECASE),
    "UCSF-PDGM": re.compile(r"UCSF-PDGM-\d+.*", re.IGNORECASE),
    "ISLES": re.compile(r"sub-strokecase\d+|ISLES.*", re.IGNORECASE),
}


def not_taken(folder: str) -> str | None:
    """Return the title of the data set that a folder's name belongs to, if it is one that is not taken.

    Args:
        folder: name of a folder in a source.

    Examples:
        >>> not_taken("UCSF-PDGM-0004_nifti")
        'UCSF-PDGM'
    """
    return next((title for title, pattern in _NOT_TAKEN.items() if pattern.fullmatch(folder)), None)
