"""Whether images found in the generator's range still read as one class.

The adversary `latent` may walk from one digit to another, and an image that has become
a seven is no adversarial example of a one.  Judges that know nothing of the attacked
classifier tell.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from robust_manifold import data, evaluation
from robust_manifold.config import Column, EvaluationBlock
from robust_manifold.core.errors import UsageError
from robust_manifold.findings import columns
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.judges import (
    SHOWN,
    asked,
    judges_of,
    shares,
    sheet,
    told,
)
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import (
    ReportFigure,
    Section,
)
from robust_manifold.reporting.columns import target_labels
from robust_manifold.reporting.labels import adversary_label, budget_label
from robust_manifold.reporting.tables import Table
from robust_manifold.stages import Context
from robust_manifold.stages.table.defended import predictions_of
from robust_manifold.stages.table.evaluate import images_of
from robust_manifold.stages.table.rounds import read_rounds
from robust_manifold.stages.table.rows import (
    LATENT,
    Row,
    adversarial_folder,
    kind_of,
    outcome_folder,
    rows_of,
)

SUMMARY = "on_manifold.json"
_NOTE = (
    "The latent adversary moves a latent, and with it the generator's image or the "
    "nearest image to that inside the budget, until the projection reads as another "
    "class. But the generator makes every "
    "class, and a large budget leads from one to another: whether an image that the "
    "classifier gets wrong still shows what it showed is asked of judges."
)


def find(context: Context) -> list[str]:
    """Writes `on_manifold/...` for each row of the latent adversary, and a summary."""
    lines = [
        _judged(context, column, row, judges_of(context, column.classifier))
        for column, row in _rows(context.experiment.evaluation)
    ]
    context.folder.write_json(SUMMARY, lines)
    return [SUMMARY, *(_file(row) for _, row in _rows(context.experiment.evaluation))]


def _file(row: Row) -> str:
    """Returns where the verdicts on a row's images lie."""
    return f"on_manifold/{row.folder}.npz"


def _judged(
    context: Context, column: Column, row: Row, judges: list[evaluation.Judge]
) -> dict[str, Any]:
    """Stores the verdicts on the images that a row breaks, and returns their line."""
    clean = rows_of(column, context.experiment.evaluation)[0]
    before, after = (
        read_rounds(context, outcome_folder(column, each)) for each in (clean, row)
    )
    labels = after["labels"]
    broken = predictions_of(column, before, attacked=False) == labels
    broken &= predictions_of(column, after, attacked=True) != labels
    places = np.flatnonzero(broken)
    images = data.to_float(context.data.test.images[places])
    found = read_rounds(context, adversarial_folder(row))["images"][places]
    assert row.attack is not None
    line: dict[str, Any] = {
        "column": column.text,
        "adversary": row.adversary,
        "norm": row.attack.norm,
        "epsilon": row.budget,
        "n": len(labels),
        "broken": len(places),
        "judges": [],
    }
    verdicts = np.empty(0, str)
    if len(places):
        confidence = context.experiment.evaluation.confidence
        judgement = evaluation.judge_pairs(judges, images, found, confidence=confidence)
        verdicts = judgement.verdicts[evaluation.TOGETHER]
        line["judges"] = told(judgement)
    context.folder.write_npz(
        _file(row), {"places": places, "verdicts": verdicts.astype("U16")}
    )
    return line


def _rows(evaluation: EvaluationBlock) -> Iterator[tuple[Column, Row]]:
    """Yields the columns and rows of the latent adversary."""
    for column in evaluation.columns:
        for row in rows_of(column, evaluation):
            if kind_of(row.adversary) == LATENT:
                yield column, row


def _show(context: Context) -> Shown:
    """Returns the section of the report."""
    lines = context.folder.read_json(SUMMARY)
    confidence = context.experiment.evaluation.confidence
    table = on_manifold_table(lines, confidence=confidence)
    figures = list(_figures(context))
    return Shown(sections=[Section("On the manifold", _NOTE, [table], figures)])


def _results(group: Group) -> Iterator[Passage]:
    if tables := [*group.tables_by_seed(SUMMARY, on_manifold_table)]:
        yield Passage("On the manifold: changes of class", tables)


def _figures(context: Context) -> Iterator[ReportFigure]:
    """Yields a sheet of pairs for each column: of its last row that broke images."""
    last: dict[Column, Row] = {}
    for column, row in _rows(context.experiment.evaluation):
        if len(context.folder.read_npz(_file(row))["places"]):
            last[column] = row
    for column, row in last.items():
        yield _sheet(context, column, row)


def _sheet(context: Context, column: Column, row: Row) -> ReportFigure:
    clean = rows_of(column, context.experiment.evaluation)[0]
    stored = context.folder.read_npz(_file(row))
    places = stored["places"]
    verdicts = stored["verdicts"]
    chosen = places[:SHOWN]
    images = np.stack([images_of(context, each)[chosen] for each in (clean, row)], 1)
    logits = np.stack(
        [
            read_rounds(context, outcome_folder(column, each))["logits"][chosen]
            for each in (clean, row)
        ],
        1,
    )
    assert row.attack is not None
    norms = evaluation.perturbation_norms(images[:, 0], images[:, 1])
    distances = getattr(norms, row.attack.norm)
    budget = budget_label(row.attack.norm, row.budget)
    counts = {
        name: int(np.sum(verdicts == name)) for name in dict.fromkeys(verdicts.tolist())
    }
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    title = columns.title_of(column)
    return ReportFigure(
        f"Test images and what was found near them, {budget}: {title}",
        "Left the test image, right what the search over latents found near it; "
        "under each the class that the defended classifier gives it and its "
        "probability, then their distance and the judges' verdict. Verdicts on all "
        f"{len(places):,} such pairs: {told}.",
        sheet(context, images, logits, distances, verdicts),
    )


def on_manifold_table(
    lines: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns what a search in the generator's range broke, and whether it counts.

    Args:
      lines: what on_manifold.json holds: each with the "column" and "adversary" as a
        config writes them, "norm", "epsilon", the numbers "n" and "broken", and
        "judges": each with its name "judge", a "verdict", the "pairs" and "n" of all
        pairs, their "share" and its "interval".
      confidence: coverage of the intervals in `lines`, for the caption.

    Raises:
      UsageError: for no lines.
    """
    if not lines:
        raise UsageError("lines hold 0 searches; allowed: 1 or more.")
    texts = list(dict.fromkeys(line["column"] for line in lines))
    names = dict(zip(texts, target_labels(texts), strict=True))
    heads = {
        "Defence": [names[line["column"]] for line in lines],
        "Adversary": [adversary_label(line["adversary"]) for line in lines],
        "Budget": [budget_label(line["norm"], line["epsilon"]) for line in lines],
        "Broken": [f"{line['broken']:,} of {line['n']:,}" for line in lines],
    }
    heads |= shares(lines)
    judges = ", ".join(asked(lines)) or "none was asked"
    if len(set(heads["Adversary"])) == 1:
        del heads["Adversary"]
    caption = (
        "Broken: right before, wrong after. "
        "Still one class, another class: share of the broken ones of which all judges "
        f"say so, with its {100 * confidence:g} % Wilson interval; of the rest they "
        f"are unsure or disagree. Judges: {judges}. "
        "What reads as another class is no adversarial example: the classifier may be "
        "right."
    )
    numbers = pd.DataFrame(
        [
            {**{k: v for k, v in line.items() if k != "judges"}, **_counts(line)}
            for line in lines
        ]
    )
    names_of = list(heads).index("Broken")
    title = "Images found by a search over latents"
    return Table(title, caption, pd.DataFrame(heads), numbers, names=names_of)


def _counts(line: Mapping[str, Any]) -> dict[str, int]:
    return {f"{j['judge']} {j['verdict']}": j["pairs"] for j in line["judges"]}


FINDING = Finding(
    name="on_manifold",
    after="evaluate",
    wanted=lambda experiment: any(_rows(experiment.evaluation)),
    find=find,
    writes=(SUMMARY, "on_manifold/"),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
)
