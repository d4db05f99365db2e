"""The Markdown pages of results: a pure function of runs and of texts about them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from robust_manifold import evaluation
from robust_manifold.findings import EVERY, Group, Passage
from robust_manifold.reporting import Table, to_markdown
from robust_manifold.reporting.tables import escape_markdown, markdown_caption
from robust_manifold.results.beside import beside_table, published_table
from robust_manifold.results.command_lines import command_line
from robust_manifold.results.facts import ends_of, facts_table, times_table
from robust_manifold.results.front import front_columns, front_table
from robust_manifold.results.groups import differences
from robust_manifold.results.origins import trained_config
from robust_manifold.results.page import Page
from robust_manifold.results.side_by_side import side_by_side, union_picture
from robust_manifold.runtime import provenance
from robust_manifold.runtime.progress import duration

FRONT = "results.md"
SOURCES = "results/sources.md"
PICTURE = "images/worst_cases.png"
_PICTURED = "What attacks leave of each defence, without knowing of it and knowing it"
_UNIONS = "Accuracy in each ball and in unions of them, by column"
MARK = "<!-- Made by python -m robust_manifold.results. -->\n"
"""How each page begins, so that no other file is taken for one."""
_MADE = """\
Made by `python -m robust_manifold.results` from the [records](results/records). Only
the words in `docs/results/words` are written by hand.

Accuracy counts images that are classified right; a worst case counts those that are
right untouched and under every stored attack inside the budget. Budgets are on pixels
in [0, 1], norms plain over all pixels. An oblivious adversary does not know of the
defence: what stands under it is no evidence against one that does.
"""
_NOTHING = Page()
_NO_WORDS = "Nothing has been written about this experiment yet."
_FOLDED = 60
"""Lines of tables that a page shows behind one fold."""


def pages(
    groups: Sequence[Group], texts: Mapping[str, str], page: Page = _NOTHING
) -> dict[str, str]:
    """Returns the pages by their files, relative to the folder of documents.

    The front page comes first; then each experiment has one, and each of its arguments
    if there are several; last are the sources of published figures.

    Args:
      groups: in the order of the pages; see `group_runs`.
      texts: what was written by hand, by the name of an experiment; "front" is that of
        the front page.
      page: published figures, where they come from, and what the front page shows.
    """
    experiments = _by_experiment(groups)
    parts = {FRONT: _front(experiments, texts, page)}
    for name, own in experiments.items():
        files = _files(own)
        words = texts.get(name, "")
        parts[f"results/{name}.md"] = _page(own, files, words, page)
        if len(own) > 1:
            for place, (file, group) in enumerate(zip(files, own, strict=True)):
                parts[f"results/{file}"] = _alone(group, own[:place], page)
    if page.sources:
        parts[SOURCES] = _published(page)
    return {name: "\n".join([MARK, *own]) for name, own in parts.items()}


def picture_of_unions(experiment: str) -> str:
    """Returns the file of the figure of unions of an experiment's page."""
    return f"images/{experiment}_unions.png"


def _files(groups: Sequence[Group]) -> list[str]:
    """Returns the file of each group of an experiment that has several."""
    files: list[str] = []
    for group in groups:
        run = group.first
        name = run.name.removesuffix(f"-{run.seed}")
        again = sum(file.startswith(f"{name}.") for file in files)
        own = f".{again + 1}" if again or not run.argument else ""
        files.append(f"{name}{own}.md")
    return files


def _front(
    experiments: Mapping[str, Sequence[Group]], texts: Mapping[str, str], page: Page
) -> Iterator[str]:
    """Yields the front page: what was found, and where it stands."""
    yield "# Results\n"
    if words := texts.get("front", "").strip():
        yield f"{words}\n"
    groups = [group for own in experiments.values() for group in own]
    if columns := front_columns(groups, page.front):
        yield f"## The worst case\n\n![{_PICTURED}]({PICTURE})\n"
        yield _markdown(front_table(columns))
    yield "## Experiments\n"
    for name, own in experiments.items():
        yield f"### [{name}](results/{name}.md){_title(own)}\n"
        first, *_ = (texts.get(name, "").strip() or _NO_WORDS).split("\n\n")
        yield f"{first}\n\n{_spent(own)}\n"
    yield f"## How these pages are made\n\n{_MADE}"
    if page.sources:
        yield f"[Sources]({SOURCES}): the published figures that stand beside ours.\n"


def _title(groups: Sequence[Group]) -> str:
    """Returns what follows a name: the title, if all share one."""
    titles = {group.first.config["title"] for group in groups}
    title = titles.pop()
    return f": {title}" if title and not titles else ""


def _spent(groups: Sequence[Group]) -> str:
    """Returns the seeds and the time of an experiment's runs, in a line."""
    seeds = sorted({seed for group in groups for seed in group.seeds})
    runs = [run for group in groups for run in group.runs]
    spent = sum(sum(run.status["stage_seconds"].values()) for run in runs)
    many = f"{len(runs)} runs" if len(runs) > 1 else "1 run"
    named = (
        f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]}"
    )
    return f"*{many}, {named}, {duration(spent)}*"


def _by_experiment(groups: Iterable[Group]) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.first.experiment, []).append(group)
    return found


def _page(
    groups: Sequence[Group], files: Sequence[str], words: str, page: Page
) -> Iterator[str]:
    """Yields an experiment's page: words first, then figures or where they stand."""
    first = groups[0].first
    yield f"# {first.experiment}{_title(groups)}\n"
    if first.purpose:
        yield f"{first.purpose}\n"
    yield f"## What it says\n\n{words.strip() or _NO_WORDS}\n"
    if together := [*side_by_side(groups)]:
        tables = "\n".join(map(_markdown, together))
        yield f"## Side by side\n\n{tables}"
        if union_picture(groups) is not None:
            yield f"![{_UNIONS}](../{picture_of_unions(first.experiment)})\n"
    if len(groups) == 1:
        yield from _figures(groups[0], page)
        return
    yield "## Its runs\n"
    yield from (
        f"* [{_name(group)}]({file}), {_spent([group]).strip('*')}"
        for file, group in zip(files, groups, strict=True)
    )
    yield ""


def _alone(group: Group, before: Sequence[Group], page: Page) -> Iterator[str]:
    """Yields the page of one group of several of an experiment."""
    run = group.first
    yield f"# {_name(group)}{_title([group])}\n"
    yield f"[{run.experiment}]({run.experiment}.md) has what it says.\n"
    yield from _differing(group, before)
    yield from _figures(group, page)


def _differing(group: Group, before: Sequence[Group]) -> Iterator[str]:
    """Yields on what a group differs from the one before it, if that bears its name."""
    same = before and before[-1].first.argument == group.first.argument
    if same and (found := differences(group, before[-1])):
        phrases = "\n".join(f"* `{phrase}`" for phrase in found)
        yield f"Not averaged with the one above, from which it differs:\n\n{phrases}\n"


def _figures(group: Group, page: Page) -> Iterator[str]:
    """Yields how a group's runs were made, and what they measured."""
    yield "## How it was run\n"
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
    yield _folded("Time of each stage", [times_table(group)], group)
    for passage in _passages(group, page):
        yield f"## {passage.heading}\n"
        yield from map(_markdown, passage.tables)
        for words, tables in passage.folded.items():
            yield _folded(words, tables, group)


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


def _folded(words: str, tables: Sequence[Table], group: Group) -> str:
    """Returns tables behind a fold, as many as a page has room for."""
    shown, lines = [], 0
    for table in tables:
        lines += len(table.text)
        if shown and lines > _FOLDED:
            break
        shown.append(table)
    inside = "\n".join(map(_markdown, shown))
    if left := len(tables) - len(shown):
        more = f"{left} tables more are" if left > 1 else "1 table more is"
        names = ", ".join(f"[{run.name}](records/{run.name})" for run in group.runs)
        inside += f"\n{more} in the record: {names}.\n"
    return f"<details><summary>{words}</summary>\n\n{inside}\n</details>\n"


def _published(page: Page) -> Iterator[str]:
    """Yields the figures of each source, whether ours stand beside them or not."""
    yield "# Sources\n"
    for name, words in page.sources.items():
        own = [figure for figure in page.published if figure.source == name]
        yield f"## {name}\n\n{words[:1].upper()}{words[1:]}.\n"
        yield _markdown(published_table(own))


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
