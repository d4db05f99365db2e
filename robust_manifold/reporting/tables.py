"""Tables of a report as text, Markdown, LaTeX and CSV: pure functions of results."""

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from robust_manifold.reporting.labels import (
    CLEAN,
    NO_DEFENCE,
    WORST_CASE,
    parse_spec,
)

ADVERSARIES: Mapping[str, str] = {
    "oblivious": "the attack sees the bare classifier, not the defence",
    "bpda": "gradients are those of a short inversion, in place of the defence's own",
    "straight_through": "the defence's gradient is taken for that of the identity",
    "unrolled": "gradients pass through every step of the defence",
    "implicit": "gradients of the inversion by the implicit function theorem",
    "latent": "the attack moves the latent, not the pixels",
    "substitute": "the attack sees a model trained on the defence's labels",
    "decision": "the attack sees labels or scores only",
    "cascade": "many attacks in turn, each on the images that still stand",
}
"""What each adversary may use, in the words of a caption."""

_STAND_IN = "gradients are those of another defence, in place of its own"
"""What BPDA may use where it is given another purifier."""

MISSING = "–"


UNAWARE = ("oblivious",)
"""Adversaries that know nothing of the defence, not even its answers."""

OBLIVIOUS_ONLY = "oblivious attacks only"
"""What a title says where nothing that attacked a defence knew of it."""


def is_defended(row: Any) -> bool:
    """Returns whether a line is of a column with a defence."""
    return row.defence != NO_DEFENCE


def rejects(row: Any) -> bool:
    """Returns whether a line is of a column that may reject an image."""
    spec = parse_spec(row.defence)
    return spec is not None and spec.name == "rejecting"


def is_aware(row: Any) -> bool:
    """Returns whether a line is of an attack that knew of the defence it met."""
    spec = parse_spec(row.adversary)
    name = spec.name if spec else row.adversary
    return name not in (*UNAWARE, NO_DEFENCE, WORST_CASE)


def oblivious_only(rows: Iterable[Any]) -> bool:
    """Returns whether defences were attacked, and by nobody who knew of them.

    Args:
      rows: lines of results.csv, or others with `attack`, `adversary` and `defence`.
    """
    met = [
        row
        for row in rows
        if row.attack != CLEAN and row.adversary != WORST_CASE and is_defended(row)
    ]
    return bool(met) and not any(map(is_aware, met))


def with_threat(title: str, rows: Iterable[Any]) -> str:
    """Returns a title that says if no attack on a defence knew of it.

    Tables and figures are pasted elsewhere without their captions.

    Args:
      title: of a table or figure.
      rows: what it shows; see `oblivious_only`.
    """
    return f"{title}, {OBLIVIOUS_ONLY}" if oblivious_only(rows) else title


def adversary_words(text: str) -> str:
    """Returns what an adversary may use, in words; nothing for one not known here."""
    spec = parse_spec(text)
    if spec and "stand_in" in spec.named:
        return _STAND_IN
    return ADVERSARIES.get(spec.name if spec else text.replace("-", "_"), "")


def images_text(cells: Iterable[Any]) -> str:
    """Returns how many test images cells have: "n = 500 test images"."""
    counts = [cell.n for cell in cells]
    least, most = min(counts), max(counts)
    images = f"n = {least:,}" if least == most else f"n = {least:,} to {most:,}"
    return f"{images} test images"


class Table(NamedTuple):
    """A table of a report, independent of any file format.

    Attributes:
      title: its heading, without a stop; "" for a table that stands under another's.
      caption: what the table shows, on how many images, with which interval.
      text: the formatted cells; the first column names the rows.
      numbers: the numbers behind `text`, as shares, for other programs.
      names: how many leading columns of `text` are names, set flush left.
      prose: whether the last column holds sentences, which are broken into lines.
    """

    title: str
    caption: str
    text: pd.DataFrame
    numbers: pd.DataFrame
    names: int = 1
    prose: bool = False

    @property
    def told(self) -> str:
        """Title and caption in one, for formats that have captions alone."""
        title = f"{self.title}." if self.title else ""
        return " ".join(filter(None, (title, self.caption)))


def lines_of(results: pd.DataFrame) -> list[Any]:
    """Returns the lines of results.csv as tuples with the columns' names."""
    return list(results.itertuples(index=False))


def lines_where(results: pd.DataFrame, keep: Callable[[Any], bool]) -> pd.DataFrame:
    """Returns the lines of a frame that `keep` says yes to."""
    places = [place for place, row in enumerate(lines_of(results)) if keep(row)]
    return results.take(places)


def is_single(row: Any) -> bool:
    """Returns whether a line of results.csv is of one attack, no worst case of many."""
    return row.adversary != WORST_CASE


def values_table(
    values: Mapping[str, float | int | str],
    *,
    title: str,
    caption: str,
    heads: tuple[str, str] = ("Measure", "Value"),
) -> Table:
    """Returns a table of names with one value each, such as the results of one run.

    Args:
      values: numbers or texts by name; numbers are shown to four digits.
      title: of the table.
      caption: what the values are.
      heads: of the two columns.
    """
    shown = [
        [name, format(value, ".4g") if isinstance(value, float) else str(value)]
        for name, value in values.items()
    ]
    return Table(
        title,
        caption,
        pd.DataFrame(shown, columns=list(heads)),
        pd.DataFrame(list(values.items()), columns=["name", "value"]),
    )


def to_markdown(table: Table) -> str:
    """Returns title, caption and table in GitHub's Markdown."""
    frame = table.text.map(escape_markdown)
    frame.columns = [escape_markdown(name) for name in frame.columns]
    body = frame.to_markdown(
        index=False,
        tablefmt="pipe",
        disable_numparse=True,
        colalign=["left"] * table.names
        + ["right"] * (len(frame.columns) - table.names),
    )
    return f"{markdown_caption(table)}\n\n{body}\n"


def markdown_caption(table: Table) -> str:
    """Returns the title in bold, and the caption."""
    title = f"**{escape_markdown(table.title)}.**" if table.title else ""
    return " ".join(filter(None, (title, escape_markdown(table.caption))))


def to_latex(table: Table) -> str:
    """Returns a `table` environment for the package booktabs."""
    frame = table.text.map(escape_latex)
    frame.columns = [escape_latex(name) for name in frame.columns]
    places = ["l"] * table.names + ["r"] * (len(frame.columns) - table.names)
    if table.prose:
        places[-1] = r"p{0.55\linewidth}"
    body = frame.style.hide(axis="index").to_latex(
        hrules=True,
        column_format="".join(places),
        position="htbp",
        position_float="centering",
        caption=escape_latex(table.told),
    )
    return "% \\usepackage{booktabs}\n" + body


def to_csv(table: Table) -> str:
    """Returns the numbers behind the table, shares in [0, 1], one line a row."""
    return table.numbers.to_csv(index=False, lineterminator="\n")


def to_console(table: Table, width: int = 80) -> str:
    """Returns title, table and caption as text of at most `width` columns.

    Where the columns do not fit, intervals and the parts of a head move to lines of
    their own; where they still do not, the table continues below itself.
    """
    console = Console(
        file=io.StringIO(),
        width=width,
        color_system=None,
        force_terminal=False,
        force_jupyter=False,
        legacy_windows=False,
        _environ={},
    )
    parts = [table]
    if not _fits(console, table):
        folded = table.text.map(lambda cell: cell.replace(" [", "\n["))
        folded.columns = [name.replace(", ", ",\n") for name in folded.columns]
        parts = _split_to_fit(console, table._replace(text=folded))
    with console.capture() as captured:
        console.print(Text(table.title))
        for part in parts:
            console.print(_rich(part))
        console.print(Text(table.caption))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join(lines).strip("\n") + "\n"


WRITERS: Mapping[str, Callable[[Table], str]] = {
    "md": to_markdown,
    "tex": to_latex,
    "csv": to_csv,
    "txt": to_console,
}
"""What turns a table into the text of a file, by the file's suffix."""


def escape_latex(text: str) -> str:
    r"""Returns `text` so that LaTeX prints it as it is.

    >>> escape_latex("PGD ℓ2 ε=1.5 & 84.2 %")
    'PGD \\ensuremath{\\ell_2} \\ensuremath{\\varepsilon}=1.5 \\& 84.2 \\%'
    """
    return _LATEX_PATTERN.sub(lambda found: _LATEX[found[0]], text)


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "\n": " ",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    **{
        sign: rf"\ensuremath{{{math}}}"
        for sign, math in {
            "‖δ‖₂": r"\|\delta\|_2",
            "‖δ‖∞": r"\|\delta\|_\infty",
            "‖δ‖": r"\|\delta\|",
            "ℓ∞": r"\ell_\infty",
            "ℓ2": r"\ell_2",
            "ℓ1": r"\ell_1",
            "ℓ0": r"\ell_0",
            "ε": r"\varepsilon",
            "α": r"\alpha",
            "η": r"\eta",
            "κ": r"\kappa",
            "τ": r"\tau",
            "↓": r"\downarrow",
            "↑": r"\uparrow",
        }.items()
    },
}
_LATEX_PATTERN = re.compile(
    "|".join(re.escape(sign) for sign in sorted(_LATEX, key=len, reverse=True))
)


def accuracy_text(cell: Any) -> str:
    """Returns a cell's accuracy with its interval; a dash where there is no cell."""
    if cell is None:
        return MISSING
    low, high = 100 * cell.accuracy_low, 100 * cell.accuracy_high
    return f"{_share(cell.accuracy)} [{low:.1f}, {high:.1f}]"


def accuracy_numbers(cell: Any) -> list[float | int | None]:
    """Returns a cell's accuracy, the ends of its interval, and its n."""
    if cell is None:
        return [None] * 4
    return [cell.accuracy, cell.accuracy_low, cell.accuracy_high, cell.n]


def _share(value: float) -> str:
    return MISSING if math.isnan(value) else f"{100 * value:.1f} %"


def escape_markdown(text: str) -> str:
    """Returns a text in which no sign of Markdown's has a meaning."""
    for sign, escaped in {
        "\\": "\\\\",
        "|": "\\|",
        "*": "\\*",
        "`": "\\`",
        "<": "&lt;",
        "\n": " ",
    }.items():
        text = text.replace(sign, escaped)
    return text


def _rich(table: Table) -> RichTable:
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    # Text objects: a plain string's "[81.0, 87.0]" would be read as markup.
    for position, name in enumerate(table.text.columns):
        justify = "left" if position < table.names else "right"
        shown.add_column(Text(name), justify=justify)
    for row in table.text.itertuples(index=False):
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def _fits(console: Console, table: Table) -> bool:
    wide = console.options.update(width=10_000)
    return console.measure(_rich(table), options=wide).maximum <= console.width


def _split_to_fit(console: Console, table: Table) -> list[Table]:
    """Returns parts of the table that fit, each with the columns of names."""
    columns, names = len(table.text.columns), table.names
    if columns <= names + 1 or _fits(console, table):
        return [table]
    middle = (names + columns + 1) // 2
    places = range(names), range(names, middle), range(middle, columns)
    left = table.text.iloc[:, [*places[0], *places[1]]]
    right = table.text.iloc[:, [*places[0], *places[2]]]
    return [
        part
        for half in (left, right)
        for part in _split_to_fit(console, table._replace(text=half))
    ]
