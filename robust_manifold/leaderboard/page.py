"""docs/leaderboard.md, from the records of the entries."""

import re
import textwrap
from collections.abc import Iterator, Sequence

from robust_manifold.evaluation.intervals import wilson_interval
from robust_manifold.leaderboard import rules
from robust_manifold.leaderboard.entry import MARKUP, known_rows
from robust_manifold.leaderboard.records import Record

MARK = "<!-- Made by python -m robust_manifold.leaderboard page. -->"
RANKED_BY = "linf 0.2"
_SIGNS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1"}
_HEAD = (
    "What defences that work at inference time are worth on MNIST: purifiers, "
    "projections, noise, and whatever else changes an image before a classifier sees "
    "it. RobustBench admits none of them. Every entry is attacked by the same cascade, "
    "and its row is what that leaves: the share of the first "
    f"{rules.DIGITS} official test digits (fewer where an entry is slow) that is right "
    "under every attack in the ball, in percent; of a defence that draws at random, a "
    "mean over keys. Anybody's adversarial images can lower a row, and nothing raises "
    "it. [The rules](leaderboard_rules.md) say how to enter a defence of your "
    "own, and how to challenge one of these."
)


def page(records: Sequence[Record]) -> str:
    """Returns the page: a table, best first, then a section for each entry."""
    ranked = sorted(
        records, key=lambda each: (-each.right(RANKED_BY), -each.right("clean"))
    )
    parts = [MARK, "", "# Leaderboard", "", _wrapped(_HEAD), "", *_table(ranked), ""]
    for record in ranked:
        parts += _section(record)
    return "\n".join(parts).rstrip() + "\n"


def _table(records: Sequence[Record]) -> Iterator[str]:
    rows = known_rows()
    yield "| entry | " + " | ".join(map(sign, rows)) + " | digits | flags |"
    yield "| --- |" + " ---: |" * (len(rows) + 2)
    for record in records:
        figures = " | ".join(f"{100 * record.right(row):.1f}" for row in rows)
        link = f"[{record.title}](#{record.name.replace('_', '-')})"
        yield f"| {link} | {figures} | {record.n} | {len(record.flags)} |"
    yield ""
    yield _wrapped(
        f"Sorted by {sign(RANKED_BY)}. A flag is a check of the audit that says a "
        "figure misleads."
    )


def _section(record: Record) -> Iterator[str]:
    yield f"## {record.name.replace('_', ' ')}"
    yield ""
    yield _wrapped(_plain(record.text))
    if record.source:
        yield f"Source: {record.source}"
    yield ""
    yield "| row | claimed | left | 95 % interval | broken most by |"
    yield "| --- | ---: | ---: | ---: | --- |"
    for row in known_rows():
        right = record.right(row)
        low, high = wilson_interval(round(right * record.n), record.n)
        claimed = record.claimed.get(row)
        who, broke = ([*record.by.get(row, ()), ["", 0]])[0]
        short = textwrap.shorten(_plain(who), 46, placeholder=" ...")
        most = f"{short} ({broke})" * bool(who)
        told = "" if claimed is None else f"{claimed:g}"
        ends = f"{100 * low:.1f} to {100 * high:.1f}"
        yield f"| {sign(row)} | {told} | {100 * right:.1f} | {ends} | {most} |"
    yield ""
    yield _wrapped(
        f"{record.n} digits in {record.minutes:g} minutes: {record.gradients:,} "
        f"gradients and {record.outputs:,} outputs a digit. "
        + " ".join(_plain(note) for note in record.notes)
    )
    for name, _, sentence in record.flags:
        yield ""
        yield _wrapped(f"**Flag, {name}**: {_plain(sentence)}")
    for by, checksum, fell, _ in record.challenges:
        told = ", ".join(f"{count} at {sign(row)}" for row, count in fell.items())
        yield ""
        yield _wrapped(f"Challenged by {by} (images {checksum[:8]}): {told} fell.")
    yield ""
    files = {f"{record.name}.py": record.checksum, **record.weights}
    sums = ", ".join(f"`{name}` {checksum[:8]}" for name, checksum in files.items())
    made = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    yield _wrapped(f"SHA-256: {sums}. Scored with {made}.")
    yield ""


def sign(row: str) -> str:
    """Returns a row's name as readers write it.

    >>> sign("linf 0.2")
    'ℓ∞ 0.2'
    """
    norm, _, radius = row.partition(" ")
    return f"{_SIGNS.get(norm, norm)} {radius}".strip()


def _plain(text: str) -> str:
    """Returns a text on one line, with nothing that would be read as markup."""
    return " ".join(re.sub(f"([{re.escape(MARKUP)}])", r"\\\1", text).split())


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 108, break_long_words=False, break_on_hyphens=False)
