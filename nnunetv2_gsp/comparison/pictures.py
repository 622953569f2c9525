"""Turns pictures into data URIs, so that the page needs no other file.

Colours are Okabe and Ito's, which any colour vision tells apart; each has its own line style and marker as well.
"""

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "linestyle": "solid", "marker": "o", "in_words": "solid blue"},
    {"color": "#D55E00", "linestyle": "dashed", "marker": "^", "in_words": "dashed orange"},
    {"color": "#009E73", "linestyle": "dashdot", "marker": "s", "in_words": "dash-dotted green"},
    {"color": "#CC79A7", "linestyle": "dotted", "marker": "D", "in_words": "dotted pink"},
    {"color": "#000000", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v", "in_words": "dash-dot-dotted black"},
    {"color": "#56B4E9", "linestyle": (0, (1, 3)), "marker": "P", "in_words": "finely dotted light blue"},
)
_SIZE = (3.4, 3.1)  # inches


@dataclass(frozen=True)
class Picture:
    """A picture for a page.

    Attributes:
        title: short title that stands above the picture.
        alt: text that says what the picture shows.
        uri: data URI of the SVG or PNG.
    """

    title: str
    alt: str
    uri: str


def style_of(number: int) -> dict[str, Any]:
    """Return colour, line style and marker of a contender, and the line in words.

    Args:
        number: the contender's place, from 0 on; 0 is the baseline's.

    Examples:
        >>> [style_of(number)["in_words"] for number in (0, 1)]
        ['solid blue', 'dashed orange']
    """
    return STYLES[number % len(STYLES)]


@contextmanager
def svg_canvas(size: tuple[float, float] = _SIZE) -> Iterator[tuple[Any, Callable[[], str]]]:
    """Yield a matplotlib figure to draw in, and a function that returns it as data URI once the block has ended.

    Args:
        size: width and height in inches.

    Examples:
        >>> with svg_canvas((1.0, 1.0)) as (canvas, result):
        ...     _ = canvas.text(0.5, 0.5, "GSP")
        >>> result().partition(",")[0]
        'data:image/svg+xml;base64'
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    file = io.BytesIO()
    # text stays text; equal content gives equal bytes
    with matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "nnunetv2_gsp",
            "font.size": 9,
            "font.family": "sans-serif",
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    ):
        canvas = Figure(figsize=size, facecolor="white", layout="constrained")
        FigureCanvasSVG(canvas)
        yield canvas, lambda: data_uri("image/svg+xml", file.getvalue())
        canvas.savefig(file, format="svg", metadata={"Date": None}, facecolor=canvas.get_facecolor())


def data_uri(kind: str, content: bytes) -> str:
    """Return a file as data URI.

    Args:
        kind: media type, such as image/png.
        content: bytes of the file, unencoded.

    Examples:
        >>> data_uri("text/plain", b"GSP")
        'data:text/plain;base64,R1NQ'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
