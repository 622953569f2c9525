"""Names the formats that a trained model is exported in; imports nothing heavy, as a command line lists them."""

from pathlib import Path
from typing import NamedTuple


class Format(NamedTuple):
    """A format of exported models.

    Attributes:
        ending: ending of the file's name that stands for the format, with its dot; None where it has to be named.
        description: what it is, as a noun phrase.
    """

    ending: str | None
    description: str


BUNDLE = "bundle"  # of nnunetv2_gsp.sharing
WEB = "web"  # of nnunetv2_gsp.web; the others are of this package
FORMATS = {
    "onnx": Format(".onnx", "a network for ONNX Runtime and others, with pipeline.json"),
    "openvino": Format(".xml", "a network for OpenVINO, an .xml and a .bin, with pipeline.json"),
    BUNDLE: Format(".zip", "a small zip without pickle, for nnU-Net"),
    WEB: Format(None, "a folder with a page that segments in a browser, offline"),
}


def format_of(file: Path) -> str:
    """Return the format that a file's ending stands for, a bundle where it stands for none.

    Examples:
        >>> format_of(Path("model.onnx")), format_of(Path("model.zip")), format_of(Path("model"))
        ('onnx', 'bundle', 'bundle')
    """
    return next((name for name, known in FORMATS.items() if file.suffix == known.ending), BUNDLE)
