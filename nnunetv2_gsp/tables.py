"""A table of texts, to be shown on a screen, in Markdown and in HTML."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from nnunetv2_gsp.markup import render


@dataclass(frozen=True)
class Table:
    """A table with a header and rows, in which every cell is a text.

    Attributes:
        header: title of each column.
        rows: cells of each row, as many as in the header.
        n_labels: number of columns, from the left, that label a row and are left-aligned; the others hold its values
            and are right-aligned.
        marked: indices, from 0 on, of the rows that are highlighted in HTML.

    Raises:
        ValueError: a row has another number of cells than the header.

    Examples:
        >>> table = Table(["region", "Dice", "HD95 (mm)"], [["whole tumour", "0.91", "4.2"], ["core", "0.8", "12.0"]])
        >>> print(table.text())
        region        Dice  HD95 (mm)
        whole tumour  0.91        4.2
        core           0.8       12.0
        >>> print(table.markdown())
        | region | Dice | HD95 (mm) |
        |---|---:|---:|
        | whole tumour | 0.91 | 4.2 |
        | core | 0.8 | 12.0 |
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_labels: int = 1
    marked: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Check that the table is a rectangle."""
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"expected {len(self.header)} cells in each row, got {len(row)}: {', '.join(row)}")

    def text(self) -> str:
        """Return aligned lines for a screen, without a line break at the end."""
        return "\n".join("  ".join(cells).rstrip() for cells in self._padded([self.header, *self.rows]))

    def markdown(self, *, padded: bool = False) -> str:
        """Return a Markdown table, without a line break at the end.

        Args:
            padded: True fills the cells of a column to one width, for readers of the source.

        Examples:
            >>> print(Table(["region", "Dice"], [["whole tumour", "0.91"]]).markdown(padded=True))
            | region       | Dice |
            |--------------|-----:|
            | whole tumour | 0.91 |
        """
        lines = [[cell.replace("|", "\\|") for cell in row] for row in [self.header, *self.rows]]
        header, *rows = self._padded(lines) if padded else lines
        rule = [
            ("---" if is_label else "---:").rjust(len(title) + 2 if padded else 0, "-")
            for title, is_label in zip(header, self._are_labels(), strict=True)
        ]
        return "\n".join([_piped(header), f"|{'|'.join(rule)}|", *map(_piped, rows)])

    def html(self, caption: str) -> Markup:
        """Return an HTML table element.

        Args:
            caption: text on what the table shows, of class "hidden", which styles may leave to screen readers.
        """
        return render("table.html.j2", table=self, caption=caption)

    def _are_labels(self) -> list[bool]:
        return [column < self.n_labels for column in range(len(self.header))]

    def _padded(self, lines: Sequence[Sequence[str]]) -> list[list[str]]:
        """Fill the cells of each column to the width of its longest one."""
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return [
            [
                cell.ljust(width) if is_label else cell.rjust(width)
                for cell, width, is_label in zip(line, widths, self._are_labels(), strict=True)
            ]
            for line in lines
        ]


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
