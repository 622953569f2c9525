"""What does a comparison look like? Pictures as data URIs, for a page that needs no other file.

Colours are Okabe and Ito's, told apart with any colour vision; line style and marker say the same once more.
"""
import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from nnunetv2_gsp.evaluation.cases import image_of, labels_in, read_segmentation
from nnunetv2_gsp.evaluation.compare import Comparison
from nnunetv2_gsp.evaluation.definitions import Metric

REFERENCE_LOOK: dict[str, Any] = {"colors": "#F0E442", "linewidths": 3.2, "linestyles": "solid"}
LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "#0072B2", "linestyle": "solid", "marker": "o"},
    {"color": "#D55E00", "linestyle": "dashed", "marker": "^"},
    {"color": "#009E73", "linestyle": "dashdot", "marker": "s"},
    {"color": "#CC79A7", "linestyle": "dotted", "marker": "D"},
    {"color": "#000000", "linestyle": (0, (5, 1, 1, 1, 1, 1)), "marker": "v"},
    {"color": "#56B4E9", "linestyle": (0, (1, 3)), "marker": "P"})
MOST_REGIONS = 4  # of a case's pictures
_MARGIN = 12      # voxels around what is outlined
_SIZE = (3.4, 3.1)  # inches


@dataclass(frozen=True)
class Picture:
    """A picture for a page.

    Attributes:
        title: short, above it.
        alt: what it shows, in words.
        uri: data URI of an SVG or PNG.
    """

    title: str
    alt: str
    uri: str


def look(number: int) -> dict[str, Any]:
    """Return colour, line style and marker of a contender by its place."""
    return LOOKS[number % len(LOOKS)]


def paired_scatter(comparison: Comparison, number: int, region: str, metric: Metric) -> Picture:
    """Draw a point a case, the baseline's figure across, a contender's up, and the line where both are equal.

    Args:
        comparison: what is drawn.
        number: the contender's place, from 1 on.
        region: of the labels.
        metric: of the figures.
    """
    baseline, contender, x, y = _paired_figures(comparison, number, region, metric)
    with _svg() as (figure, result):
        axes = figure.subplots()
        if len(x):
            low, high = min(x.min(), y.min()), max(x.max(), y.max())
            room = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
            # on the scale of distances room below 0 would look large, and above the largest one small
            limits = (-0.3, 1.5 * high + 1) if metric.unit == "mm" else (low - room, high + room)
            axes.plot(limits, limits, color="#555555", linewidth=1, linestyle="dashed", zorder=1)
            for axis in ("x", "y"):
                _scale(axes, axis, metric)
            axes.set(xlim=limits, ylim=limits)
            axes.set_title(f"{'above' if metric.higher_is_better else 'below'} the line: better",
                           fontsize=8, color="#333333", loc="left")
            axes.scatter(x, y, s=26, color=look(number)["color"], marker=look(number)["marker"], edgecolor="black",
                         linewidth=0.5, alpha=0.85, zorder=2)
        axes.set(xlabel=f"{baseline}: {metric.title}", ylabel=f"{contender}: {metric.title}", aspect="equal")
    above, below = int((y > x).sum()), int((y < x).sum())
    return Picture(f"{metric.title}, {region}",
                   f"Scatter of {metric.title} of {region}: {contender} against {baseline}, {len(x)} cases, {above} "
                   f"above the line of equality, {below} below, {len(x) - above - below} on it.", result())


def sorted_differences(comparison: Comparison, number: int, region: str, metric: Metric) -> Picture:
    """Draw a bar a case, contender minus baseline, from the smallest to the largest.

    Args:
        comparison: what is drawn.
        number: the contender's place, from 1 on.
        region: of the labels.
        metric: of the figures.
    """
    baseline, contender, x, y = _paired_figures(comparison, number, region, metric)
    differences = np.sort(y - x)
    is_better = differences > 0 if metric.higher_is_better else differences < 0
    with _svg() as (figure, result):
        axes = figure.subplots()
        places = np.arange(1, len(differences) + 1)
        for group, colour, hatch, words in (
                (is_better, look(number)["color"], "", f"{contender} better"),
                (~is_better & (differences != 0), look(0)["color"], "////", f"{baseline} better")):
            if group.any():
                axes.bar(places[group], differences[group], color=colour, hatch=hatch, edgecolor="white", width=0.9,
                         linewidth=0, label=words)
        axes.axhline(0, color="black", linewidth=0.8)
        _scale(axes, "y", metric)
        axes.set(xlabel="cases, sorted", ylabel=f"difference of {metric.title}")
        axes.set_xticks(sorted({1, len(differences)}) if len(differences) else [])
        if differences.any():
            figure.legend(loc="outside upper center", fontsize=8, frameon=False)
    return Picture(f"{metric.title}, {region}",
                   f"Sorted differences of {metric.title} of {region}, {contender} minus {baseline}: "
                   f"{len(differences)} cases, {contender} better in {int(is_better.sum())}, no difference in "
                   f"{int((differences == 0).sum())}.", result())


def learning_curves(comparison: Comparison) -> list[Picture]:
    """Draw losses and pseudo Dice over epochs, folds thin, their mean broad; empty without logs."""
    contenders = [contender for contender in comparison.task.contenders if contender.curves]
    if not contenders:
        return []
    return [_curve(comparison, name, title) for name, title in (
        ("training_loss", "training loss"), ("validation_loss", "validation loss"),
        ("pseudo_dice", "pseudo Dice"))]


def slices(comparison: Comparison, case: str) -> list[Picture]:
    """Draw the axial slice of a case in which most voxels are labelled wrong by any contender, an outline a region.

    Args:
        comparison: what is drawn.
        case: which.

    Returns:
        A picture without outlines where there are images, black if none of them fits the case, then one for each of
        the first four regions.
    """
    task = comparison.task
    reference = read_segmentation(task.references[case])
    predictions = {contender.name: _volume(read_segmentation(contender.predictions[case]).labels)
                   for contender in task.contenders}
    truth = _volume(reference.labels)
    wrong = sum((prediction != truth).sum(axis=(1, 2)) for prediction in predictions.values())
    # where nothing is wrong, the slice with most of the reference
    level = int(np.argmax(wrong if np.any(wrong) else (truth > 0).sum(axis=(1, 2))))
    ours = {name: prediction[level] for name, prediction in predictions.items()}
    box = _box(np.any([truth[level] > 0, *(each > 0 for each in ours.values())], axis=0))
    image = _image(task.images, case, truth.shape)
    background = np.zeros(truth[level][box].shape) if image is None else image[level][box]
    aspect = reference.spacing_mm[-2] / reference.spacing_mm[-1]
    where = f"slice {level + 1} of {len(truth)}" if len(truth) > 1 else "the image"

    found = set().union(*map(labels_in, (truth, *predictions.values())))
    pictures = []
    if task.images is not None:
        title, words = (("image", "without outlines") if image is not None else
                        ("no image that fits", "black, as no image of one channel and this size is there"))
        pictures.append(Picture(title, f"{case}, {where}, {words}.", _outlined(background, None, {}, aspect)))
    for name, labels in list(task.labels.regions_among(found).items())[:MOST_REGIONS]:
        true_mask = np.isin(truth[level][box], labels)
        masks = {each: np.isin(labelled[box], labels) for each, labelled in ours.items()}
        areas = ", ".join(f"{each} {int(mask.sum())}" for each, mask in [("reference", true_mask), *masks.items()])
        pictures.append(Picture(name, f"{case}, {where}, outlines of {name}; voxels inside: {areas}.",
                                _outlined(background, true_mask, masks, aspect)))
    return pictures


def legend(names: Sequence[str]) -> Picture:
    """Draw the outlines of the reference and of contenders, by name."""
    from matplotlib.lines import Line2D

    height = 0.3 * (len(names) + 1)
    with _svg((3.4, height)) as (figure, result):
        figure.set_facecolor("#222222")
        lines = [Line2D([], [], color=REFERENCE_LOOK["colors"], linewidth=3.2, label="reference"),
                 *(Line2D([], [], color=look(number)["color"], linestyle=look(number)["linestyle"], linewidth=1.8,
                          path_effects=_halo(), label=name) for number, name in enumerate(names))]
        figure.legend(handles=lines, loc="center", frameon=False, labelcolor="white", handlelength=4)
    return Picture("outlines", "Legend: the reference is a broad yellow line; " + ", ".join(
        f"{name} is {_line_in_words(number)}" for number, name in enumerate(names)) + ".", result())


def _outlined(background: np.ndarray, reference: np.ndarray | None, masks: Mapping[str, np.ndarray],
              aspect: float) -> str:
    """Draw outlines of the reference and of contenders over a slice (H, W); returns a PNG as data URI."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = background.shape[0] * aspect, background.shape[1]
    scale = 2.6 / max(height, width)
    figure = Figure(figsize=(max(width * scale, 0.8), max(height * scale, 0.8)), facecolor="black")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(background, cmap="gray", aspect=aspect, vmin=0,
                vmax=np.percentile(background, 99.5) or 1, interpolation="nearest")
    axes.axis("off")
    limits = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
    if reference is not None:
        _outline(axes, reference, **REFERENCE_LOOK)
    for number, mask in enumerate(masks.values()):
        style = look(number)
        lines = _outline(axes, mask, colors=style["color"], linestyles=[style["linestyle"]], linewidths=1.6)
        if lines is not None:
            lines.set_path_effects(_halo())
    axes.set(**limits)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return _uri("image/png", file.getvalue())


def _outline(axes: Any, mask: np.ndarray, **style: Any) -> Any:
    """Draw the outline of a mask (H, W), which a rim of one voxel closes at the borders; None if it is empty."""
    if not mask.any():
        return None
    rows, columns = (np.arange(-1, size + 1) for size in mask.shape)
    return axes.contour(columns, rows, np.pad(mask, 1).astype(np.uint8), levels=[0.5], **style)


def _halo() -> list[Any]:
    """Return a light rim around a line, which makes dark colours visible on dark images."""
    from matplotlib.patheffects import Normal, withStroke

    return [withStroke(linewidth=3.0, foreground="white"), Normal()]


def _line_in_words(number: int) -> str:
    colours = ("blue", "orange", "green", "pink", "black", "light blue")
    strokes = ("solid", "dashed", "dash-dotted", "dotted", "dash-dot-dotted", "finely dotted")
    return f"{strokes[number % len(LOOKS)]} {colours[number % len(LOOKS)]}"


def _volume(labels: np.ndarray) -> np.ndarray:
    return labels if labels.ndim == 3 else labels[None]


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    """Return a box (H, W) around a mask with a margin; everything if the mask is empty."""
    found = ndimage.find_objects(mask.view(np.uint8))
    if not found:
        return slice(None), slice(None)
    rows, columns = (slice(max(0, axis.start - _MARGIN), axis.stop + _MARGIN) for axis in found[0])
    return rows, columns


def _image(folder: Path | None, case: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the first channel of a case, its darkest voxel 0; None where there is none of this shape."""
    import SimpleITK as sitk

    from nnunetv2_gsp.images import read_whole

    file = image_of(case, folder) if folder is not None else None
    if file is None:
        return None
    image = _volume(sitk.GetArrayFromImage(read_whole(file)).astype(np.float32))
    return image - image.min() if image.shape == shape else None


def _scale(axes: Any, axis: str, metric: Metric) -> None:
    """Make an axis of distances linear up to 1 mm and logarithmic beyond, or one penalty hides all other cases."""
    from matplotlib.ticker import FuncFormatter

    if metric.unit == "mm":
        getattr(axes, f"set_{axis}scale")("symlog", linthresh=1)
        getattr(axes, f"{axis}axis").set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _curve(comparison: Comparison, name: str, title: str) -> Picture:
    words = []
    with _svg() as (figure, result):
        axes = figure.subplots()
        for number, contender in enumerate(comparison.task.contenders):
            folds = [np.array(getattr(curves, name), float) for curves in contender.curves]
            if not folds:
                continue
            style = {"color": look(number)["color"], "linestyle": look(number)["linestyle"]}
            n_epochs = min(map(len, folds))
            if len(folds) > 1:
                for fold in folds:
                    axes.plot(np.arange(1, len(fold) + 1), fold, **style, linewidth=0.7, alpha=0.45)
            mean = np.mean([fold[:n_epochs] for fold in folds], axis=0)
            axes.plot(np.arange(1, n_epochs + 1), mean, **style, linewidth=2.2, label=contender.name,
                      marker=look(number)["marker"], markersize=4, markevery=max(1, n_epochs // 8))
            words.append(f"{contender.name} ends at {mean[-1]:.3g} after {n_epochs} epochs" if n_epochs else
                         f"{contender.name} has no epoch")
        axes.set(xlabel="epoch", ylabel=title)
        figure.legend(loc="outside upper center", fontsize=8, frameon=False)
    return Picture(title, f"Learning curves, {title}: {'; '.join(words)}.", result())


def _paired_figures(comparison: Comparison, number: int, region: str,
                    metric: Metric) -> tuple[str, str, np.ndarray, np.ndarray]:
    """Return both names, and the figures of the cases that both have."""
    baseline, contender = comparison.baseline.name, comparison.task.contenders[number].name
    both = np.array([comparison.figures(name, region, metric.name) for name in (baseline, contender)], float)
    x, y = both[:, ~np.isnan(both).any(axis=0)]
    return baseline, contender, x, y


@contextmanager
def _svg(size: tuple[float, float] = _SIZE) -> Iterator[tuple[Any, Any]]:
    """Give a figure to draw in, and a function that returns it as data URI once the block has ended."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    file = io.BytesIO()
    # text stays text; equal content gives equal bytes
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "nnunetv2_gsp", "font.size": 9,
                                "font.family": "sans-serif", "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=size, facecolor="white", layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, lambda: _uri("image/svg+xml", file.getvalue())
        figure.savefig(file, format="svg", metadata={"Date": None}, facecolor=figure.get_facecolor())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
