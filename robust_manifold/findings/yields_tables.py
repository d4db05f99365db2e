"""The tables of a cascade: which member broke how many images, and what it cost."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from robust_manifold.evaluation.cascades.cascade import CARRIED, CLEAN
from robust_manifold.evaluation.records import RecordFile
from robust_manifold.reporting import Table
from robust_manifold.reporting.columns import column_heads, column_of
from robust_manifold.reporting.labels import adversary_label, budget_label
from robust_manifold.reporting.tables import MISSING, lines_of

_BEST = 3
"""Members that one line has room to name."""


class YieldLine(NamedTuple):
    """What one member of a cascade did in one column at one budget."""

    classifier: str
    defence: str
    adversary: str
    """The cascade, as a config writes it, without its balls."""
    norm: str
    epsilon: float
    member: str
    n: int
    """Images of the column."""
    images: int
    """Those that it was given: all that still stood."""
    broken: int
    """Those that it broke."""
    forwards: float
    """In all."""
    backwards: float
    """Gradients, in all."""
    seconds: float


_TEXTS = ("classifier", "defence", "adversary", "norm", "member")
FILE = RecordFile(
    name="cascade.csv",
    columns=YieldLine._fields,
    texts=_TEXTS,
    counts=("n", "images", "broken"),
    required=tuple(name for name in YieldLine._fields if name not in _TEXTS),
    formats={"epsilon": ".6g", "forwards": ".0f", "backwards": ".0f"},
)


def worked(line: Any) -> bool:
    """Returns whether a line is of a member that was given an image."""
    return line.images > 0 and line.member not in (CLEAN, CARRIED)


def summary_table(lines: pd.DataFrame) -> Table:
    """Returns a line a column and budget: what is left, its price, and who did it.

    Args:
      lines: of cascade.csv.
    """
    rows = []
    for own in _places(lines).values():
        n, broken = own[0].n, sum(line.broken for line in own)
        gradients = sum(line.backwards for line in own) / n
        best = sorted(own, key=lambda line: -line.broken)
        told = [f"{each.member} ({each.broken:,})" for each in best if each.broken]
        more = f" and {len(told) - _BEST} more" if len(told) > _BEST else ""
        rows.append(
            {
                **_named(own[0], lines),
                "Left": f"{n - broken:,} of {n:,}",
                "Gradients": f"{gradients:,.0f}",
                "Broken by": f"{'; '.join(told[:_BEST])}{more}" if told else MISSING,
            }
        )
    text = _without_repeats(rows)
    caption = (
        "Left: images that no member broke under every key of the defence. Gradients: "
        "those of all members together, a mean over all images. Broken by: who broke "
        "most images that all before it had left, with their number; clean: wrong "
        "untouched; another budget: by an image made at that one. Without a defence "
        "there is one gradient, the network's own."
    )
    names = len(text.columns)
    numbers = lines.drop(columns="seconds")  # equal runs give equal tables
    return Table("What the cascade broke", caption, text, numbers, names, prose=True)


def yields_table(lines: pd.DataFrame) -> Table:
    """Returns what each member did, column by column, with the seconds it took.

    Args:
      lines: of cascade.csv.
    """
    rows = [
        {
            **_named(line, lines),
            "Member": line.member,
            "Given": f"{line.images:,}",
            "Broken": f"{line.broken:,}",
            "Gradients": f"{line.backwards:,.0f}",
            "Forwards": f"{line.forwards:,.0f}",
            "Seconds": f"{line.seconds:,.1f}",
        }
        for line in lines_of(lines)
        if line.broken or worked(line)
    ]
    text = _without_repeats(rows)
    caption = (
        "Members in their order. Given: images that all before it had left. Broken: of "
        "these, by it. Gradients and forwards, of what it differentiates, and seconds, "
        "with compilation: in all. Attacks on donors break nothing; what they made is "
        "handed on."
    )
    names = list(text.columns).index("Given")
    return Table("Yield of each member of the cascade", caption, text, lines, names)


def pilot_table(tried: Iterable[Mapping[str, Any]]) -> Table:
    """Returns which ways to differentiate each column were tried, best first.

    Args:
      tried: lines of the files pilot.json, each with its "column".
    """
    lines = list(tried)
    text = _without_repeats(
        [
            {
                "Column": line["column"],
                "Adversary": adversary_label(line["adversary"]),
                "Broken": f"{100 * line['rate']:.0f} % of {line['n']:,}",
                "Margin": f"{line['margin']:.3f}",
                "Passes": f"{line['passes']:,.0f}",
            }
            for line in lines
        ]
    )
    caption = (
        "On a few validation images, by Auto-PGD from noise. The cascade goes by the "
        "first of each list, then by what the next add to it. Margin: the largest "
        "other logit less the label's, a mean over the images where it counts as 0 for "
        "broken ones. Passes: through networks, an image."
    )
    title = "What the pilot tried"
    return Table(title, caption, text, pd.DataFrame(lines), names=2)


def _places(lines: pd.DataFrame) -> dict[tuple[Any, ...], list[Any]]:
    """Returns the lines of each column and budget."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for line in lines_of(lines):
        place = (*column_of(line), line.adversary, line.norm, line.epsilon)
        found.setdefault(place, []).append(line)
    return found


def _named(line: Any, lines: pd.DataFrame) -> dict[str, str]:
    """Returns the column, the cascade where there are several, and the budget."""
    heads = column_heads(column_of(each) for each in lines_of(lines))
    named = {"Column": heads[column_of(line)]}
    if len(set(lines["adversary"])) > 1:
        named["Cascade"] = adversary_label(line.adversary)
    return named | {"Budget": budget_label(line.norm, line.epsilon)}


def _without_repeats(rows: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """Returns rows as a frame; a name is written once for the lines that share it."""
    return pd.DataFrame(_blanked(rows))


def _blanked(rows: Sequence[Mapping[str, str]]) -> Iterator[dict[str, str]]:
    before: list[str] = []
    for row in rows:
        names = [row[name] for name in row if name in _ONCE]
        alike = len(names)
        for place, name in enumerate(names):
            if place >= len(before) or before[place] != name:
                alike = place
                break
        told = list(row.items())
        # The names come first.
        yield {k: "" if place < alike else v for place, (k, v) in enumerate(told)}
        before = names


_ONCE = ("Column", "Cascade", "Budget")
