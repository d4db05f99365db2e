"""Errors of a regression in every column under every attack, and their worst case."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from robust_manifold import data, defenses, evaluation
from robust_manifold.config import Column
from robust_manifold.data.targets import Quantity
from robust_manifold.evaluation.errors import TAIL, largest_errors
from robust_manifold.evaluation.worst_case import Budget, Outcome, budgets_of
from robust_manifold.findings import columns
from robust_manifold.findings.finding import Finding, Passage, Shown, Words
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import Table, figures, html
from robust_manifold.reporting.columns import ColumnTexts, column_heads, column_of
from robust_manifold.reporting.labels import (
    CLEAN,
    NO_DEFENCE,
    WORST_CASE,
    adversary_label,
    attack_label,
    budget_label,
    in_prose,
)
from robust_manifold.reporting.tables import (
    MISSING,
    images_text,
    lines_of,
    oblivious_only,
    with_threat,
)
from robust_manifold.runtime import console
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table.cascading import cascaded
from robust_manifold.stages.table.evaluate import images_of
from robust_manifold.stages.table.rounds import read_rounds
from robust_manifold.stages.table.rows import (
    Row,
    adversarial_folder,
    outcome_folder,
    rows_of,
)

ERRORS, MEMBERS = "errors.csv", "largest.json"


class Measure(NamedTuple):
    """One number of an error's line, and how a table writes it."""

    title: str
    words: str
    text: Callable[[Any, str], str]
    fields: tuple[str, ...]


def find(context: Context) -> list[str]:
    """Writes `errors.csv`, which ends with the worst cases, and `largest.json`."""
    block = context.experiment.evaluation
    lines, every = [], []
    for column in block.columns:
        for row in rows_of(column, block):
            line, outcome, errors = _measured(context, column, row)
            lines.append(line)
            every.append((outcome, errors))
    lines += evaluation.worst_errors(
        every, bound=block.bound, confidence=block.confidence
    )
    context.folder.write_text(ERRORS, evaluation.errors_to_csv(lines))
    context.folder.write_json(MEMBERS, [*_members(context)])
    return [ERRORS, MEMBERS]


def errors_of(context: Context, column: Column, row: Row) -> np.ndarray:
    """Returns the errors of a column on the images of a row, by its stored rounds."""
    outcomes = read_rounds(context, outcome_folder(column, row))
    period = getattr(context.experiment.wants, "period", 0.0)
    return evaluation.absolute_errors(outcomes["logits"], outcomes["labels"], period)


def _measured(
    context: Context, column: Column, row: Row
) -> tuple[evaluation.ErrorLine, Outcome, np.ndarray]:
    """Returns the line of a row in a column, and what worst cases need of it."""
    block, errors = context.experiment.evaluation, errors_of(context, column, row)
    broken = int(np.sum(np.isinf(errors)))
    if broken:
        console.warning(
            f"{broken} of {len(errors)} images got no finite output from {column.text} "
            f"under {row.name}; their errors count as infinite."
        )
    texts = {
        "classifier": trained.column_classifier(context, column),
        "defence": defenses.registry.to_string(column.defence),
        "adversary": row.adversary,
        "attack": row.name,
    }
    seconds = float(read_rounds(context, outcome_folder(column, row))["seconds"])
    sizes: dict[str, np.ndarray] = {}
    if row.attack is not None:
        crafted = read_rounds(context, adversarial_folder(row))
        seconds += float(crafted["seconds"])
        clean = data.to_float(context.data.test.images)
        norms = evaluation.perturbation_norms(clean, crafted["images"])
        sizes = norms._asdict() | {row.attack.norm: crafted["distance"]}
    norm = row.attack.norm if row.attack else ""
    line = evaluation.summarise_errors(
        errors,
        **texts,
        norm=norm,
        epsilon=row.budget,
        norm_median=float(np.median(sizes[norm])) if norm else None,
        seconds=seconds,
        bound=block.bound,
        confidence=block.confidence,
    )
    right = errors <= block.bound
    outcome = Outcome(**texts, right=right, norm=norm, epsilon=row.budget, sizes=sizes)
    return line, outcome, errors


def _members(context: Context) -> Iterator[dict[str, Any]]:
    """Yields whose images the cascades ended with, and what each image took."""
    for row in cascaded(context):
        stored = read_rounds(context, adversarial_folder(row))
        names, counts = np.unique(stored["member"], return_counts=True)
        order = np.argsort(-counts, kind="stable")
        assert row.attack is not None
        yield {
            "column": row.target.text,
            "adversary": row.adversary,
            "norm": row.attack.norm,
            "epsilon": row.budget,
            "n": len(stored["ids"]),
            "gradients": float(stored["backwards"].mean()),
            "members": {str(names[place]): int(counts[place]) for place in order},
        }


def _spread(value: float, low: float, high: float, unit: str) -> str:
    """Returns an error with its interval: "4.1° [3.6, 4.7]"."""
    top = "∞" if math.isnan(high) or math.isinf(high) else f"{high:.1f}"
    return f"{value:.1f}{unit} [{low:.1f}, {top}]"


def _share(line: Any, unit: str) -> str:
    del unit
    low, high = 100 * line.share_low, 100 * line.share_high
    return f"{100 * line.share:.1f} % [{low:.1f}, {high:.1f}]"


MEASURES = (
    Measure(
        "Mean error",
        "the mean over the images, with the bootstrap's {confidence} % interval",
        lambda line, unit: _spread(line.mean, line.mean_low, line.mean_high, unit),
        ("mean", "mean_low", "mean_high"),
    ),
    Measure(
        f"{100 * TAIL:g}th percentile of the error",
        f"the error that {100 * TAIL:g} % of the images do not exceed, with the "
        "{confidence} % interval between order statistics; ∞: too few images for its "
        "upper end",
        lambda line, unit: _spread(line.tail, line.tail_low, line.tail_high, unit),
        ("tail", "tail_low", "tail_high"),
    ),
    Measure(
        "Images with an error above {bound}",
        "their share, with its {confidence} % Wilson interval",
        _share,
        ("share", "share_low", "share_high"),
    ),
)
"""What tables say of errors, one table each."""


def worst_tables(
    lines: pd.DataFrame, quantity: Quantity, *, confidence: float = 0.95
) -> list[Table]:
    """Returns the worst case by each measure: a row a budget, a column each column.

    Args:
      lines: those of errors.csv.
      quantity: what the numbers are.
      confidence: coverage of the intervals in `lines`, for the captions.
    """
    rows = lines_of(lines)
    attacked = [
        row for row in rows if row.attack != CLEAN and row.adversary != WORST_CASE
    ]
    shown = [row for row in rows if row.attack == CLEAN or row.adversary == WORST_CASE]
    names = dict.fromkeys(row.adversary for row in attacked)
    told = "; ".join(in_prose(adversary_label(name)) for name in names)
    whose = (
        f"{images_text(shown)}: the error of an image is the largest that it has "
        "untouched and under every stored attack of every adversary whose perturbation "
        "of it lies inside the budget, on pixels in [0, 1]. Adversaries: "
        f"{told or 'none'}."
    )
    if oblivious_only(attacked):
        whose += (
            " None of them knew of the defences: behind a defence, this is no evidence "
            "of robustness against one that does."
        )
    heads: dict[str, Callable[[Any], str]] = {
        "Budget": lambda row: budget_label(row.norm, row.epsilon)
    }
    worst = ", worst case" if attacked else ""
    return [
        _grid(
            with_threat(f"{_title(measure, shown, quantity)}{worst}", attacked),
            shown,
            heads,
            measure,
            quantity,
            f"{_words(measure, quantity, confidence)}, {whose}",
        )
        for measure in MEASURES
    ]


def every_table(
    lines: pd.DataFrame, quantity: Quantity, *, confidence: float = 0.95
) -> Table:
    """Returns the mean errors under every attack of every adversary.

    Arguments as for `worst_tables`.
    """
    rows = [row for row in lines_of(lines) if row.adversary != WORST_CASE]
    heads: dict[str, Callable[[Any], str]] = {
        "Budget": lambda row: budget_label(row.norm, row.epsilon),
        "Adversary": lambda row: (
            MISSING if row.adversary == NO_DEFENCE else adversary_label(row.adversary)
        ),
        "Attack": lambda row: attack_label(row.attack, None),
    }
    title = f"{_title(MEASURES[0], rows, quantity)}, all attacks of all adversaries"
    caption = f"{_words(MEASURES[0], quantity, confidence)}, {images_text(rows)}."
    return _grid(title, rows, heads, MEASURES[0], quantity, caption)


def _title(measure: Measure, rows: Sequence[Any], quantity: Quantity) -> str:
    bound = f"{rows[0].bound:g}{quantity.unit}"
    return f"{measure.title.format(bound=bound)} of the {quantity.name}"


def _words(measure: Measure, quantity: Quantity, confidence: float) -> str:
    words = measure.words.format(confidence=f"{100 * confidence:g}")
    unit = f", in {quantity.unit}" if quantity.unit else ""
    return f"Absolute error of the {quantity.name}{unit}: {words}"


def _grid(
    title: str,
    rows: Sequence[Any],
    heads: Mapping[str, Callable[[Any], str]],
    measure: Measure,
    quantity: Quantity,
    caption: str,
) -> Table:
    """Returns rows as a table: its lines by what `heads` say of them, by column."""
    named = _heads(column_of(row) for row in rows)
    lines: dict[tuple[Any, ...], dict[Any, Any]] = {}
    budgets = _ordered(rows)
    for row in sorted(rows, key=lambda row: budgets.index(_budget(row))):
        place = (_budget(row), row.adversary, row.attack)
        lines.setdefault(place, {})[column_of(row)] = row
    text, numbers = [], []
    for cells in lines.values():
        first = next(iter(cells.values()))
        names = [of(first) for of in heads.values()]
        values = [cells.get(column) for column in named]
        text.append(
            [
                *names,
                *(
                    MISSING if row is None else measure.text(row, quantity.unit)
                    for row in values
                ),
            ]
        )
        numbers.append(
            [
                *names,
                *(
                    None if row is None else getattr(row, field)
                    for row in values
                    for field in (*measure.fields, "n")
                ),
            ]
        )
    number_heads = [
        f"{head} {field}" for head in named.values() for field in (*measure.fields, "n")
    ]
    counts = {head: "Int64" for head in number_heads if head.endswith(" n")}
    return Table(
        title,
        caption,
        pd.DataFrame(text, columns=[*heads, *named.values()]),
        pd.DataFrame(numbers, columns=[*heads, *number_heads]).astype(counts),
        names=len(heads),
    )


def _heads(texts: Iterable[ColumnTexts]) -> dict[ColumnTexts, str]:
    """Returns the heads of columns, in the words of a regression."""
    heads = column_heads(texts)
    return {column: _of_numbers(head) for column, head in heads.items()}


def _of_numbers(label: str) -> str:
    """Returns the label of a defence: what is told of a projection is a number."""
    return label.replace("Invert and Classify", "Invert and Regress")


def _budget(row: Any) -> tuple[str, float | None]:
    return row.norm, None if math.isnan(row.epsilon) else row.epsilon


def _ordered(rows: Sequence[Any]) -> list[tuple[str, float | None]]:
    """Returns the budgets: clean, then by norm as they come, and rising."""
    keys = list(dict.fromkeys(map(_budget, rows)))
    norms = list(dict.fromkeys(norm for norm, _ in keys))

    def place(key: tuple[str, float | None]) -> tuple[int, float]:
        norm, epsilon = key
        return norms.index(norm), math.inf if epsilon is None else epsilon

    return sorted(keys, key=lambda key: (key[0] != "", *place(key)))


def members_table(lines: Sequence[Mapping[str, Any]], **_: Any) -> Table:
    """Returns whose images the cascades ended with, a line a column and budget."""
    rows = []
    for line in lines:
        told = [f"{name} ({count:,})" for name, count in line["members"].items()]
        more = f" and {len(told) - 3} more" if len(told) > 3 else ""
        rows.append(
            {
                "Column": _of_numbers(columns.label_of_text(line["column"])),
                "Budget": budget_label(line["norm"], line["epsilon"]),
                "Gradients": f"{line['gradients']:,.0f}",
                "Largest error by": f"{'; '.join(told[:3])}{more}",
            }
        )
    caption = (
        "No error is enough: every member of the cascade works on every image, and the "
        "image with the largest error stays. Largest error by: the members whose "
        "images these are, with their number; clean: no attack made it larger. "
        "Gradients: those of all members together, a mean over the images."
    )
    flat = [
        {**{k: v for k, v in line.items() if k != "members"}, "member": m, "count": c}
        for line in lines
        for m, c in line["members"].items()
    ]
    title = "Who found the largest errors"
    names = ["Column", "Budget", "Gradients", "Largest error by"]
    frame = pd.DataFrame(rows, columns=names)
    return Table(title, caption, frame, pd.DataFrame(flat), names=2, prose=True)


def _show(context: Context) -> Shown:
    quantity = _quantity(context)
    confidence = context.experiment.evaluation.confidence
    lines = evaluation.read_errors(context.folder.read_text(ERRORS))
    members = context.folder.read_json(MEMBERS)
    tables = worst_tables(lines, quantity, confidence=confidence)
    return Shown(
        [*tables, *([members_table(members)] if members else [])],
        folded=[every_table(lines, quantity, confidence=confidence)],
        figures=[_shares(context, quantity), *_sheets(context, quantity)],
    )


def _quantity(context: Context) -> Quantity:
    target = context.experiment.data.target
    assert target is not None
    return target.quantity


def _shares(context: Context, quantity: Quantity) -> tuple[str, html.ReportFigure]:
    """Returns the share of images with at most an error, at each budget."""
    block = context.experiment.evaluation
    rows = [
        (column, *_measured(context, column, row)[1:])
        for column in block.columns
        for row in rows_of(column, block)
    ]
    heads = _heads(columns.texts_of(context, column) for column in block.columns)
    panels: dict[str, dict[str, np.ndarray]] = {"clean": {}}
    budgets: list[Budget] = budgets_of(outcome for _, outcome, _ in rows)
    panels |= {budget_label(each.norm, each.epsilon): {} for each in budgets}
    for column in block.columns:
        own = [(outcome, errors) for each, outcome, errors in rows if each == column]
        name = heads[columns.texts_of(context, column)]
        panels["clean"][name] = own[0][1]
        for budget in budgets:
            worst = largest_errors(own, budget)
            if worst is not None:
                panels[budget_label(budget.norm, budget.epsilon)][name] = worst
    unit = f" ({quantity.unit})" if quantity.unit else ""
    figure = figures.error_shares(
        {title: panel for title, panel in panels.items() if panel},
        bound=block.bound,
        axis=f"error of the {quantity.name}{unit}",
    )
    return (
        "errors",
        html.ReportFigure(
            f"How large the errors of the {quantity.name} are",
            "Share of the test images whose error is at most that of the axis: clean, "
            "and in the worst case of each budget. The line across is the error that "
            f"tables count, {block.bound:g}{quantity.unit}.",
            figures.to_png(figure),
        ),
    )


def _sheets(
    context: Context, quantity: Quantity
) -> Iterator[tuple[str, html.ReportFigure]]:
    """Yields originals, the worst attack of a column, and what it projects them to."""
    block, count = context.experiment.evaluation, context.experiment.report.pictures
    targets = context.data.test.labels[:count]
    if targets.shape[1] != 1:
        return
    for column in context.columns:
        every = rows_of(column, block)
        row = max(
            every, key=lambda row: float(np.mean(errors_of(context, column, row)))
        )
        told = read_rounds(context, outcome_folder(column, row))
        clean = read_rounds(context, outcome_folder(column, every[0]))
        shown = [
            figures.TellingRow(
                "clean",
                images_of(context, every[0])[:count],
                clean["logits"][:count, 0],
            )
        ]
        if row.attack is not None:
            images = images_of(context, row)[:count]
            shown.append(
                figures.TellingRow("attacked", images, told["logits"][:count, 0])
            )
        if column.projects:
            shown.append(figures.TellingRow("projection", told["projections"][:count]))
        title = _of_numbers(columns.title_of(column))
        label = columns.row_label(context, row)
        sheet = figures.telling_sheet(
            shown, targets[:, 0], bound=block.bound, unit=quantity.unit
        )
        yield (
            f"told-{columns.file_of(column)}",
            html.ReportFigure(
                f"{title}: the {quantity.name} that it tells, under {label}",
                f"Under each image what the column tells of it: green within "
                f"{block.bound:g}{quantity.unit} of the truth. The attack is that of "
                "the largest mean error; a projection is that of the attacked image.",
                figures.to_png(sheet),
            ),
        )


def _recorded(group: Group) -> Iterator[Passage]:
    """Yields the errors of each run."""
    shown, folded = [], []
    for run in group.with_file(ERRORS):
        lines = run.lines(ERRORS, evaluation.read_errors)
        quantity = _recorded_quantity(run.config)
        seed = f"Seed {run.seed}. " if len(group.runs) > 1 else ""
        for table in worst_tables(lines, quantity, confidence=group.confidence):
            shown.append(table._replace(caption=f"{seed}{table.caption}"))
        every = every_table(lines, quantity, confidence=group.confidence)
        folded.append(every._replace(caption=f"{seed}{every.caption}"))
    if shown:
        shown += group.tables_by_seed(MEMBERS, members_table)
        yield Passage("Errors", shown, {"Every attack of every adversary": folded})


def _recorded_quantity(config: Mapping[str, Any]) -> Quantity:
    return data.targets.build(config["data"]["target"]).quantity


def _words_of(context: Context) -> Words:
    quantity = _quantity(context)
    sentences = [
        f"A network tells a number, the {quantity.name}, of an image, and an attack "
        "moves it as far as it can inside its budget."
    ]
    if any(column.projects for column in context.columns):
        sentences.append(
            "Invert and Regress tells it of the projection G(z*), the nearest image "
            "that the generator G was found to make, in place of the image."
        )
    sentences.append("The tables give the absolute errors in place of an accuracy.")
    return Words(f"Errors of the {quantity.name}", " ".join(sentences))


FINDING = Finding(
    name="errors",
    of="numbers",
    after="evaluate",
    find=find,
    writes=(ERRORS, MEMBERS),
    recorded=(ERRORS, MEMBERS),
    show=_show,
    results=_recorded,
    words=_words_of,
)
