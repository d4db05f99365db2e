"""The Markdown page of all results: a pure function of runs and of texts about them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd

from robust_manifold import evaluation
from robust_manifold.findings import EVERY, Group, Passage
from robust_manifold.reporting import Table, to_markdown
from robust_manifold.reporting.tables import escape_markdown, markdown_caption
from robust_manifold.results.beside import beside_table, published_table
from robust_manifold.results.command_lines import command_line
from robust_manifold.results.facts import ends_of, facts_table, times_table
from robust_manifold.results.groups import differences
from robust_manifold.results.origins import trained_config
from robust_manifold.results.page import Page
from robust_manifold.results.side_by_side import side_by_side
from robust_manifold.runtime import provenance
from robust_manifold.runtime.progress import duration

_HEAD = """\
# Results

Made by `python -m robust_manifold.results` from the records in `docs/results/records/`.
Only the words under “What it says” are written by hand, in `docs/results/NAME.md`.

Accuracy counts images that are classified right; a worst case counts those that are
right untouched and under every stored attack inside the budget. Budgets are on pixels
in [0, 1], norms plain over all pixels. An oblivious adversary does not know of the
defence: what stands under it is no evidence against one that does.
"""
_NOTHING = Page()
_NO_WORDS = "Nothing has been written about this experiment yet."


def document(
    groups: Sequence[Group], texts: Mapping[str, str], page: Page = _NOTHING
) -> str:
    """Returns the page.

    Args:
      groups: in the order of the page; see `group_runs`.
      texts: what was written by hand, by the name of an experiment.
      page: published figures, and where they come from.
    """
    parts = [_HEAD, _contents(groups)]
    for experiment, own in _by_experiment(groups).items():
        parts += _section(own, texts.get(experiment, ""), page)
    return "\n".join([*parts, *_published(page)])


def _by_experiment(groups: Iterable[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.first.experiment, []).append(group)
    return found


def _contents(groups: Iterable[Group]) -> str:
    """Returns the table of experiments: what they are, their seeds and their time."""
    lines = [
        {
            "Experiment": _name(group),
            "What it is": group.first.config["title"],
            "Seeds": ", ".join(map(str, group.seeds)),
            "Time, all seeds": duration(
                sum(sum(r.status["stage_seconds"].values()) for r in group.runs)
            ),
        }
        for group in groups
    ]
    frame = pd.DataFrame(lines)
    return _markdown(Table("", "", frame, frame, names=3))


def _section(groups: Sequence[Group], words: str, page: Page) -> Iterator[str]:
    """Yields the section of an experiment: words first, then each group's figures."""
    first = groups[0].first
    titles = list(dict.fromkeys(group.first.config["title"] for group in groups))
    title = f": {titles[0]}" if len(titles) == 1 and titles[0] else ""
    yield f"## {first.experiment}{title}\n"
    if first.purpose:
        yield f"{first.purpose}\n"
    yield f"### What it says\n\n{words.strip() or _NO_WORDS}\n"
    if together := [*side_by_side(groups)]:
        tables = "\n".join(map(_markdown, together))
        yield f"### Side by side\n\n{tables}"
    for place, group in enumerate(groups):
        level = "###"
        if len(groups) > 1:
            level = "####"
            yield f"### {_name(group)}, {place + 1} of {len(groups)}\n"
            yield from _differing(group, groups[:place])
        yield from _figures(group, level, page)


def _differing(group: Group, before: Sequence[Group]) -> Iterator[str]:
    """Yields on what a group differs from the one before it, if that bears its name."""
    same = before and before[-1].first.argument == group.first.argument
    if same and (found := differences(group, before[-1])):
        phrases = "\n".join(f"* `{phrase}`" for phrase in found)
        yield f"Not averaged with the one above, from which it differs:\n\n{phrases}\n"


def _figures(group: Group, level: str, page: Page) -> Iterator[str]:
    """Yields how a group's runs were made, and what they measured."""
    yield f"{level} How it was run\n"
    # Calls that differ in what no result depends on are one command.
    commands = "\n".join(
        dict.fromkeys(
            command_line(command, run.name, run.config)
            for run in group.runs
            for command in provenance.commands_of(run.computed)
        )
    )
    yield f"```\n{commands}\n```\n"
    yield _markdown(facts_table(group))
    yield _folded("Time of each stage", [times_table(group)])
    for passage in _passages(group, page):
        yield f"{level} {passage.heading}\n"
        yield from map(_markdown, passage.tables)
        for words, tables in passage.folded.items():
            yield _folded(words, tables)


def _passages(group: Group, page: Page) -> Iterator[Passage]:
    """Yields what was found, and after the first of it what sources say of the like."""
    first, *rest = EVERY
    yield from first.results(group)
    frames = group.frames("results.csv", evaluation.read_results)
    if frames:
        beside = beside_table(
            group.averaged(frames, ends=True),
            trained_config(group.first),
            interval=ends_of(group),
            published=page.published,
        )
        if beside is not None:
            yield Passage("Beside published figures", [beside])
    for finding in rest:
        yield from finding.results(group)


def _folded(words: str, tables: Iterable[Table]) -> str:
    inside = "\n".join(map(_markdown, tables))
    return f"<details><summary>{words}</summary>\n\n{inside}\n</details>\n"


def _published(page: Page) -> Iterator[str]:
    """Yields the figures of each source, whether ours stand beside them or not."""
    if page.sources:
        yield "## Sources\n"
    for name, words in page.sources.items():
        own = [figure for figure in page.published if figure.source == name]
        yield f"**{name}**: {words}.\n"
        yield _folded(f"Its figures ({len(own)})", [published_table(own)])


def _name(group: Group) -> str:
    run = group.first
    return f"{run.experiment}:{run.argument}" if run.argument else run.experiment


def _markdown(table: Table) -> str:
    """Returns a table with its caption, if it has one; sentences as a list."""
    text = to_markdown(table) if not table.prose else _list(table)
    return text.lstrip("\n")


def _list(table: Table) -> str:
    """Returns a table whose last column holds sentences as a list of these."""
    rows = table.text.map(escape_markdown).to_numpy().tolist()
    points = (f"* {', '.join(filter(None, names))}: {told}" for *names, told in rows)
    return "\n".join([markdown_caption(table), "", *points, ""])
