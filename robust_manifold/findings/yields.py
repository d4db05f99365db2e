"""What each member of a cascade broke, what survived it, and what its pilot found."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robust_manifold import data, defenses
from robust_manifold.evaluation.cascades import in_order
from robust_manifold.evaluation.cascades.cascade import CARRIED, CLEAN
from robust_manifold.findings import columns
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.judges import SHOWN, sheet
from robust_manifold.findings.recorded import Group
from robust_manifold.findings.yields_tables import (
    FILE,
    YieldLine,
    pilot_table,
    summary_table,
    worked,
    yields_table,
)
from robust_manifold.reporting import ReportFigure, Section, figures
from robust_manifold.reporting.labels import adversary_label, budget_label
from robust_manifold.reporting.tables import lines_of
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.cascading import cascaded, pilot_file
from robust_manifold.stages.table.rounds import read_rounds
from robust_manifold.stages.table.rows import (
    Row,
    adversarial_folder,
    outcome_folder,
    rows,
)

_NOTE = (
    "Members work in turn, each on the images that all before it have left: what one "
    "adds to the others, and at what price. An image that nothing broke may still have "
    "an adversarial one near it."
)


def find(context: Context) -> list[str]:
    """Writes `cascade.csv`: a line for each column, budget and member."""
    lines = [line for row in cascaded(context) for line in _lines(context, row)]
    context.folder.write_text(FILE.name, FILE.to_csv(lines))
    return [FILE.name]


def _lines(context: Context, row: Row) -> Iterator[YieldLine]:
    """Yields what the members did in all rounds of a row, in their order."""
    stored = read_rounds(context, adversarial_folder(row))
    rounds = [json.loads(str(text)) for text in stored["shares"]]
    assert row.attack is not None and row.budget is not None
    for name in in_order([[each["member"] for each in shares] for shares in rounds]):
        own = [each for shares in rounds for each in shares if each["member"] == name]
        yield YieldLine(
            trained.column_classifier(context, row.target),
            defenses.registry.to_string(row.target.defence),
            row.adversary,
            row.attack.norm,
            row.budget,
            name,
            len(stored["ids"]),
            *(
                sum(each[field] for each in own)
                for field in ("images", "broken", "forwards", "backwards", "seconds")
            ),
        )


def _show(context: Context) -> Shown:
    lines = FILE.read(context.folder.read_text(FILE.name))
    pictures = [*_bars(context, lines), *_sheets(context)]
    tried = [*_tried(context)]
    section = Section(
        "The cascade",
        _NOTE,
        [summary_table(lines)],
        [figure for _, figure in pictures],
        folded=[pilot_table(tried)] if tried else [],
        fold="What the pilot tried",
    )
    return Shown(sections=[section], aside=[yields_table(lines)])


def _tried(context: Context) -> Iterator[dict[str, Any]]:
    """Yields what the pilots have stored, line by line."""
    for row in {pilot_file(row): row for row in cascaded(context)}.values():
        for line in context.folder.read_json(pilot_file(row)):
            yield {"column": _title(context, row), **line}


def _title(context: Context, row: Row) -> str:
    """Returns a column in words, and the cascade where there are several."""
    title = columns.title_of(row.target)
    if len({each.adversary for each in cascaded(context)}) > 1:
        return f"{title}, {adversary_label(row.adversary).lower()}"
    return title


def _bars(context: Context, lines: pd.DataFrame) -> Iterator[tuple[str, ReportFigure]]:
    """Yields a picture for each column and cascade: who broke how much."""
    for row in _last_rows(context):
        texts = (*columns.texts_of(context, row.target), row.adversary)
        own = [
            line
            for line in lines_of(lines)
            if (line.classifier, line.defence, line.adversary) == texts
        ]
        members = in_order(
            [[line.member for line in own if worked(line) or line.broken]]
        )
        yields = {
            name: {
                budget_label(line.norm, line.epsilon): line.broken
                for line in own
                if line.member == name
            }
            for name in members
        }
        notes = {
            name: _note([line for line in own if line.member == name])
            for name in members
        }
        picture = figures.yield_bars(yields, notes, axis="images broken first")
        yield (
            f"cascade-{columns.file_of(row.target)}",
            ReportFigure(
                f"Who broke what: {_title(context, row)}",
                "Members in their order, over all budgets; at the end of a bar the "
                "images that a member was given and its gradients for each of them.",
                figures.to_png(picture),
            ),
        )


def _note(lines: Sequence[Any]) -> str:
    given = sum(line.images for line in lines)
    broken = sum(line.broken for line in lines)
    if lines[0].member in (CLEAN, CARRIED):
        return f"{broken:,}"
    gradients = sum(line.backwards for line in lines) / max(1, given)
    return f"{broken:,} of {given:,}, {gradients:,.0f} gradients"


def _last_rows(context: Context) -> list[Row]:
    """Returns the last row of each column and cascade."""
    every = cascaded(context)
    return list({(row.target, row.adversary): row for row in every}.values())


def _sheets(context: Context) -> Iterator[tuple[str, ReportFigure]]:
    """Yields for each column who survived its hardest row, and who fell last in it."""
    for last in _last_rows(context):
        own = [
            row
            for row in cascaded(context)
            if (row.target, row.adversary) == (last.target, last.adversary)
        ]
        stored = {row: read_rounds(context, adversarial_folder(row)) for row in own}
        standing = [row for row in own if (stored[row]["rate"] < 1).any()]
        # The hardest that left some.
        row = min(standing or own[:1], key=lambda row: np.sum(stored[row]["rate"] < 1))
        found = stored[row]
        left = np.flatnonzero(found["rate"] < 1)
        left = left[np.argsort(-found["margin"][left], kind="stable")]
        if len(left):
            told = [f"margin {found['margin'][place]:.2f}" for place in left]
            yield _sheet(context, row, found, left, told, "What nothing broke")
        order = [line.member for line in _lines(context, row)]
        ranks = np.array([order.index(name) for name in found["member"]])
        fallen = np.flatnonzero((found["rate"] >= 1) & (ranks > 0))
        fallen = fallen[np.argsort(-ranks[fallen], kind="stable")]
        if len(fallen):
            told = [str(found["member"][place]) for place in fallen]
            yield _sheet(context, row, found, fallen, told, "What broke last")


def _sheet(
    context: Context,
    row: Row,
    found: dict[str, np.ndarray],
    places: np.ndarray,
    told: Sequence[str],
    heading: str,
) -> tuple[str, ReportFigure]:
    """Returns a sheet of test images beside the worst that was made of them."""
    places = places[:SHOWN]
    clean = rows(context.experiment.evaluation)[0]
    images = [data.to_float(context.data.test.images[places]), found["images"][places]]
    logits = [
        read_rounds(context, outcome_folder(row.target, each))["logits"][places]
        for each in (clean, row)
    ]
    assert row.attack is not None
    budget = budget_label(row.attack.norm, row.budget)
    name = heading.lower().replace(" ", "-")
    return (
        f"{name}-{columns.file_of(row.target)}",
        ReportFigure(
            f"{heading}, {budget}: {_title(context, row)}",
            "Left the test image, right the worst that was made of it; under each the "
            "class that the column gives it and its probability, then their distance "
            + (
                "and how far the label's logit is still ahead, from the least on."
                if "nothing" in name
                else "and who broke it, the last first."
            ),
            sheet(
                context,
                np.stack(images, 1),
                np.stack(logits, 1),
                found["distance"][places],
                np.array(told[: len(places)]),
            ),
        ),
    )


def _results(group: Group) -> Iterator[Passage]:
    """Yields what the members did, behind a fold for each seed."""
    shown, folded = [], {}
    for run in group.with_file(FILE.name):
        lines = run.lines(FILE.name, FILE.read)
        seed = f", seed {run.seed}" if len(group.runs) > 1 else ""
        folded[f"What each member broke{seed}"] = [
            summary_table(lines)._replace(prose=False),
            yields_table(lines),
        ]
    if folded:
        yield Passage("The cascade", shown, folded)


FINDING = Finding(
    name="yields",
    after="evaluate",
    wanted=lambda experiment: experiment.evaluation.worst_case is not None,
    find=find,
    writes=(FILE.name,),
    recorded=(FILE.name,),
    show=_show,
    results=_results,
)
