"""The page `report.html`: one file that holds its tables, figures and style."""

import base64
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2

from robust_manifold.core.errors import UsageError
from robust_manifold.reporting.tables import Table
from robust_manifold.runtime.progress import duration

EXPLANATION = (
    "Invert and Classify replaces an image x by its projection G(z*), the nearest "
    "image that the generator G was found to make, and classifies the projection. "
    "The tables give the accuracy on clean and on adversarial images, with and without "
    "a defence. Their captions say what the attacks were allowed to see: accuracy "
    "under an attack that does not know the defence is no evidence of robustness "
    "against one that does."
)
"""What a report shows, for a reader who has not met the defence."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Figures are drawn at 150 dots an inch and shown at 100, sharp on dense screens.
_DENSITY = 1.5


class ReportFigure(NamedTuple):
    """A figure of the page: PNG bytes, with a title and a caption of a sentence."""

    title: str
    caption: str
    png: bytes


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
    """

    title: str
    tables: Sequence[Table]
    figures: Sequence[ReportFigure]
    stage_seconds: Mapping[str, float]
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    command: str
    folded_tables: Sequence[Table] = ()
    explanation: str = EXPLANATION


class _Picture(NamedTuple):
    title: str
    caption: str
    source: str
    width: int


class _Stage(NamedTuple):
    name: str
    duration: str
    percent: float


def render_html(report: Report) -> str:
    """Returns the page as one text that needs no other file and no network.

    Raises:
      UsageError: if a figure is no PNG.
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
        stages=_stages(report.stage_seconds),
        total=duration(float(sum(report.stage_seconds.values()))),
        blocks=_blocks(report.config),
        facts=[(name, _value(value)) for name, value in report.environment.items()],
    )


def _picture(figure: ReportFigure) -> _Picture:
    if not figure.png.startswith(_PNG_SIGNATURE):
        raise UsageError(
            f"figure {figure.title!r} starts with {figure.png[:8]!r}; "
            "allowed: the bytes of a PNG file."
        )
    # The width in pixels stands in the header, behind signature, length and type.
    width = int.from_bytes(figure.png[16:20])
    data = base64.b64encode(figure.png).decode("ascii")
    return _Picture(
        title=figure.title,
        caption=figure.caption,
        source=f"data:image/png;base64,{data}",
        width=round(width / _DENSITY),
    )


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
        if isinstance(block, Mapping):
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
