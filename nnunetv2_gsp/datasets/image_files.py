"""How is an image written? As SimpleITK does, except that it says in a sentence why it can't."""
from pathlib import Path

import SimpleITK as sitk


def write_image(image: sitk.Image, file: Path, *, compressed: bool) -> None:
    """Write an image in the format that the file's name ends in.

    Raises:
        OSError: the disk is full, for instance. It is no fault of the case that is written, so it skips none.
    """
    try:
        sitk.WriteImage(image, file, useCompression=compressed)
    except RuntimeError as error:  # all that ITK has for whatever happened
        raise OSError(f"Expected room and permission to write {file}, found that it can't be written; free some space "
                      f"and run again.") from error
