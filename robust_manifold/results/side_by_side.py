"""Tables of what the arguments of one experiment do, a column or more to each."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from robust_manifold import evaluation
from robust_manifold.findings import Group, Run
from robust_manifold.findings.accuracy_tables import adversaries_table, headline_table
from robust_manifold.findings.measures_table import measures_table
from robust_manifold.findings.unions_table import unions_table
from robust_manifold.reporting import Table, figures
from robust_manifold.reporting.columns import (
    ColumnTexts,
    column_of,
    target_label,
    target_labels,
)
from robust_manifold.reporting.labels import NO_DEFENCE
from robust_manifold.reporting.tables import lines_of
from robust_manifold.reporting.wide import turned

_OWN_RUNS = " Columns: runs of their own, named by the argument of the experiment."
_ROW = ("defence", "adversary", "attack", "norm", "epsilon", "n")


def side_by_side(groups: Sequence[Group]) -> Iterator[Table]:
    """Yields the tables of several groups together, of the first seed of each.

    Groups that cannot be told apart by their arguments are left out.  Nothing is
    yielded unless two or more are left, and all of them measured the same in one way
    or one column each.
    """
    names = [group.first.argument for group in groups]
    shown = [
        g for g in groups if names.count(g.first.argument) == 1 and g.first.argument
    ]
    runs = [group.first for group in shown]
    if len(runs) < 2 or len({_way(run) for run in runs}) > 1:
        return
    single = all(_of_one_column(run) for run in runs)
    # Networks that differ are columns, though the same was measured of all.
    networks = single and len({_column_of(run) for run in runs}) == len(runs)
    alike = len({_rows(run) for run in runs}) == 1 and not networks
    if not alike and not single:
        return

    def have(name: str) -> bool:
        return all(name in run.files for run in runs)

    several = any(len(group.runs) > 1 for group in shown)
    head = f"Seed {runs[0].seed} of each. " if several else ""
    confidence = shown[0].confidence
    if have("results.csv") and have("worst_cases.csv"):
        tables = _defences(runs, confidence) if alike else _columns(runs, confidence)
    elif have("measures.csv") and not have("results.csv"):
        tables = iter([_generators(runs, confidence)])
    else:
        return
    for table in tables:
        yield table._replace(caption=head + table.caption)
    if single and (lines := _unions(runs)) is not None:
        table = turned(unions_table(lines, confidence=confidence))
        yield table._replace(caption=head + table.caption + _OWN_RUNS)


def union_picture(groups: Sequence[Group]) -> Figure | None:
    """Returns the figure of unions over runs of one column each; None without two.

    Args:
      groups: of one experiment.
    """
    runs = [g.first for g in groups if g.first.argument and _of_one_column(g.first)]
    if len({run.argument for run in runs}) < len(runs):
        return None
    lines = _unions(runs)
    return None if lines is None else figures.union_bars(lines)


def _unions(runs: Sequence[Run]) -> pd.DataFrame | None:
    """Returns the lines of unions.csv of runs that have one; None of fewer than two."""
    having = [run for run in runs if "unions.csv" in run.files]
    if len(having) < 2:
        return None
    frames = []
    for run in having:
        own = run.lines("unions.csv", evaluation.read_unions)
        frames.append(own.assign(classifier=_name(run, own)))
    return pd.concat(frames, ignore_index=True)


def _name(run: Run, own: pd.DataFrame) -> str:
    """Returns what a column is called that is a run of its own."""
    return f"{run.argument}, n = {own['n'].max():,}"


def _way(run: Run) -> tuple[Any, ...]:
    """Returns how a run measured: what differs in it is not to be compared."""
    splits = run.json("data.json")
    digest = splits["test"]["sha256"] if splits else ""
    return run.seed, run.config["evaluation"]["confidence"], digest


def _rows(run: Run) -> frozenset[tuple[str, ...]]:
    """Returns the rows that a run measured, each with its number of images."""
    if "results.csv" not in run.files:
        return frozenset()
    lines = run.lines("results.csv", evaluation.read_results)
    # As text: a budget that there is none of is not equal to itself.
    rows = lines[[*_ROW]].to_numpy().tolist()
    return frozenset(tuple(map(str, row)) for row in rows)


def _of_one_column(run: Run) -> bool:
    """Returns whether a run has one column, so that its argument is a name of it."""
    return _column_of(run) is not None


def _column_of(run: Run) -> ColumnTexts | None:
    """Returns the one column of a run; None where there are others."""
    if "results.csv" not in run.files:
        return None
    lines = run.lines("results.csv", evaluation.read_results)
    found = set(map(column_of, lines_of(lines)))
    return found.pop() if len(found) == 1 else None


def _columns(runs: Sequence[Run], confidence: float) -> Iterator[Table]:
    """Yields the accuracies of runs of one column each, with their numbers of images.

    A column is named by the defence and the run's argument.
    """
    results, lines = [], []
    for run in runs:
        own = run.lines("results.csv", evaluation.read_results)
        name = _name(run, own)
        results.append(own.assign(classifier=name))
        worst = run.lines("worst_cases.csv", evaluation.read_adversary_lines)
        lines.append(worst.assign(classifier=name))
    for make, frames in ((headline_table, results), (adversaries_table, lines)):
        frame = pd.concat(frames, ignore_index=True)
        table = turned(make(frame, confidence=confidence))
        yield table._replace(caption=table.caption + _OWN_RUNS)


def _generators(runs: Sequence[Run], confidence: float) -> Table:
    """Returns what was measured of each run's generator."""
    frames = [run.lines("measures.csv", evaluation.read_measures) for run in runs]
    return measures_table(
        pd.concat(frames, ignore_index=True),
        names=[run.argument for run in runs],
        confidence=confidence,
    )


def _defences(runs: Sequence[Run], confidence: float) -> Iterator[Table]:
    """Yields the accuracies of each run: in brief, and by adversary."""
    results = [run.lines("results.csv", evaluation.read_results) for run in runs]
    lines = [
        run.lines("worst_cases.csv", evaluation.read_adversary_lines) for run in runs
    ]
    texts = list(dict.fromkeys(results[0]["defence"]))
    labels = dict(zip(texts, target_labels(texts), strict=True))
    defended = [text for text in texts if text != NO_DEFENCE]
    if not defended or any(frame.empty for frame in lines):
        return
    # What has no defence comes once if it is the same in all runs.
    once = len({_bare(frame) for frame in results}) == 1
    heads, kept = {}, {}
    for run in runs:
        for text in texts:
            shared = once and text == NO_DEFENCE
            name = NO_DEFENCE if shared else f"{run.argument}: {text}"
            alone = len(defended) == 1 and text != NO_DEFENCE
            heads[name] = run.argument if alone else f"{run.argument}: {labels[text]}"
            if not shared or run is runs[0]:
                kept[run.argument, text] = name
    heads.pop(NO_DEFENCE, None)
    told = ""
    if len(defended) == 1:
        shown = target_label(defended[0])
        told = f" Columns: the arguments of the experiment, behind {shown}."
    for make, frames in ((headline_table, results), (adversaries_table, lines)):
        frame = _together(frames, runs, kept)
        table = turned(make(frame, confidence=confidence, labels=heads))
        yield table._replace(caption=table.caption + told)


def _bare(lines: Any) -> str:
    """Returns what the lines say of columns without a defence."""
    bare = lines[lines["defence"] == NO_DEFENCE]
    return bare[["classifier", *_ROW, "correct"]].to_csv(index=False)


def _together(
    frames: Sequence[Any], runs: Sequence[Run], names: dict[tuple[str, str], str]
) -> pd.DataFrame:
    """Returns the lines of all runs that have a name, with it for their defence."""
    named = [
        frame.assign(
            defence=[names.get((run.argument, text)) for text in frame["defence"]]
        )
        for frame, run in zip(frames, runs, strict=True)
    ]
    return pd.concat(named, ignore_index=True).dropna(subset="defence")
