"""Accuracy in every column under every attack, and the worst case over them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robust_manifold import data, defenses, evaluation
from robust_manifold.config import Column
from robust_manifold.findings import columns
from robust_manifold.findings.accuracy_tables import (
    adversaries_table,
    alone_table,
    cost_table,
    every_table,
    headline_table,
    paper_tables,
    tells_alone,
)
from robust_manifold.findings.finding import Finding, Passage, Shown, Words
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import Table, figures, html, tables
from robust_manifold.reporting.columns import column_of
from robust_manifold.reporting.labels import (
    CLEAN,
    adversary_label,
    in_prose,
    name_label,
)
from robust_manifold.reporting.tables import is_single, lines_of
from robust_manifold.reporting.wide import turned
from robust_manifold.runtime import console
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table import substitutes
from robust_manifold.stages.table.defended import predictions_of
from robust_manifold.stages.table.rounds import read_rounds
from robust_manifold.stages.table.rows import (
    SUBSTITUTE,
    Row,
    adversarial_folder,
    adversaries_of,
    outcome_folder,
    rows_of,
)

RESULTS, WORST_CASES = "results.csv", "worst_cases.csv"

_LINES = 7
"""Curves of one panel that colours tell apart."""


def find(context: Context) -> list[str]:
    """Writes `results.csv`, which ends with the worst cases, and `worst_cases.csv`."""
    block = context.experiment.evaluation
    measured = [
        cell_of(context, column, row)
        for column in block.columns
        for row in rows_of(column, block)
    ]
    cells, outcomes = ([*each] for each in zip(*measured, strict=True))
    worst = [
        cell
        for cell in evaluation.worst_cases(outcomes, confidence=block.confidence)
        if cell.adversary == evaluation.WORST_CASE
    ]
    lines = evaluation.adversary_lines(outcomes, confidence=block.confidence)
    context.folder.write_text(RESULTS, evaluation.to_csv([*cells, *worst]))
    context.folder.write_text(WORST_CASES, evaluation.adversary_lines_to_csv(lines))
    return [RESULTS, WORST_CASES]


def cell_of(
    context: Context, column: Column, row: Row
) -> tuple[evaluation.Cell, evaluation.Outcome]:
    """Returns a cell by its stored rounds, and the same as worst cases need it."""
    outcomes = read_rounds(context, outcome_folder(column, row))
    broken = int(np.sum(np.isnan(outcomes["logits"]).any(axis=-1)))
    if broken:
        console.warning(
            f"{broken} of {len(outcomes['labels'])} images got no finite logits from "
            f"{column.text} under {row.name}; they count as wrong."
        )
    seconds = float(outcomes["seconds"])
    measured: dict[str, Any] = {}
    sizes: dict[str, np.ndarray] = {}
    if row.adversary == SUBSTITUTE:
        measured["label_queries"] = substitutes.stored(context, row.target)["queries"]
    if row.attack is not None:
        crafted = read_rounds(context, adversarial_folder(row))
        clean = data.to_float(context.data.test.images)
        norms = evaluation.perturbation_norms(clean, crafted["images"])
        # An attack that found nothing may say that its distance is not finite.
        sizes = norms._asdict() | {row.attack.norm: crafted["distance"]}
        seconds += float(crafted["seconds"])
        measured |= {
            "norm": row.attack.norm,
            "epsilon": row.budget,
            "success": crafted["success"],
            "distances": crafted["distance"],
            "l2": norms.l2,
            "linf": norms.linf,
            "forwards": crafted["forwards"],
            "backwards": crafted["backwards"],
        }
    attacked = row.attack is not None
    predictions = predictions_of(column, outcomes, attacked=attacked)
    cell = evaluation.summarise(
        classifier=trained.column_classifier(context, column),
        defence=defenses.registry.to_string(column.defence),
        adversary=row.adversary,
        attack=row.name,
        labels=outcomes["labels"],
        predictions=predictions,
        errors=outcomes.get("error"),
        seconds=seconds,
        confidence=context.experiment.evaluation.confidence,
        **measured,
    )
    return cell, evaluation.Outcome(
        classifier=cell.classifier,
        defence=cell.defence,
        adversary=cell.adversary,
        attack=cell.attack,
        right=predictions == outcomes["labels"],
        norm=row.attack.norm if row.attack else "",
        epsilon=cell.epsilon,
        sizes=sizes,
    )


def _show(context: Context) -> Shown:
    results = _results_of(context)
    confidence = context.experiment.evaluation.confidence
    attacked = context.experiment.evaluation.attacked
    large = is_large(context)
    return Shown(
        [*_tables(context, results)],
        folded=[every_table(results, confidence=confidence)] if large else [],
        aside=[cost_table(results)] if attacked else [],
        figures=[*_worst_case_figures(results), *_attack_figures(context, results)],
    )


def is_large(context: Context) -> bool:
    """Returns whether there are more than the attacks of one adversary to show.

    The config tells it: other findings ask who may be there without this one.
    """
    block = context.experiment.evaluation
    return len(block.classifiers) > 1 or len(adversaries_of(block)) > 1


def _results_of(context: Context) -> pd.DataFrame:
    return evaluation.read_results(context.folder.read_text(RESULTS))


def _tables(context: Context, results: pd.DataFrame) -> Iterator[tables.Table]:
    """Yields the headline, then who broke what; of one adversary every attack."""
    confidence = context.experiment.evaluation.confidence
    worst = _has_worst_cases(results)
    if worst:
        yield headline_table(results, confidence=confidence)
    if not is_large(context):
        yield from paper_tables(results, confidence=confidence)
    elif worst:
        lines = evaluation.read_adversary_lines(context.folder.read_text(WORST_CASES))
        yield adversaries_table(lines, confidence=confidence)
        if tells_alone(lines):
            yield alone_table(lines)


def _worst_case_figures(
    results: pd.DataFrame,
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields worst-case accuracy against ε, where there is one."""
    if _has_worst_cases(results):
        yield (
            "worst-case",
            html.ReportFigure(
                tables.with_threat(
                    "Worst-case accuracy against ε", tables.lines_of(results)
                ),
                "An image counts if it is right untouched and under every stored "
                "attack of every adversary inside the budget. Bands are the Wilson "
                "intervals of the table.",
                figures.to_png(figures.worst_case_curves(results)),
            ),
        )


def _attack_figures(
    context: Context, results: pd.DataFrame
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields accuracy against ε, attack by attack."""
    attacked = tables.lines_where(results, tables.is_single)
    names = map(adversary_label, adversaries_of(context.experiment.evaluation))
    told = "; ".join(map(in_prose, names))
    for name, title, part in _parts(context, attacked):
        if np.isfinite(part["epsilon"].to_numpy()).any():
            yield (
                name,
                html.ReportFigure(
                    tables.with_threat(title, tables.lines_of(part)),
                    "Bands are the Wilson intervals of the table. Adversaries: "
                    f"{told}.",
                    figures.to_png(figures.accuracy_curves(part)),
                ),
            )


def _parts(
    context: Context, results: pd.DataFrame
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yields what one figure can show: all lines, or else those of a column each."""
    title = "Accuracy against ε"
    attacked = [row for row in tables.lines_of(results) if row.attack != CLEAN]
    if len({(r.classifier, r.defence, r.adversary) for r in attacked}) <= _LINES:
        yield "accuracy", title, results
        return
    for column in context.columns:
        of = columns.texts_of(context, column)
        own = tables.lines_where(results, lambda row, of=of: column_of(row) == of)
        name = f"accuracy-{columns.file_of(column)}"
        yield name, f"{title}: {columns.title_of(column)}", own


def _has_worst_cases(results: pd.DataFrame) -> bool:
    return not all(map(tables.is_single, tables.lines_of(results)))


def _is_large(results: pd.DataFrame) -> bool:
    """Returns whether there are more than the attacks of one adversary to show."""
    known = [row for row in tables.lines_of(results) if tables.is_single(row)]
    adversaries = {row.adversary for row in known if row.attack != CLEAN}
    return len({row.classifier for row in known}) > 1 or len(adversaries) > 1


def _recorded(group: Group) -> Iterator[Passage]:
    """Yields accuracies by row and column."""
    frames = group.frames(RESULTS, evaluation.read_results)
    if not frames:
        return
    shown, folded = _accuracy_tables(group, frames)
    if len(frames) > 1:
        shown = [_averaged(table, group) for table in shown]
        folded = {
            words: [_averaged(table, group) for table in tables]
            for words, tables in folded.items()
        }
        for run, frame in zip(group.with_file(RESULTS), frames, strict=True):
            own = every_table(frame, confidence=group.confidence)
            folded[f"Seed {run.seed} alone, with its Wilson intervals"] = [own]
    folded = {words: [*map(turned, tables)] for words, tables in folded.items()}
    yield Passage("Accuracy", [*map(turned, shown)], folded)


def _accuracy_tables(
    group: Group, frames: Sequence[pd.DataFrame]
) -> tuple[list[Table], dict[str, list[Table]]]:
    """Returns the tables of accuracy that are shown, and those behind a fold."""
    results, confidence = group.averaged(frames), group.confidence
    shown, folded = [], {}
    if not all(map(is_single, lines_of(results))):
        shown.append(headline_table(results, confidence=confidence))
    if not _is_large(results):
        return [*shown, *paper_tables(results, confidence=confidence)], folded
    lines = group.frames(WORST_CASES, evaluation.read_adversary_lines)
    # Of a run without attacks the frames are empty.
    if any(len(each) for each in lines):
        shown.append(adversaries_table(group.averaged(lines), confidence=confidence))
    every = every_table(results, confidence=confidence)
    folded["Every attack of every adversary"] = [every]
    if len(lines) == 1 and len(lines[0]) and tells_alone(lines[0]):
        folded["Who breaks what alone"] = [alone_table(lines[0])]
    return shown, folded


def _averaged(table: Table, group: Group) -> Table:
    """Returns a table of means over seeds with a caption that says so."""
    words = f"with its {group.wilson}"
    return table._replace(caption=table.caption.replace(words, f"as {group.interval}"))


class Evaluated(NamedTuple):
    """What the columns of a report's tables are, by the labels of their defences.

    Attributes:
      projecting: defences that classify a projection, each once.
      other: other defences.
      bare: whether a column has no defence.
      attacked: whether there is an attack.
    """

    projecting: Sequence[str] = ()
    other: Sequence[str] = ()
    bare: bool = True
    attacked: bool = True


def opening(evaluated: Evaluated) -> Words:
    """Returns the heading and the explanation of a report with these columns."""
    classifiers = "Classifiers under attack" if evaluated.attacked else "Classifiers"
    heading = _and([*evaluated.projecting, *evaluated.other]) or classifiers
    return Words(heading, " ".join(_sentences(evaluated)))


def _evaluated(context: Context) -> Evaluated:
    """Returns what the columns of the tables are."""
    defended = [column for column in context.columns if not column.bare]
    names = {
        projects: list(
            dict.fromkeys(
                name_label(defenses.registry.name_of(column.defence))
                for column in defended
                if column.projects is projects
            )
        )
        for projects in (True, False)
    }
    return Evaluated(
        projecting=names[True],
        other=names[False],
        bare=len(defended) < len(context.columns),
        attacked=context.experiment.evaluation.attacked,
    )


def _sentences(evaluated: Evaluated) -> list[str]:
    """Returns what a report of columns shows."""
    sentences = []
    if names := evaluated.projecting:
        one = len(names) == 1
        sentences.append(
            f"{_and(names)} {'replaces' if one else 'replace'} an image x by its "
            "projection G(z*), the nearest image that the generator G was found to "
            f"make, and {'classifies' if one else 'classify'} the projection."
        )
    defended = bool(evaluated.projecting or evaluated.other)
    images = "on clean and on adversarial images"
    if not evaluated.attacked:
        images = "on clean images"
    columns = "with and without a defence"
    if not (defended and evaluated.bare):
        columns = "behind a defence" if defended else "of classifiers without a defence"
    sentences.append(f"The tables give the accuracy {images}, {columns}.")
    if evaluated.attacked and defended:
        sentences.append(
            "Their captions say what the attacks were allowed to see: accuracy under "
            "an attack that does not know the defence is no evidence of robustness "
            "against one that does."
        )
    elif evaluated.attacked:
        sentences.append(
            "Accuracy under the attacks that were made is no proof of robustness: a "
            "stronger one may leave less."
        )
    return sentences


def _and(names: Sequence[str]) -> str:
    """Returns names as a sentence lists them."""
    *first, last = names or [""]
    return f"{', '.join(first)} and {last}" if first else last


FINDING = Finding(
    name="accuracy",
    after="evaluate",
    find=find,
    writes=(RESULTS, WORST_CASES),
    recorded=(RESULTS, WORST_CASES),
    show=_show,
    results=_recorded,
    words=lambda context: opening(_evaluated(context)),
)
