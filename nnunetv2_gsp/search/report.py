"""Writes what a search has found: a table, a page with the Pareto front, and the winner's template."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from nnunetv2_gsp.comparison.pictures import Picture, style_of, svg_canvas
from nnunetv2_gsp.files import write_json, write_text
from nnunetv2_gsp.markup import render
from nnunetv2_gsp.search.front import pareto_front
from nnunetv2_gsp.search.halving import Point
from nnunetv2_gsp.search.space import Space
from nnunetv2_gsp.search.study import TrialOutcome, TrialRecord
from nnunetv2_gsp.tables import Table

GMACS, MILLISECONDS = "GMACs", "ms"  # units of cost
_ON_THE_FRONT = "on the front"
_SIZE = (6.4, 4.2)  # of the plot, in inches
_CHOICES = {
    "groups": "groups",
    "shift_ratio": "ratio",
    "local_shift_ratio": "local ratio",
    "shift_position": "position",
    "shift_location": "location",
    "width": "width",
    "convolutions": "conv.",
    "convolutions_decoder": "conv. in decoder",
    "stages": "stages",
}  # parameter of the space -> title of its column


@dataclass(frozen=True)
class Report:
    """What a search has found.

    Attributes:
        title: what was searched, such as the dataset, the configuration and the plans.
        space: networks that could be chosen.
        rungs: name of each rung, from the shortest training to the longest.
        records: all trials that have begun.
        budget: largest cost, in `unit`; None has no limit.
        unit: unit of the costs, GMACS or MILLISECONDS.
        notes: sentences on how it was measured.
    """

    title: str
    space: Space
    rungs: Sequence[str]
    records: Sequence[TrialRecord]
    budget: float | None = None
    unit: str = GMACS
    notes: Sequence[str] = ()

    @cached_property
    def front(self) -> list[TrialRecord]:
        """The trials of the last rung that no other one dominates, the cheapest first."""
        finished = self._finished
        return [finished[index][0] for index in pareto_front([point for _, point in finished])]

    @property
    def winner(self) -> TrialRecord | None:
        """The trial of the highest Dice, of several the cheapest; None if none has finished."""
        return self.front[-1] if self.front else None

    def verdict(self) -> str:
        """Return the winner in a sentence, beside the first trial, which is the default."""
        if self.winner is None:
            return f"No trial has come to the end of {self.rungs[-1]} yet."
        sentence = f"Best Dice: trial {self.winner}, {self._in_words(self.winner)}."
        reference = next((record for record, _ in self._finished if record.number == 0), None)
        if reference is None or reference is self.winner:
            return sentence
        beats = reference not in self.front
        return (
            f"{sentence} Trial {reference}: {self._in_words(reference)}, "
            f"{'below' if beats else 'on'} the front of {len(self.front)}."
        )

    def table(self) -> Table:
        """Return a row for each trained trial, the best first: those of longer trainings, then those of higher Dice."""
        trained = sorted(
            (record for record in self.records if record.is_trained),
            key=lambda record: (len(record.dice), record.dice[-1:]),
            reverse=True,
        )
        takes_time = self.unit == MILLISECONDS
        header = ["trial", *_CHOICES.values(), "parameters", "GMACs", *(["ms"] if takes_time else []), *self.rungs]
        rows = []
        for record in trained:
            network = record.network
            assert network is not None  # or it is not trained
            costs = [f"{network.parameters:,}", f"{network.macs / 1e9:.3g}"]
            costs += [f"{network.milliseconds:.1f}"] if takes_time else []
            dice = [f"{value:.3f}" for value in record.dice] + [""] * (len(self.rungs) - len(record.dice))
            rows.append([str(record), *self._chosen(record), *costs, *dice, self._state(record)])
        marked = frozenset(index for index, record in enumerate(trained) if record in self.front)
        return Table([*header, "state"], rows, marked=marked)

    def markdown(self) -> str:
        """Return title, verdict, table and notes as Markdown."""
        notes = [f"- {note}" for note in self._all_notes()]
        return "\n".join(
            [f"# {self.title}", "", self.verdict(), "", self.table().markdown(padded=True), "", *notes, ""]
        )

    def csv(self) -> str:
        """Return all trials with all digits, those that were not trained included."""
        text = io.StringIO()
        names = ["trial", "name", *_CHOICES, "plans", "parameters", "macs", "milliseconds", *self.rungs, "state"]
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        for record in self.records:
            network = record.network
            costs: dict[str, Any] = (
                {}
                if network is None
                else {
                    "plans": network.name,
                    "parameters": network.parameters,
                    "macs": network.macs,
                    "milliseconds": network.milliseconds,
                }
            )
            dice = dict(zip(self.rungs, record.dice, strict=False))
            state = self._state(record)
            writer.writerow(
                {"trial": record.number, "name": record.name, **record.choice, **costs, **dice, "state": state}
            )
        return text.getvalue()

    def html(self) -> str:
        """Return the page: verdict, Pareto front, table and notes."""
        return str(
            render(
                "search/page.html.j2",
                title=self.title,
                verdict=self.verdict(),
                picture=self.picture(),
                table=self.table(),
                notes=self._all_notes(),
            )
        )

    def picture(self) -> Picture:
        """Plot the Dice of the finished trials against their cost, with the Pareto front as a line."""
        front = [point for record, point in self._finished if record in self.front]
        below = [point for record, point in self._finished if record not in self.front]
        with svg_canvas(_SIZE) as (canvas, result):
            axes = canvas.subplots()
            style, other = style_of(0), style_of(1)
            axes.scatter(*_axes_of(below), color=other["color"], marker=other["marker"], label="below the front")
            front.sort(key=lambda point: point.cost)
            axes.plot(
                *_axes_of(front), color=style["color"], marker=style["marker"], drawstyle="steps-post", label="front"
            )
            for record, point in self._finished:
                axes.annotate(str(record), (point.cost, point.dice), (4, 4), textcoords="offset points", fontsize=7)
            if self.budget is not None:
                axes.axvline(self.budget, color="#555555", linewidth=1, linestyle="dotted", label="budget")
            axes.set_xscale("log")
            axes.set(xlabel=f"cost of one patch in {self.unit}", ylabel=f"Dice, {self.rungs[-1]}")
            axes.legend(loc="lower right", fontsize=8)
        return Picture(
            "Pareto front",
            f"Dice against {self.unit} of {len(self._finished)} finished trials, {len(front)} of them on the front, "
            f"which no other one beats in both.",
            result(),
        )

    def template(self) -> dict[str, Any]:
        """Return the winner as the content of a template's file.

        Raises:
            ValueError: no trial has finished.
        """
        if self.winner is None or self.winner.network is None:
            raise ValueError("No trial has finished, so there is no winner.")
        return {
            "description": f"trial {self.winner} of a search: {self._in_words(self.winner)}",
            "source": f"{self.title}; Dice after {self.rungs[-1]}",
            **self.winner.network.settings,
        }

    def write(self, folder: Path) -> list[Path]:
        """Write search.md, search.csv, search.html and, once a trial has finished, winner.json; return the files."""
        files = {"search.md": self.markdown, "search.csv": self.csv, "search.html": self.html}
        for name, content in files.items():
            write_text(content(), folder / name)
        if self.winner is None:
            return [folder / name for name in files]
        write_json(self.template(), folder / "winner.json")
        return [*(folder / name for name in files), folder / "winner.json"]

    @cached_property
    def _finished(self) -> list[tuple[TrialRecord, Point]]:
        points = (
            (record, record.point(len(self.rungs) - 1))
            for record in self.records
            if record.outcome is TrialOutcome.FINISHED
        )
        return [(record, point) for record, point in points if point is not None]

    def _chosen(self, record: TrialRecord) -> list[str]:
        """Return the choices in words; those without effect are left out."""
        network = record.network
        settings = {} if network is None else network.settings
        without_effect = {"groups"} if "spatial_groups" not in settings and not settings.get("shift_ratio") else set()
        if settings.get("shift_position") == "none":
            without_effect |= {"shift_position", "shift_location"}
        return ["" if name in without_effect else _in_short(record.choice[name]) for name in _CHOICES]

    def _state(self, record: TrialRecord) -> str:
        return _ON_THE_FRONT if record in self.front else record.outcome.value

    def _in_words(self, record: TrialRecord) -> str:
        assert record.network is not None
        return f"Dice {record.dice[-1]:.3f} at {record.network.cost:.3g} {self.unit}"

    def _all_notes(self) -> list[str]:
        def count(outcome: TrialOutcome) -> int:
            return sum(record.outcome is outcome for record in self.records)

        budget = "" if self.budget is None else f"{count(TrialOutcome.OVER_BUDGET)} over the budget of {self.budget:g} "
        budget += "" if self.budget is None else f"{self.unit}, "
        refused, repeated = count(TrialOutcome.REFUSED), count(TrialOutcome.REPEATED)
        return [
            f"Not trained: {budget}{refused} that make no network, {repeated} repeated.",
            *self.notes,
        ]


def _axes_of(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.cost for point in points], [point.dice for point in points]


def _in_short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
