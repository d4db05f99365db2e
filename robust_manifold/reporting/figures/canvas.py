"""What all figures share: one style, colours for every eye, and PNG bytes.

Figures are made as objects, never through pyplot: nothing is kept open between
them, and no setting of the user's matplotlib shows through.
"""

import functools
import io
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.text import Text

P = ParamSpec("P")
T = TypeVar("T")

DPI = 150

INK = "#24292f"
FAINT = "#8c959f"
FAINT_TEXT = "#57606a"
RIGHT = "#1a7f37"
WRONG = "#c93c37"
# Okabe and Ito's palette, which colour-blind readers tell apart, without its yellow.
LINES = ("#57606a", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = "osD^vP*"
DASHES = ("-", "-", "--", "-.", ":", "--", "-.")

_STYLE: dict[str, Any] = {
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    # Written above an axis, where the legend is, "+5e-1" is easily overlooked.
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-6, 9),
    "grid.color": "#e6e8eb",
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    # A class may be called "$x$": texts are printed as they are.
    "text.parse_math": False,
}


def styled(function: Callable[P, T]) -> Callable[P, T]:
    """Returns `function` run under the report's style, whatever the user's own."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with matplotlib.style.context(["default", _STYLE]):
            return function(*args, **kwargs)

    return run


class _SelfDrawn(Figure):
    """A figure that a notebook draws, though pyplot knows nothing of it."""

    def _repr_png_(self) -> bytes:
        return to_png(self)


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """Returns an empty figure of this size in inches, bound to no window."""
    figure = _SelfDrawn(figsize=(width, height), **options)
    FigureCanvasAgg(figure)
    return figure


@functools.cache
def _drawn_characters() -> frozenset[int]:
    """Returns the characters that the style's font has, upright and bold."""
    fonts = (FontProperties(family="DejaVu Sans", weight=w) for w in ("normal", "bold"))
    maps = [get_font(fontManager.findfont(font)).get_charmap() for font in fonts]
    return frozenset(maps[0]) & frozenset(maps[1])


def legible(text: str) -> str:
    r"""Returns a line of text with escapes for what the style's font cannot draw.

    >>> print(legible("日本.png"))
    \u65e5\u672c.png
    """
    drawn = _drawn_characters()
    return "".join(
        c if ord(c) in drawn else c.encode("unicode_escape").decode() for c in text
    )


def make_legible(figure: Figure) -> None:
    """Makes every text of a figure `legible`: names are the user's."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        lines = text.get_text().split("\n")
        text.set_text("\n".join(legible(line) for line in lines))


def laid_out(figure: Figure) -> Figure:
    """Returns the figure with its layout computed, once and for all.

    Another run of matplotlib's layout would move the axes by fractions of a pixel,
    and a figure saved twice would give other bytes.
    """
    make_legible(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


@styled
def to_png(figure: Figure) -> bytes:
    """Returns the figure as PNG bytes: equal figures give equal bytes."""
    stream = io.BytesIO()
    # Without the name of the software, whose version would show in the bytes.
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
