"""Draws cases: of each region the slice where most of it is wrong, with the outlines of every segmentation."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnunetv2_gsp.comparison.comparison import Comparison
from nnunetv2_gsp.comparison.pictures import Picture, data_uri, style_of, svg_canvas
from nnunetv2_gsp.metrics.cases import first_channel_of
from nnunetv2_gsp.metrics.morphology import box_around
from nnunetv2_gsp.metrics.overlap import Mask
from nnunetv2_gsp.metrics.segmentations import LabelMap, labels_in, read_segmentation

Image = npt.NDArray[np.floating[Any]]
Array = npt.NDArray[Any]

REFERENCE_STYLE: dict[str, Any] = {"colors": "#F0E442", "linewidths": 3.2, "linestyles": "solid"}
MOST_REGIONS = 4  # of a case's pictures
_MARGIN = 12  # voxels around what is outlined


@dataclass(frozen=True)
class _Case:
    """Segmentations of a case, the reference's first, and its image.

    Attributes:
        name: name of the case.
        names: whose segmentation each is.
        volumes: label maps (D, H, W), in the order of the names.
        image: image (D, H, W), its darkest voxel 0; None where there is none that fits.
        aspect: height of a voxel over its width in an axial slice.
    """

    name: str
    names: Sequence[str]
    volumes: Sequence[LabelMap]
    image: Image | None
    aspect: float

    def masks(self, labels: Sequence[int]) -> list[Mask]:
        """Return the masks (D, H, W) of a region."""
        return [np.isin(volume, labels) for volume in self.volumes]

    def where(self, level: int) -> str:
        """Return case and slice in words."""
        n_slices = len(self.volumes[0])
        return f"{self.name}, slice {level + 1} of {n_slices}" if n_slices > 1 else f"{self.name}, the image"


def worst_slices(comparison: Comparison, case: str) -> list[Picture]:
    """Draw of each region the axial slice with the most voxels that contenders get wrong in this region.

    Args:
        comparison: comparison whose segmentations are drawn.
        case: name of the case, one of `comparison.cases`.

    Returns:
        One picture for each of the first four regions, slice by slice. If the comparison has images, each slice begins
        with a picture without outlines (black if no image fits the case).
    """
    read = _read(comparison, case)
    regions = comparison.pairing.labels.regions_among(set().union(*map(labels_in, read.volumes)))
    by_level: dict[int, dict[str, list[Mask]]] = {}
    for region, labels in list(regions.items())[:MOST_REGIONS]:
        masks = read.masks(labels)
        by_level.setdefault(_worst_level(*masks), {})[region] = masks
    has_images = comparison.pairing.images is not None
    return [picture for level, masks in by_level.items() for picture in _of_level(read, level, masks, has_images)]


def _read(comparison: Comparison, case: str) -> _Case:
    pairing = comparison.pairing
    files = [pairing.references[case], *(each.predictions[case] for each in pairing.contenders)]
    read = [read_segmentation(file) for file in files]
    volumes = [_volume(segmentation.labels) for segmentation in read]
    return _Case(
        case,
        ["reference", *(contender.name for contender in pairing.contenders)],
        volumes,
        _image(pairing.images, case, volumes[0].shape),
        read[0].spacing_mm[-2] / read[0].spacing_mm[-1],
    )


def _of_level(case: _Case, level: int, regions: Mapping[str, Sequence[Mask]], has_images: bool) -> list[Picture]:
    """Draw one slice: its image alone if there are images, then the outlines of each region."""
    box = _box(np.any([volume[level] > 0 for volume in case.volumes], axis=0))
    background = np.zeros(case.volumes[0].shape[1:]) if case.image is None else case.image[level]
    pictures = []
    if has_images:
        title, words = (
            ("image", "without outlines")
            if case.image is not None
            else ("no image that fits", "black, as no image of one channel and this size is there")
        )
        drawn = _outlined(background[box], None, [], case.aspect)
        pictures.append(Picture(title, f"{case.where(level)}, {words}.", drawn))
    for region, volumes in regions.items():
        masks = [volume[level][box] for volume in volumes]
        areas = ", ".join(f"{name} {int(mask.sum())}" for name, mask in zip(case.names, masks, strict=True))
        pictures.append(
            Picture(
                f"{region}, slice {level + 1}",
                f"{case.where(level)}, outlines of {region}; voxels inside: {areas}.",
                _outlined(background[box], masks[0], masks[1:], case.aspect),
            )
        )
    return pictures


def legend(names: Sequence[str]) -> Picture:
    """Draw a legend of the outlines: one line for the reference, and one for each contender.

    Args:
        names: names of the contenders, the baseline's first.

    Examples:
        >>> print(legend(["stock", "GSP"]).alt)
        Legend: the reference is a thick yellow line; stock is solid blue, GSP is dashed orange.
    """
    from matplotlib.lines import Line2D

    styles = {name: style_of(number) for number, name in enumerate(names)}
    with svg_canvas((3.4, 0.3 * (len(names) + 1))) as (canvas, result):
        canvas.set_facecolor("#222222")
        lines = [
            Line2D([], [], color=REFERENCE_STYLE["colors"], linewidth=3.2, label="reference"),
            *(
                Line2D(
                    [],
                    [],
                    color=style["color"],
                    linestyle=style["linestyle"],
                    linewidth=1.8,
                    path_effects=_halo(),
                    label=name,
                )
                for name, style in styles.items()
            ),
        ]
        canvas.legend(handles=lines, loc="center", frameon=False, labelcolor="white", handlelength=4)
    return Picture(
        "outlines",
        "Legend: the reference is a thick yellow line; "
        + ", ".join(f"{name} is {style['in_words']}" for name, style in styles.items())
        + ".",
        result(),
    )


def _worst_level(reference: Mask, *predictions: Mask) -> int:
    """Return the index of the slice with the most wrong voxels; if none is wrong, with the most of the reference."""
    wrong = np.sum([(prediction != reference).sum(axis=(1, 2)) for prediction in predictions], axis=0)
    return int(np.argmax(wrong if np.any(wrong) else reference.sum(axis=(1, 2))))


def _outlined(background: Image, reference: Mask | None, predictions: Sequence[Mask], aspect: float) -> str:
    """Draw outlines of the reference and of contenders over a slice (H, W), and return a PNG as data URI."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = background.shape[0] * aspect, background.shape[1]
    scale = 2.6 / max(height, width)
    canvas = Figure(figsize=(max(width * scale, 0.8), max(height * scale, 0.8)), facecolor="black")
    FigureCanvasAgg(canvas)
    axes = canvas.add_axes((0, 0, 1, 1))
    axes.imshow(
        background,
        cmap="gray",
        aspect=aspect,
        vmin=0,
        vmax=float(np.percentile(background, 99.5)) or 1,
        interpolation="nearest",
    )
    axes.axis("off")
    limits = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
    if reference is not None:
        _outline(axes, reference, **REFERENCE_STYLE)
    for number, mask in enumerate(predictions):
        style = style_of(number)
        lines = _outline(axes, mask, colors=style["color"], linestyles=[style["linestyle"]], linewidths=1.6)
        if lines is not None:
            lines.set_path_effects(_halo())
    axes.set(**limits)
    file = io.BytesIO()
    canvas.savefig(file, format="png", dpi=110)
    return data_uri("image/png", file.getvalue())


def _outline(axes: Any, mask: Mask, **style: Any) -> Any:
    """Draw the outline of a mask (H, W), closed at the image's borders; return None if the mask is empty."""
    if not mask.any():
        return None
    rows, columns = (np.arange(-1, size + 1) for size in mask.shape)
    return axes.contour(columns, rows, np.pad(mask, 1).astype(np.uint8), levels=[0.5], **style)


def _halo() -> list[Any]:
    """Return a light rim around a line, which makes dark colours visible on dark images."""
    from matplotlib.patheffects import Normal, withStroke

    return [withStroke(linewidth=3.0, foreground="white"), Normal()]


def _volume(array: Array) -> Array:
    """Return a 2D image as a volume of one slice, and a volume as it is."""
    return array if array.ndim == 3 else array[None]


def _box(mask: Mask) -> tuple[slice, slice]:
    """Return the box (H, W) around a mask with a margin; the whole slice if the mask is empty."""
    if not mask.any():
        return slice(None), slice(None)
    rows, columns = box_around(mask, _MARGIN)
    return rows, columns


def _image(folder: Path | None, case: str, shape: tuple[int, ...]) -> Image | None:
    """Return the first channel of a case, shifted so that its darkest voxel is 0; None if none has this shape."""
    import SimpleITK as sitk

    from nnunetv2_gsp.images import read_whole

    file = first_channel_of(case, folder) if folder is not None else None
    if file is None:
        return None
    image = _volume(sitk.GetArrayFromImage(read_whole(file)).astype(np.float32))
    return image - image.min() if image.shape == shape else None
