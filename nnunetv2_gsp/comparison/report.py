"""A comparison on paper: comparison.csv, .json, .md, and one page that needs nothing else, comparison.html."""
import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnunetv2_gsp.comparison.comparison import Comparison
from nnunetv2_gsp.comparison.costs import Cost
from nnunetv2_gsp.comparison.pictures import (
    MOST_REGIONS,
    Picture,
    learning_curves,
    legend,
    paired_scatter,
    slices,
    sorted_differences,
)
from nnunetv2_gsp.comparison.statistics import PairedFigures
from nnunetv2_gsp.files import write_json, write_text
from nnunetv2_gsp.metrics.definitions import DICE, Metric
from nnunetv2_gsp.metrics.evaluation import VOLUMES, check_outputs, without_nan

N_CASES_SHOWN = 5  # of the worst, and of the median
N_METRICS_SHOWN = 2  # in scatter and differences: Dice and HD95
Table = list[list[str]]  # its header first


def output_files(folder: Path) -> dict[str, Path]:
    """Return the report's files by their kind."""
    return {kind: folder / f"comparison.{kind}" for kind in ("csv", "json", "md", "html")}


def write_report(comparison: Comparison, folder: Path, overwrite: bool) -> dict[str, Path]:
    """Write all four files into a folder, which is made where it is missing.

    Raises:
        InputError: one is there and overwrite is not asked for, the folder can't be written to, or an image can't be
            read.
    """
    files = output_files(folder)
    check_outputs(files.values(), overwrite)
    page = as_html(comparison)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(as_csv(comparison), files["csv"])
    write_json(as_dict(comparison), files["json"])
    write_text(as_markdown(comparison), files["md"])
    write_text(page, files["html"])
    return files


def as_csv(comparison: Comparison) -> str:
    """Return a line for each case and region, all contenders side by side; what is left out is blank."""
    text = io.StringIO()
    metrics = [metric.name for metric in comparison.metrics]
    names = list(comparison.rows)
    own = [*metrics, VOLUMES[1], "empty"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["definition", "case", "fold", "region", VOLUMES[0],
                     *(f"{name}: {column}" for name in names for column in own)])
    for rows in zip(*comparison.rows.values(), strict=True):
        first = rows[0]
        writer.writerow([comparison.definition.name, first["case"], comparison.task.folds.get(first["case"], ""),
                         first["region"], first[VOLUMES[0]],
                         *(without_nan(row[column]) for row in rows for column in own)])
    return text.getvalue()


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """Return everything but the pictures, for JSON; what is left out or unknown is null."""
    task = comparison.task
    return without_nan({
        "title": task.title, "definition": comparison.definition.name, "caveats": comparison.caveats,
        "verdict": comparison.verdict(), "notes": comparison.notes, "labels": task.labels.source,
        "units": {metric.name: metric.unit or "1" for metric in comparison.metrics},
        "baseline": comparison.baseline.name, "folds": dict(task.folds),
        "comparisons": [{**asdict(paired), "interval": list(paired.interval),
                         "is_significant": paired.is_significant} for paired in comparison.paired],
        "contenders": {contender.name: {"cost": asdict(contender.cost), "protocol": asdict(contender.protocol),
                                        "learning_curves": [asdict(curves) for curves in contender.curves],
                                        "cases": comparison.rows[contender.name]} for contender in task.contenders}})


def as_markdown(comparison: Comparison) -> str:
    """Return verdict, tables and notes as Markdown."""
    lines = [f"# {_title(comparison)}", "", comparison.task.title, ""]
    lines += [f"> {caveat}" for caveat in comparison.caveats] + [""] * bool(comparison.caveats)
    lines += [f"**{comparison.verdict()}**", ""]
    for heading, table in _tables(comparison):
        header, *rows = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in table]
        lines += [f"## {heading}", "", header, "|---" * len(table[0]) + "|", *rows, ""]
    return "\n".join([*lines, "## Notes", "", *(f"- {note}" for note in comparison.notes), ""])


def as_html(comparison: Comparison) -> str:
    """Return the page: verdict, tables, figures, cases and notes, with pictures and style inside."""
    sections = [_verdict(comparison)]
    sections += [f"<section><h2>{_breakable(heading)}</h2>{_html_table(table, heading)}</section>"
                 for heading, table in _tables(comparison)]
    sections += [*_plots(comparison), _training(comparison), *_cases(comparison), _notes(comparison)]
    title = escape(_title(comparison))
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{_breakable(_title(comparison))}</h1>\n"
            + "\n".join(filter(None, sections)) + "\n</main>\n</body>\n</html>\n")


def _title(comparison: Comparison) -> str:
    return " and ".join([", ".join(list(comparison.rows)[:-1]), list(comparison.rows)[-1]]) + " compared"


def _tables(comparison: Comparison) -> Iterator[tuple[str, Table]]:
    """Yield the tables with their headings."""
    for contender in comparison.task.contenders[1:]:
        paired = [each for each in comparison.paired if each.contender == contender.name]
        yield f"{contender.name} against {comparison.baseline.name}", _results(comparison, paired)
    if any(contender.cost != Cost() for contender in comparison.task.contenders):
        yield "What it cost", _costs(comparison)


def _results(comparison: Comparison, paired: Sequence[PairedFigures]) -> Table:
    baseline, contender = paired[0].baseline, paired[0].contender
    units = {metric.name: metric for metric in comparison.metrics}
    table = [["region", "metric", f"mean of {baseline}", f"mean of {contender}", "mean difference", "95 % interval",
              "median difference", "p", "p, Holm", "wins / ties / losses", "penalty cases, each", "pairs (dropped)"]]
    for each in paired:
        metric = units[each.metric]
        arrow = "↑" if metric.higher_is_better else "↓"
        table.append([
            each.region, f"{metric.title} {arrow}", _figure(each.baseline_mean, metric),
            _figure(each.contender_mean, metric), _figure(each.mean_difference, metric, signed=True),
            _interval(each, metric), _figure(each.median_difference, metric, signed=True), _p(each.p),
            _p(each.p_holm) + (" *" if each.is_significant else ""), f"{each.wins} / {each.ties} / {each.losses}",
            f"{each.baseline_penalties}, {each.contender_penalties}",
            f"{each.n}" + (f" ({each.dropped})" if each.dropped else "")])
    return table


def _costs(comparison: Comparison) -> Table:
    rows: list[tuple[str, Callable[[Cost], str]]] = [
        ("parameters", lambda cost: _scaled(cost.parameters)), ("MACs of a patch", lambda cost: _scaled(cost.macs)),
        ("epoch, s", lambda cost: _plain(cost.epoch_s)), ("prediction of a case, s", lambda cost: _plain(
            cost.prediction_s)), ("GPU memory, GiB", lambda cost: _plain(cost.gpu_memory_gib)),
        ("checkpoint, MB", lambda cost: _plain(None if cost.checkpoint_bytes is None else cost.checkpoint_bytes / 1e6))]
    contenders = comparison.task.contenders
    return [["", *(contender.name for contender in contenders)],
            *([label, *(show(contender.cost) for contender in contenders)] for label, show in rows)]


def _figure(value: float, metric: Metric, signed: bool = False) -> str:
    if math.isnan(value):
        return "–"
    digits = 2 if metric.unit else 4
    return f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"


def _interval(paired: PairedFigures, metric: Metric) -> str:
    low, high = paired.interval
    if math.isnan(low):
        return "–"
    mark = "" if paired.interval_method == "BCa" else f" ({paired.interval_method})"
    return f"{_figure(low, metric, True)} to {_figure(high, metric, True)}{mark}"


def _p(p: float) -> str:
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 999.5 else f"{value:.0f}"


def _scaled(count: int | None) -> str:
    if count is None:
        return ""
    power = next((power for power in range(4) if count / 1000 ** power < 999.5), 4)  # 999.5 is rounded to 1e+03
    return f"{count / 1000 ** power:.3g}{('', ' k', ' M', ' G', ' T')[power]}"


def _verdict(comparison: Comparison) -> str:
    caveats = "".join(f"<p>{escape(caveat)}</p>" for caveat in comparison.caveats)
    box = f'<div class="caveats" role="note"><h2>Before the verdict</h2>{caveats}</div>' if caveats else ""
    return (f'<p class="task">{escape(comparison.task.title)}; HD95 and empty cases by the definition '
            f"<b>{escape(comparison.definition.name)}</b></p>{box}"
            f'<p class="verdict"><b>Verdict.</b> {escape(comparison.verdict())}</p>')


def _html_table(table: Table, caption: str) -> str:
    header, *rows = table
    head = "".join(f'<th scope="col">{_breakable(cell)}</th>' for cell in header)
    body = ""
    for row in rows:
        cells = "".join(f'<td data-label="{escape(label)}">{escape(cell) or "&nbsp;"}</td>'
                        for label, cell in zip(header[1:], row[1:], strict=True))
        marked = ' class="significant"' if any(cell.endswith("*") for cell in row) else ""
        body += f'<tr{marked}><th scope="row">{escape(row[0])}</th>{cells}</tr>'
    kind = ' class="results"' if len(header) > 1 and header[1] == "metric" else ""
    return (f'<table{kind}><caption class="hidden">{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table>")


def _breakable(text: str) -> str:
    """Let names such as nnUNetTrainerGSP_5epochs break where a word begins."""
    return re.sub(r"(?<!\bnn)(?<=[a-z])(?=[A-Z])|(?<=_)", "<wbr>", escape(text))


def _plots(comparison: Comparison) -> Iterator[str]:
    """Yield scatter and sorted differences of each contender against the baseline."""
    baseline = comparison.baseline.name
    panels = [(region, metric) for metric in comparison.metrics[:N_METRICS_SHOWN] for region in comparison.regions]
    for number, contender in enumerate(comparison.task.contenders[1:], start=1):
        name = contender.name
        yield _figure_html(
            f"Case by case: {name} against {baseline}",
            [paired_scatter(comparison, number, *panel) for panel in panels],
            f"Each mark is a case: its figure with {baseline} to the right, with {name} upwards. On the dashed line "
            f"both are equal. Where more is better (Dice), marks above the line speak for {name}; where less is better "
            f"(HD95), marks below it do. Distances are drawn to scale up to 1 mm and logarithmically beyond. Look "
            f"whether a few marks far off make a mean.")
        yield _figure_html(
            f"Differences, sorted: {name} minus {baseline}",
            [sorted_differences(comparison, number, *panel) for panel in panels],
            f"A bar for each case, from the smallest difference to the largest. Plain bars are cases in which {name} "
            f"is better, hatched ones those in which {baseline} is. A difference that holds for most cases shows as a "
            f"broad side, one that a few cases make shows as a spike at an end. Distances are drawn to scale up to "
            f"1 mm and logarithmically beyond.")


def _training(comparison: Comparison) -> str:
    pictures = learning_curves(comparison)
    return _figure_html(
        "How training went", pictures,
        "From nnU-Net's logs; the broad line is the mean over folds, thin ones are single folds. Where the validation "
        "loss rises while the training loss falls, a network learns its training cases by heart. A curve that still "
        "climbs at its end says that more epochs might change the comparison. Pseudo Dice is measured on patches, and "
        "is no substitute for the tables.") if pictures else ""


def _cases(comparison: Comparison) -> Iterator[str]:
    """Yield the pictures of the worst cases and of those in the middle, by mean Dice over regions and contenders."""
    ranked = comparison.ranked_cases()
    worst = ranked[:N_CASES_SHOWN]
    start = max(0, (len(ranked) - N_CASES_SHOWN) // 2)
    middle = [case for case in ranked[start:start + N_CASES_SHOWN] if case not in worst]
    key = _image_html(legend(list(comparison.rows)), "key")
    shown = {case: slices(comparison, case) for case in tqdm([*worst, *middle], desc="drawing", unit="case",
                                                             disable=None)}
    regions = f" Only the first {MOST_REGIONS} regions are drawn." if len(comparison.regions) > MOST_REGIONS else ""
    for heading, cases, words in (
            ("The worst cases", worst, "Those with the lowest mean Dice over regions and contenders. They show how it "
                                       "goes wrong: a missed lesion, a false one, or a border in another place."),
            ("Median cases", middle, "Those in the middle of the same order. They show what to expect.")):
        if cases:
            figures = "".join(_case_html(comparison, case, shown[case]) for case in cases)
            yield (f"<section><h2>{heading}</h2><p>{words} Each picture is the slice with the most voxels that any "
                   f"contender labels wrong; an outline a region.{regions}</p>{key}{figures}</section>")


def _case_html(comparison: Comparison, case: str, pictures: Sequence[Picture]) -> str:
    dice = "".join(f"<br>{escape(name)}: " + ", ".join(
        f"{escape(row['region'])} {_figure(row['Dice'], DICE)}" for row in rows if row["case"] == case)
        for name, rows in comparison.rows.items())
    fold = comparison.task.folds.get(case)
    images = "".join(_image_html(picture, "slice") for picture in pictures)
    return (f"<figure><h3>{escape(case)}{f', fold {escape(fold)}' if fold else ''}</h3>"
            f'<div class="slices">{images}</div><figcaption>Dice of the whole volume{dice}</figcaption>'
            f"</figure>")


def _figure_html(heading: str, pictures: Sequence[Picture], caption: str) -> str:
    images = "".join(_image_html(picture, "plot") for picture in pictures)
    return (f'<section><h2>{_breakable(heading)}</h2><figure><div class="plots">{images}</div>'
            f"<figcaption>{escape(caption)}</figcaption></figure></section>")


def _image_html(picture: Picture, kind: str) -> str:
    return (f'<div class="{kind}"><p>{escape(picture.title)}</p><img src="{picture.uri}" alt="{escape(picture.alt)}">'
            f"</div>")


def _notes(comparison: Comparison) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
    return f"<section><h2>What the figures mean</h2><ul>{notes}</ul></section>"


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1a1a1a; font: 1rem/1.5 system-ui, sans-serif; }
main { max-width: 82rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; overflow-wrap: break-word; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; overflow-wrap: break-word; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; overflow-wrap: break-word; }
.verdict { border-left: .35rem solid #0072b2; background: #eef5fa; padding: .75rem 1rem; font-size: 1.05rem;
           overflow-wrap: break-word; }
.caveats { border-left: .35rem solid #d55e00; background: #fdf3ec; padding: .5rem 1rem; overflow-wrap: break-word; }
.caveats h2 { margin: .25rem 0; font-size: 1rem; }
.caveats p { margin: .25rem 0; }
.task, figcaption, section > p { color: #333; max-width: 48rem; overflow-wrap: break-word; }
figcaption { font-size: .95rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .3rem .35rem; border-bottom: 1px solid #ccc; text-align: right; vertical-align: bottom; }
th[scope=row], th:first-child, .results :is(td, th):nth-child(2) { text-align: left; }
th[scope=row], td { white-space: nowrap; }
thead th { border-bottom: 2px solid #1a1a1a; }
tr.significant td, tr.significant th { background: #eef5fa; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
figure { margin: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); gap: 1rem; }
.slices { display: flex; flex-wrap: wrap; gap: .5rem; }
.plots p, .slices p, .key p { margin: 0; font-size: .85rem; font-weight: 600; overflow-wrap: break-word; }
.plot img { width: 100%; height: auto; }
.slice img { height: 15rem; width: auto; max-width: 100%; background: #000; display: block; }
.key img { max-width: 100%; height: auto; display: block; }
@media screen and (max-width: 64rem) {
  thead { display: block; position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tr { display: block; border-bottom: 2px solid #1a1a1a; padding: .5rem 0; }
  th[scope=row], td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .15rem .25rem;
                      text-align: right; }
  .results :is(td, th):nth-child(2) { text-align: right; }
  th[scope=row], td { white-space: normal; }
  td::before { content: attr(data-label); color: #444; text-align: left; min-width: 0; overflow-wrap: anywhere; }
  .slice { flex: 1 1 9rem; }
  .slice img { height: auto; width: 100%; }
}
@media print {
  body { font-size: 9pt; }
  main { max-width: none; padding: 0; }
  tr, .plot, .slice, .verdict, .caveats, figure h3 { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .plots { grid-template-columns: repeat(4, 1fr); gap: .5rem; }
  .slice img { height: 4.5cm; }
  table { font-size: 7.5pt; }
  th, td { padding: .1rem .25rem; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
@page { size: landscape; margin: 1.2cm; }
"""
