"""A report as files: `report.html` (all in one), `report.md`, figures as PNG and SVG, and the numbers as CSV."""

import base64
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from ...rope import write_atomically
from .document import Entry, Part, Picture, Report, Section, Table
from .numbers import Rows
from .table import markdown

FIGURES = "figures"
TEMPLATE = "report.html.j2"
UNBROKEN = re.compile(r"(?<=[\d)]) (?=%|points|tokens)|(?<=p) (?=[=<] )|(?<=p [=<]) ")
"""Spaces at which no line may break: between a number and its unit, around the sign of a p-value."""
BREAKABLE = re.compile(r"([:,=_/])(?=[a-z(])")
"""Where a long name such as `yarn:beta_fast=16,beta_slow=2` may break."""
MAX_ROWS = 30
"""Rows of a table in Markdown."""
MAX_CELL = 160
"""Letters of a cell in Markdown."""
MARKS = {"best": "★", "tie": "≈", "": ""}


def write_report(
    report: Report, folder: Path, watch: Callable[[list[Picture]], Iterable[Picture]] = lambda pictures: pictures
) -> None:
    """Write `report.html`, `report.md`, `figures/` and the CSV files of a report into a folder.

    Args:
        report: what to write.
        folder: it is made if there is none.
        watch: wraps the list of figures, e.g. in a progress bar.
    """
    figures = folder / FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".figures-", dir=folder) as drawn:  # other processes may write the same report
        for picture in watch(list(_pictures(report))):
            picture.draw(Path(drawn, f"{picture.file}.png"))
            write_csv(picture.rows, Path(drawn, f"{picture.file}.csv"))
        page = as_html(report, Path(drawn))
        for path in sorted(Path(drawn).iterdir()):
            path.replace(figures / path.name)
    for name, rows in report.csv.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_csv(rows, folder / f"{name}.csv")
    write_atomically(folder / "report.md", as_markdown(report))
    write_atomically(folder / "report.html", page)


def write_csv(rows: Rows, path: Path) -> None:
    """Write rows below one header line; a missing number is an empty field."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def as_html(report: Report, figures: Path) -> str:
    """Return the report as one page that loads nothing; the figures are those drawn in a folder."""

    def embedded(picture: Picture) -> str:
        svg = (figures / f"{picture.file}.svg").read_bytes()
        return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["unbroken"] = lambda text: UNBROKEN.sub("\u00a0", text)
    environment.filters["breakable"] = lambda text: Markup(BREAKABLE.sub(r"\1<wbr>", str(escape(text))))
    template = environment.from_string((files(__name__.rpartition(".")[0]) / TEMPLATE).read_text(encoding="utf-8"))
    return template.render(report=report, embedded=embedded, marks=MARKS)


def as_markdown(report: Report) -> str:
    """Return the report as Markdown that shows the figures of the folder beside it."""
    lines = ["# Context extension report", ""]
    for part in report.parts:
        lines += _part(part, several=len(report.parts) > 1)
    return "\n".join(lines)


def _pictures(report: Report) -> Iterator[Picture]:
    return (picture for part in report.parts for section in part.sections for picture in section.pictures)


def _part(part: Part, several: bool) -> Iterator[str]:
    if several:
        yield from (f"# {part.title}", "")
    yield from (f"**{part.verdict}**", "", part.facts, "")
    if part.findings:
        yield from (*(f"- {finding}" for finding in part.findings), "")
    for section in part.sections:
        yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    opening, closing = f"## {section.title}", ()
    if section.folded:
        opening, closing = f"<details>\n<summary>{section.title}</summary>", ("</details>", "")
    yield from (opening, "")
    for paragraph in section.paragraphs:
        yield from (paragraph, "")
    for table in section.tables:
        yield from (f"**{table.caption}**", "", markdown(table.header, _texts(table)))
        if len(table.rows) > MAX_ROWS:
            everything = f"{table.csv}.csv" if table.csv else "report.html"
            yield from (f"*The first {MAX_ROWS} of {len(table.rows)} rows; all are in {everything}.*", "")
    for picture in section.pictures:
        yield from (f"![{picture.alt}]({FIGURES}/{picture.file}.png)", "", f"*{picture.caption}*", "")
    yield from closing


def _texts(table: Table) -> Sequence[Sequence[str]]:
    return [[_shorten(_text(entry)) for entry in row] for row in table.rows[:MAX_ROWS]]


def _shorten(text: str) -> str:
    """Cut a text that is too long for a cell of Markdown; `report.html` has all of it."""
    return text if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 2]} …"


def _text(entry: Entry) -> str:
    value = f"**{entry.text}**" if entry.mark == "best" else entry.text
    note = f" ({entry.note})" if entry.note else ""
    return " ".join(part for part in (value + note, MARKS[entry.mark]) if part)
