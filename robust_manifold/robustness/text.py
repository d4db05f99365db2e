"""An evaluation as a short table of text, and of HTML for a notebook."""

import html as markup
import textwrap
from collections.abc import Iterator, Sequence

from robust_manifold.robustness.record import Line, Record, budget_text
from robust_manifold.runtime.progress import duration

_WIDTH = 88
_NAMED = 3
"""Members that are named at a budget."""

_HEADS = ("", "right", "95 % interval", "gradients", "outputs")


def told(evaluation: Record) -> str:
    """Returns flags, figures, who broke what, the cost, and what else to know."""
    lines = [heading(evaluation), *_wrapped(flag_lines(evaluation), "  "), ""]
    lines += aligned([_HEADS, *map(cells, evaluation.lines)])
    lines += ["", *_wrapped(broken_lines(evaluation), "  ")]
    lines += _wrapped([cost(evaluation), *evaluation.notes], "")
    return "\n".join(lines)


def heading(evaluation: Record) -> str:
    """Returns what was evaluated, on how many images, and how hard."""
    behind = "no defence" if evaluation.name == "none" else evaluation.name
    n = len(evaluation.labels)
    own = evaluation.effort.startswith("effort(")
    effort = evaluation.effort if own else f"effort {evaluation.effort}"
    return f"{behind}: {n:,} image{'s' if n > 1 else ''}, {effort}"


def flag_lines(evaluation: Record) -> list[str]:
    """Returns a line for each flag, or one that there is none."""
    made = sum(check.verdict != "SKIPPED" for check in evaluation.audit)
    flags = [f"FLAG {each.name}: {each.sentence}" for each in evaluation.flags]
    checks = f"{made} check{'' if made == 1 else 's'}"
    return flags or [f"No flag in {checks}, which is no proof of robustness."]


def flag_notice(evaluation: Record) -> str:
    """Returns one line that names the flags."""
    names = [check.name for check in evaluation.flags]
    count = f"{len(names)} flag{'s' if len(names) > 1 else ''}"
    return f"{count}: {', '.join(names)}"


def cells(line: Line) -> tuple[str, ...]:
    """Returns the figures of a budget as texts."""
    asked = (
        (f"{line.gradients:,.0f}", f"{line.outputs:,.0f}") if line.norm else ("", "")
    )
    return (
        budget_text(line),
        f"{100 * line.accuracy:.1f} %",
        f"[{100 * line.low:.1f}, {100 * line.high:.1f}]",
        *asked,
    )


def broken_lines(evaluation: Record) -> list[str]:
    """Returns for each budget who broke how many images, most first.

    What is broken was so under every key that was tried.  Of other images of a random
    defence it is told how many some keys break, which accuracy counts by their share.
    """
    told = []
    for at, line in zip(evaluation.budgets, evaluation.lines[1:], strict=True):
        some = int(((at.rate > 0) & (at.rate < 1)).sum())
        # The last look has other keys, and spares some of what was broken before.
        beside = int((at.rate > 0).sum()) - sum(each.broken for each in at.shares)
        some = max(0, min(some, beside))
        more = f"; {some:,} more under some keys" if some else ""
        told.append(f"Broken at {budget_text(line)}: {who(line.broken_by)}{more}.")
    return told


def who(broken_by: Sequence[tuple[str, int]]) -> str:
    """Returns the members that broke most, with their numbers.

    >>> who([("clean", 3), ("apgd", 2)]), who([])
    ('3 clean, 2 by apgd', 'none')
    """
    named = [
        f"{count} {name}" if name == "clean" else f"{count} by {name}"
        for name, count in broken_by[:_NAMED]
    ]
    rest = sum(count for _, count in broken_by[_NAMED:])
    return ", ".join(named + ([f"{rest} by others"] if rest else [])) or "none"


def cost(evaluation: Record) -> str:
    """Returns what an image took, at all budgets together, and how long all took."""
    gradients = sum(line.gradients for line in evaluation.lines)
    outputs = sum(line.outputs for line in evaluation.lines)
    return (
        f"Cost: {gradients:,.0f} gradients and {outputs:,.0f} outputs an image, "
        f"{duration(evaluation.seconds)} with compilation."
    )


def html(evaluation: Record) -> str:
    """Returns the same as HTML, with nothing that a notebook would not show."""

    def row(tag: str, texts: Sequence[str]) -> str:
        parts = "".join(f"<{tag}>{markup.escape(text)}</{tag}>" for text in texts)
        return f"<tr>{parts}</tr>"

    flagged = bool(evaluation.flags)
    style = ' style="color: #c93c37"' if flagged else ""
    parts = [f"<p><b>{markup.escape(heading(evaluation))}</b></p>"]
    parts += [f"<p{style}>{markup.escape(line)}</p>" for line in flag_lines(evaluation)]
    rows = [row("th", _HEADS), *(row("td", cells(line)) for line in evaluation.lines)]
    parts.append(f"<table>{''.join(rows)}</table>")
    more = [*broken_lines(evaluation), cost(evaluation), *evaluation.notes]
    parts += [f"<p>{markup.escape(line)}</p>" for line in more]
    return "\n".join(parts)


def _wrapped(lines: Sequence[str], indent: str) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(
            line, _WIDTH, subsequent_indent=indent, break_on_hyphens=False
        )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the rows of a table with the first column flush left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            text.rjust(width) if place else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
