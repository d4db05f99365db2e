"""Tables of what the arguments of one experiment do, a column or more to each."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from robust_manifold import evaluation
from robust_manifold.reporting import (
    Table,
    adversaries_table,
    headline_table,
    measures_table,
)
from robust_manifold.reporting.labels import NO_DEFENCE, WORST_CASE, column_labels
from robust_manifold.results.facts import confidence_of
from robust_manifold.results.groups import Group, read_lines
from robust_manifold.results.records import Run
from robust_manifold.results.wide import turned

_ROW = ("norm", "epsilon", "adversary")
_RIGHT = (*_ROW, "n", "correct")


def side_by_side(groups: Sequence[Group]) -> Iterator[Table]:
    """Yields the tables of several groups together, of the first seed of each."""
    if len({group.first.argument for group in groups}) < max(len(groups), 2):
        return
    runs, confidence = [group.first for group in groups], confidence_of(groups[0])

    def have(name: str) -> bool:
        return all(name in run.files for run in runs)

    if have("results.csv") and have("worst_cases.csv"):
        yield from _defences(runs, confidence)
    elif have("measures.csv") and not have("results.csv"):
        yield _generators(runs, confidence)


def _generators(runs: Sequence[Run], confidence: float) -> Table:
    """Returns what was measured of each run's generator."""
    frames = [read_lines(run, "measures.csv", evaluation.read_measures) for run in runs]
    return measures_table(
        pd.concat(frames, ignore_index=True),
        names=[run.argument or run.experiment for run in runs],
        confidence=confidence,
    )


def _defences(runs: Sequence[Run], confidence: float) -> Iterator[Table]:
    """Yields each run's accuracies; nothing unless all attacked the same in one way."""
    results = [read_lines(run, "results.csv", evaluation.read_results) for run in runs]
    lines = [
        read_lines(run, "worst_cases.csv", evaluation.read_adversary_lines)
        for run in runs
    ]
    if any(_met(frame) != _met(lines[0]) for frame in lines):
        return
    if any(run.config["data"] != runs[0].config["data"] for run in runs):
        return
    shared = len({_bare(frame)[[*_RIGHT]].to_csv() for frame in results}) == 1
    results, lines = (_named(frames, runs, shared) for frames in (results, lines))
    heads = {text: text for text in results["defence"] if text != NO_DEFENCE}
    if WORST_CASE in set(results["adversary"]):
        yield turned(headline_table(results, confidence=confidence, labels=heads))
    yield turned(adversaries_table(lines, confidence=confidence, labels=heads))


def _met(lines: Any) -> set[tuple[object, ...]]:
    """Returns the rows that the defences of a run met."""
    defended = lines[lines["defence"] != NO_DEFENCE]
    return {*map(tuple, defended[list(_ROW)].to_numpy().tolist())}


def _bare(lines: Any) -> Any:
    return lines[lines["defence"] == NO_DEFENCE]


def _named(frames: Sequence[Any], runs: Sequence[Run], shared: bool) -> pd.DataFrame:
    """Returns the lines of all runs, their defences called after the arguments.

    What has no defence comes once if it is the same in all of them, `shared`, else not
    at all.
    """
    named = [_bare(frames[0])] if shared else []
    for frame, run in zip(frames, runs, strict=True):
        defended = frame[frame["defence"] != NO_DEFENCE]
        texts = list(dict.fromkeys(defended["defence"]))
        names = dict(zip(texts, column_labels(texts), strict=True))
        several = len(texts) > 1
        called = {
            text: f"{run.argument}: {name}" if several else run.argument
            for text, name in names.items()
        }
        named.append(defended.assign(defence=defended["defence"].map(called)))
    return pd.concat(named, ignore_index=True)
