"""The tables of one group of runs, by the part of the document that they stand in."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from robust_manifold import evaluation
from robust_manifold.core.errors import UsageError
from robust_manifold.reporting import (
    Table,
    adversaries_table,
    alone_table,
    audit_summary,
    audit_table,
    detection_tables,
    every_table,
    given_table,
    headline_table,
    measures_table,
    on_manifold_table,
    pairs_table,
    paper_tables,
    substitutes_table,
)
from robust_manifold.reporting.columns import target_labels
from robust_manifold.reporting.tables import is_single, lines_of
from robust_manifold.reporting.worst_cases import tells_alone
from robust_manifold.results.beside import beside_table
from robust_manifold.results.facts import confidence_of, ends_of, interval_of, wilson_of
from robust_manifold.results.groups import Group, read_lines
from robust_manifold.results.records import Run
from robust_manifold.results.wide import turned

_DISTANCES = {
    "total_variation": "Total variation of generator and data",
    "discriminator_distance": "Largest |D - 1/2| where the data are",
}


class Part(NamedTuple):
    """A part of a section: its heading, its tables, and those behind a fold.

    Attributes:
      heading: of the part.
      tables: shown.
      folded: by the words of their fold.
    """

    heading: str
    tables: list[Table]
    folded: Mapping[str, list[Table]] = {}


def parts_of(group: Group) -> Iterator[Part]:
    """Yields the parts of a group's section that its stages have something for."""
    if group.with_file("results.csv"):
        yield from _accuracy(group)
    yield from _on_manifold(group)
    yield from _given(group)
    yield from _detection(group)
    yield from _substitutes(group)
    yield from _audit(group)
    yield from _measures(group)
    yield from _convergence(group)


def _accuracy(group: Group) -> Iterator[Part]:
    """Yields accuracies by row and column, then those that sources speak of."""
    frames = group.frames("results.csv", evaluation.read_results)
    shown, folded = _accuracy_tables(group, frames)
    if len(frames) > 1:
        shown = [_averaged(table, group) for table in shown]
        folded = {
            words: [_averaged(table, group) for table in tables]
            for words, tables in folded.items()
        }
        for run, frame in zip(group.with_file("results.csv"), frames, strict=True):
            own = every_table(frame, confidence=confidence_of(group))
            folded[f"Seed {run.seed} alone, with its Wilson intervals"] = [own]
    folded = {words: [*map(turned, tables)] for words, tables in folded.items()}
    yield Part("Accuracy", [*map(turned, shown)], folded)
    beside = beside_table(
        group.averaged(frames, ends=True),
        group.first.trained_config,
        interval=ends_of(group),
    )
    if beside is not None:
        yield Part("Beside published figures", [beside])


def _accuracy_tables(
    group: Group, frames: Sequence[pd.DataFrame]
) -> tuple[list[Table], dict[str, list[Table]]]:
    """Returns the tables of accuracy that are shown, and those behind a fold."""
    results, confidence = group.averaged(frames), confidence_of(group)
    shown, folded = [], {}
    if not all(map(is_single, lines_of(results))):
        shown.append(headline_table(results, confidence=confidence))
    if not _is_large(results):
        return [*shown, *paper_tables(results, confidence=confidence)], folded
    lines = group.frames("worst_cases.csv", evaluation.read_adversary_lines)
    if lines:
        shown.append(adversaries_table(group.averaged(lines), confidence=confidence))
    every = every_table(results, confidence=confidence)
    folded["Every attack of every adversary"] = [every]
    if len(lines) == 1 and tells_alone(lines[0]):
        folded["Who breaks what alone"] = [alone_table(lines[0])]
    return shown, folded


def _is_large(results: pd.DataFrame) -> bool:
    """Returns whether there are more than the attacks of one adversary to show."""
    known = [row for row in lines_of(results) if is_single(row)]
    adversaries = {row.adversary for row in known if row.attack != "clean"}
    return len({row.classifier for row in known}) > 1 or len(adversaries) > 1


def _averaged(table: Table, group: Group) -> Table:
    """Returns a table of means over seeds with a caption that says so."""
    words = f"with its {wilson_of(group)}"
    return table._replace(
        caption=table.caption.replace(words, f"as {interval_of(group)}")
    )


def _on_manifold(group: Group) -> Iterator[Part]:
    """Yields latent pairs beside what the search over latents broke, and the judges."""
    tables = [
        *_by_seed(group, "pairs.json", pairs_table),
        *_by_seed(group, "on_manifold.json", on_manifold_table),
    ]
    if tables:
        yield Part("On the manifold: pairs, and changes of class", tables)


def _given(group: Group) -> Iterator[Part]:
    if tables := [*_by_seed(group, "given.json", given_table)]:
        yield Part("Attacked images that others released", tables)


def _by_seed(
    group: Group, file: str, table_of: Callable[..., Table]
) -> Iterator[Table]:
    """Yields the table of each seed's lines, named after it where there are several."""
    for run in group.with_file(file):
        try:
            table = table_of(run.json(file), confidence=confidence_of(group))
        except (KeyError, TypeError):
            raise UsageError(
                f"{run.folder / file} is not what this version writes; allowed: a run "
                "of it, or one that its stage was run again in."
            ) from None
        yield _of_seed(table, run, group)


def _of_seed(table: Table, run: Run, group: Group) -> Table:
    seed = f"Seed {run.seed}. " if len(group.runs) > 1 else ""
    return table._replace(caption=f"{seed}{table.caption}")


def _detection(group: Group) -> Iterator[Part]:
    folded = {}
    for run in group.with_file("detection.csv"):
        lines = read_lines(run, "detection.csv", evaluation.read_detection)
        tables = detection_tables(lines, confidence=confidence_of(group))
        folded[f"Rejection by error, seed {run.seed}"] = list(tables)
    if folded:
        yield Part("Rejection by reconstruction error", [], folded)


def _substitutes(group: Group) -> Iterator[Part]:
    if tables := [*_by_seed(group, "substitutes.json", substitutes_table)]:
        yield Part("Substitute models", tables)


def _audit(group: Group) -> Iterator[Part]:
    """Yields how many checks had which verdict, and the flags in full."""
    checks: list[dict[str, Any]] = []
    for run in group.with_file("audit.json"):
        seed = f", seed {run.seed}" if len(group.runs) > 1 else ""
        own = run.json("audit.json")
        texts = list(dict.fromkeys(check["column"] for check in own))
        names = dict(zip(texts, target_labels(texts), strict=True))
        checks += [{**each, "column": names[each["column"]] + seed} for each in own]
    if not checks:
        return
    flags = [check for check in checks if check["verdict"] == "FLAG"]
    folded = {f"What was flagged ({len(flags)})": [_flagged(flags)]} if flags else {}
    yield Part("Sanity checks", [audit_summary(checks)], folded)


def _flagged(flags: Sequence[Mapping[str, Any]]) -> Table:
    """Returns the table of flags, of which all have the same verdict."""
    table = audit_table(flags)
    text = table.text.drop(columns="Verdict")
    return table._replace(title="", caption="", text=text, names=len(text.columns))


def _measures(group: Group) -> Iterator[Part]:
    frames = group.frames("measures.csv", evaluation.read_measures)
    if frames:
        several = len(frames) > 1
        table = measures_table(
            pd.concat(frames, ignore_index=True),
            names=[f"Seed {seed}" for seed in group.seeds] if several else None,
            confidence=confidence_of(group),
        )
        yield Part("The generator", [table])


def _convergence(group: Group) -> Iterator[Part]:
    """Yields how far each seed came, and their mean where there are several."""
    runs = group.with_file("convergence.json")
    if not runs:
        return
    found = {f"Seed {run.seed}": run.json("convergence.json") for run in runs}
    numbers = pd.DataFrame(
        {seed: [each[key] for key in _DISTANCES] for seed, each in found.items()}
    )
    if len(runs) > 1:
        numbers["Mean"] = numbers.mean(axis="columns")
    text = numbers.map(lambda value: f"{value:.4f}")
    text.insert(0, "Distance", list(_DISTANCES.values()))
    steps = ", ".join(f"{n:,}" for n in sorted({x["step"] for x in found.values()}))
    caption = f"At the end of the training, after {steps} steps."
    yield Part("Convergence", [Table("", caption, text, numbers)])
