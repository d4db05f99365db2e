"""Substitute models: how well they agree with their targets, and what carried over."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from robust_manifold import attacks, data, evaluation
from robust_manifold.config import Column
from robust_manifold.core import batching
from robust_manifold.core.errors import UsageError
from robust_manifold.findings import columns
from robust_manifold.findings.finding import Finding, Passage, Shown
from robust_manifold.findings.recorded import Group
from robust_manifold.reporting import figures, html, labels
from robust_manifold.reporting.columns import target_labels
from robust_manifold.reporting.labels import label_of
from robust_manifold.reporting.tables import Table
from robust_manifold.runtime import load_params
from robust_manifold.stages import Context
from robust_manifold.stages.networks import trained
from robust_manifold.stages.table import substitutes
from robust_manifold.stages.table.rounds import read_rounds
from robust_manifold.stages.table.rows import adversarial_folder, outcome_folder, rows

SUMMARY = "substitutes.json"


def find(context: Context) -> list[str]:
    """Writes `substitutes.json` and returns its name.

    What it says of the agreement is measured on the test images and on what the targets
    made of them, none of which the substitutes' trainings saw.
    """
    lines = [
        _line(context, target) for target in substitutes.targets(context.experiment)
    ]
    context.folder.write_json(SUMMARY, lines)
    return [SUMMARY]


def _line(context: Context, target: Column) -> dict[str, Any]:
    """Returns what is known of the substitute of one target."""
    clean = rows(context.experiment.evaluation)[0]
    told = read_rounds(context, outcome_folder(target, clean))["logits"]
    logits = batching.apply_examples(
        context.networks.substitute.apply,
        load_params(context.folder.path / trained.folder(substitutes.name_of(target))),
        data.to_float(context.data.test.images),
    )
    alike = evaluation.predictions_of(logits) == evaluation.predictions_of(told)
    interval = evaluation.wilson_interval(
        int(alike.sum()), len(alike), context.experiment.evaluation.confidence
    )
    stored = substitutes.stored(context, target)
    return {
        "target": stored["target"],
        "model": stored["model"],
        "queries": stored["queries"],
        "history": stored["history"],
        "n": len(alike),
        "agreement": float(alike.mean()),
        "agreement_low": interval.low,
        "agreement_high": interval.high,
    }


def _show(context: Context) -> Shown:
    confidence = context.experiment.evaluation.confidence
    lines = context.folder.read_json(SUMMARY)
    table = substitutes_table(lines, confidence=confidence)
    return Shown([table], figures=[("transfer", _figure(context))])


def _results(group: Group) -> Iterator[Passage]:
    if tables := [*group.tables_by_seed(SUMMARY, substitutes_table)]:
        yield Passage("Substitute models", tables)


def _figure(context: Context) -> html.ReportFigure:
    """Returns what carried over to each target, by the last attack of the config."""
    block = context.experiment.evaluation
    count = context.experiment.report.pictures
    chosen = columns.one_of_each_class(context.data.test.labels, count)
    clean, *attacked = rows(block)
    groups = []
    for target in substitutes.targets(context.experiment):
        row = [r for r in attacked if r.adversary == substitutes.ADVERSARY]
        last = [r for r in row if r.target == target][-1]
        sheet = []
        for name, of in {"test image": clean, "transferred": last}.items():
            told = read_rounds(context, outcome_folder(target, of))["logits"][chosen]
            images = (
                data.to_float(context.data.test.images)
                if of is clean
                else read_rounds(context, adversarial_folder(of))["images"]
            )
            probabilities = columns.softmax(told)
            sheet.append(figures.SheetRow(name, images[chosen], probabilities))
        assert isinstance(last.attack, attacks.Attack)
        title = (
            f"{labels.label_of(last.name, norm=last.attack.norm)} on the substitute of "
            f"{columns.title_of(target)}"
        )
        groups.append(
            figures.SheetGroup(title, context.data.test.labels[chosen], sheet)
        )
    picture = figures.projection_sheet(
        groups, class_names=context.data.dataset.class_names
    )
    return html.ReportFigure(
        "Attacks that carry over from a substitute",
        "Images crafted on the substitute of a target, by the last attack of the "
        "config. Under each image: the class that the target itself gives it and its "
        "probability.",
        figures.to_png(picture),
    )


def substitutes_table(
    lines: Sequence[Mapping[str, Any]], *, confidence: float = 0.95
) -> Table:
    """Returns the table of substitutes: a row for each target.

    Args:
      lines: what substitutes.json holds, one target each: texts "target" and "model";
        "queries"; "history", a mapping with "queries" and "agreement" for each round;
        "agreement" with "agreement_low" and "agreement_high" on "n" images.
      confidence: coverage of the intervals in `lines`, for the caption.

    Raises:
      UsageError: for no lines.
    """
    if not lines:
        raise UsageError("lines hold 0 substitutes; allowed: 1 or more.")
    columns = {
        "Target": target_labels([line["target"] for line in lines]),
        "Label queries": [f"{line['queries']:,}" for line in lines],
        "Agreement": [_agreement(line) for line in lines],
        "On what it asked": [
            _percent(line["history"][-1]["agreement"]) for line in lines
        ],
    }
    first, seeds = lines[0], lines[0]["history"][0]["queries"]
    rounds = len(first["history"])
    grown = (
        f"{seeds:,} validation images and others made from them, in {rounds} rounds"
        if rounds > 1
        else f"{seeds:,} validation images"
    )
    caption = (
        f"{label_of(first['model'])}, trained on nothing but labels "
        f"of {grown}. Label queries: images whose label the target was asked for. "
        f"Agreement: share of the {first['n']:,} clean test images, about which no "
        "target was asked, that target and substitute take for the same class, with "
        f"its {100 * confidence:g} % Wilson interval; on what it asked: the same share "
        "of its own training images."
    )
    numbers = pd.DataFrame(
        [{k: v for k, v in line.items() if k != "history"} for line in lines]
    )
    return Table("Substitute models", caption, pd.DataFrame(columns), numbers)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _agreement(line: Mapping[str, Any]) -> str:
    low, high = 100 * line["agreement_low"], 100 * line["agreement_high"]
    return f"{_percent(line['agreement'])} [{low:.1f}, {high:.1f}]"


FINDING = Finding(
    name="substitutes",
    after="evaluate",
    wanted=lambda experiment: bool(substitutes.targets(experiment)),
    find=find,
    writes=(SUMMARY,),
    recorded=(SUMMARY,),
    show=_show,
    results=_results,
)
