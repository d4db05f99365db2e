"""The page `report.html`: one file that holds its tables, figures and style."""

import base64
import importlib.resources
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.tables import Table
from robust_manifold.runtime.progress import duration

_SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "gif": b"GIF8"}
# Figures are drawn at 150 dots an inch and shown at 100, sharp on dense screens.
_DENSITY = 1.5


class ReportFigure(NamedTuple):
    """A figure of the page.

    Attributes:
      title: heading of the figure.
      caption: a sentence or two below it.
      png: bytes of a PNG file.
      gif: bytes of an animated GIF, shown in the place of the picture but on paper
        and to readers who want nothing to move.
    """

    title: str
    caption: str
    png: bytes
    gif: bytes = b""


class Section(NamedTuple):
    """A part of the page with a heading of its own, after the results.

    Attributes:
      title: its heading, and its entry in the list of contents.
      note: a paragraph below the heading.
      tables: shown in full.
      figures: shown below them.
      folded: tables behind a fold, for the reader who wants the detail.
      fold: what the fold says that it holds.
    """

    title: str
    note: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[ReportFigure] = ()
    folded: Sequence[Table] = ()
    fold: str = "More of it in detail"


class Notice(NamedTuple):
    """A line below the heading of the page that leads down to what it speaks of.

    Attributes:
      text: of the line.
      section: the title of the section that has the detail.
    """

    text: str
    section: str


class Report(NamedTuple):
    """All that the page shows, in its order.

    Attributes:
      title: heading of the page.
      tables: shown in full.
      figures: shown in full.
      stage_seconds: wall time of each stage, by name, in order.
      config: the resolved config, nested as it is.
      environment: versions, devices and the like, by name.
      command: the command line that makes the same report again.
      folded_tables: behind a fold, for the reader who wants the detail.
      explanation: the paragraph below the heading.
      sections: after the results.
      notice: what a reader should know before any figure; None where there is nothing.
    """

    title: str
    tables: Sequence[Table]
    figures: Sequence[ReportFigure]
    stage_seconds: Mapping[str, float]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    command: str
    folded_tables: Sequence[Table] = ()
    explanation: str = ""
    sections: Sequence[Section] = ()
    notice: Notice | None = None


class _Picture(NamedTuple):
    title: str
    caption: str
    source: str
    width: int
    moving: str


class _Part(NamedTuple):
    anchor: str
    title: str
    note: str
    tables: Sequence[Table]
    pictures: list[_Picture]
    folded: Sequence[Table]
    fold: str


class _Stage(NamedTuple):
    name: str
    duration: str
    percent: float


def render_html(report: Report) -> str:
    """Returns the page as one text that needs no other file and no network.

    Raises:
      UsageError: if a figure is no PNG, or its animation no GIF.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    template = importlib.resources.files("robust_manifold.reporting") / "report.html.j2"
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        report=report,
        pictures=[_picture(figure) for figure in report.figures],
        parts=[_part(section) for section in report.sections],
        anchor_of=_anchor,
        stages=_stages(report.stage_seconds),
        total=duration(float(sum(report.stage_seconds.values()))),
        blocks=_blocks(report.config),
        facts=[(name, _value(value)) for name, value in report.environment.items()],
    )


def _part(section: Section) -> _Part:
    pictures = [_picture(figure) for figure in section.figures]
    return _Part(
        anchor=_anchor(section.title),
        title=section.title,
        note=section.note,
        tables=section.tables,
        pictures=pictures,
        folded=section.folded,
        fold=section.fold,
    )


def _anchor(title: str) -> str:
    """Returns the name by which links find a section."""
    return re.sub("[^a-z]+", "-", title.lower())


def _picture(figure: ReportFigure) -> _Picture:
    # The width in pixels stands in the header: behind signature, length and type in
    # a PNG, behind the signature in a GIF.
    width = int.from_bytes(figure.png[16:20])
    if figure.gif:
        width = int.from_bytes(figure.gif[6:8], "little")
    return _Picture(
        title=figure.title,
        caption=figure.caption,
        source=_embedded(figure.title, "png", figure.png),
        width=round(width / _DENSITY),
        moving=_embedded(figure.title, "gif", figure.gif) if figure.gif else "",
    )


def _embedded(title: str, kind: str, data: bytes) -> str:
    """Returns the address that holds a file in itself."""
    if not data.startswith(_SIGNATURES[kind]):
        raise UsageError(
            f"figure {title!r} starts with {data[:8]!r}; "
            f"allowed: the bytes of a {kind.upper()} file."
        )
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _stages(seconds: Mapping[str, float]) -> list[_Stage]:
    longest = max(seconds.values(), default=0) or 1
    return [
        _Stage(
            name=name.replace("_", " "),
            duration=duration(float(value)),
            percent=round(100 * value / longest, 1),
        )
        for name, value in seconds.items()
    ]


def _blocks(config: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Returns the config as blocks of keys with values; deeper keys are dotted."""
    plain = [(k, _value(v)) for k, v in config.items() if not isinstance(v, Mapping)]
    blocks = [("", plain)] if plain else []
    for name, block in config.items():
        # Of a mapping by names there may be none.
        if isinstance(block, Mapping) and block:
            blocks.append((name, _flat(block, "")))
    return blocks


def _flat(block: Mapping[str, Any], prefix: str) -> list[tuple[str, list[str]]]:
    lines = []
    for name, value in block.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((prefix + name, _value(value)))
    return lines


def _value(value: Any) -> list[str]:
    """Returns the lines that show a value; empty ones for an empty value."""
    values = value if isinstance(value, list | tuple) else [value]
    return [str(item) for item in values if item not in ("", None)]
