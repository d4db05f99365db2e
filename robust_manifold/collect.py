r"""Sets several runs side by side, and means over their seeds.

  robust-manifold collect runs/mnist-seed=* --output=collected

reads results.csv and measures.csv of each run folder, prints the tables, and with
--output writes them to that folder as accuracy.csv, .md and .tex, and measures.*, with
a figure, accuracy.png. Runs whose configs differ in nothing but the seed are one line:
the mean over them, their standard deviation, an interval of the mean (Student's t; of
one run that of its images), how many they are, and the worst seed. Whatever else they
differ in tells the lines apart; where no sweep has changed it, it is named. Exit codes:
0 done; 2 a mistake in the command or the files.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from robust_manifold.config import FREE, check_stored
from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import mean_interval, read_measures, read_results
from robust_manifold.findings.measures_table import measures_table
from robust_manifold.reporting import WRITERS, Table, to_console, to_png
from robust_manifold.reporting.columns import column_heads, column_of
from robust_manifold.reporting.figures.seeds import Spread, spreads
from robust_manifold.reporting.labels import adversary_label, attack_label, budget_label
from robust_manifold.reporting.tables import images_text, lines_of
from robust_manifold.runtime import storage
from robust_manifold.runtime.arguments import Parser
from robust_manifold.runtime.artefacts import Artefacts, write_atomically
from robust_manifold.runtime.run_folder import (
    CONFIG,
    STATUS,
    flat,
    read_config,
    read_status,
)

FORMATS: Mapping[str, Callable[[Table], str]] = {
    "console": to_console,
    **{name: WRITERS[name] for name in ("md", "tex", "csv")},
}
"""What writes the tables, by the value of --format."""

_ROW = ("classifier", "defence", "adversary", "attack", "norm", "epsilon")
"""What tells the lines of a results.csv apart."""

_SEED = "seed"


class Run(NamedTuple):
    """What a run folder holds."""

    name: str
    path: Path
    config: dict[str, str]
    """Its values as texts, by dotted key; empty of a folder without a config."""
    swept: frozenset[str]
    confidence: float | None
    results: pd.DataFrame | None
    measures: pd.DataFrame | None


class Collected(NamedTuple):
    """What there is to show of several runs."""

    tables: dict[str, Table]
    """By the names of their files."""
    rows: dict[str, Spread]
    """Of the figure."""
    notes: list[str]
    """On runs that differ in more than a sweep has changed."""


def collect(folders: Sequence[str | os.PathLike[str]]) -> Collected:
    """Returns the tables of the runs in these folders, in their order.

    Raises:
      UsageError: if a folder is given twice, or holds no results or damaged ones; or
        if the intervals of two runs are not of one confidence.
    """
    paths = [Path(folder) for folder in folders]
    resolved = [path.resolve() for path in paths]
    for place, path in enumerate(resolved):
        if path in resolved[:place]:
            raise UsageError(f"{paths[place]} is given twice; allowed: once.")
    runs = [_read(*each) for each in zip(_names(resolved), paths, strict=True)]
    confidences = {run.confidence for run in runs}
    if len(confidences) > 1:
        raise UsageError(
            "evaluation.confidence is not the same in all runs; allowed: runs whose "
            "intervals can be compared."
        )
    variants, notes = _variants(runs)
    tables, rows = {}, {}
    if any(run.results is not None for run in runs):
        tables["accuracy"], rows = _accuracies(runs, variants, confidences.pop())
    if any(run.measures is not None for run in runs):
        tables["measures"] = _measures(runs)
    return Collected(tables, rows, notes)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables and returns the exit code; 2 for a mistake of the user."""
    parser = Parser(prog="robust-manifold collect", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--format", choices=list(FORMATS), default="console", help="of what is printed"
    )
    parser.add_argument("--output", metavar="DIR", help="folder for all formats")
    arguments = parser.parse_args(argv)
    try:
        found = collect(arguments.runs)
        if arguments.output:
            _write(Path(arguments.output), found)
    except (UsageError, OSError) as error:
        if isinstance(error, OSError):
            error = storage.refused(error, "a run folder")
        print(f"robust_manifold: {error}", file=sys.stderr)
        return 2
    for note in found.notes:
        print(f"robust_manifold: {note}.", file=sys.stderr)
    print("\n".join(map(FORMATS[arguments.format], found.tables.values())), end="")
    return 0


def _write(folder: Path, found: Collected) -> None:
    for name, table in found.tables.items():
        for ending in WRITERS:
            text = WRITERS[ending](table)
            write_atomically(folder / f"{name}.{ending}", text.encode())
    if found.rows:
        figure = spreads(found.rows, axis="accuracy in %")
        write_atomically(folder / "accuracy.png", to_png(figure))


def _read(name: str, folder: Path) -> Run:
    """Returns what a run folder holds."""
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder; allowed: the folder of a run whose stage evaluate "
            "or measure has finished."
        )
    stored = Artefacts(folder)
    frames = {}
    for file, read in {
        "results.csv": read_results,
        "measures.csv": read_measures,
    }.items():
        # Where there is neither, the error is that of the second.
        if stored.holds(file) or (file == "measures.csv" and not frames):
            frames[file] = _frame(folder, file, read)
    config: dict[str, Any] = {}
    confidence = None
    if (folder / CONFIG).exists():
        config = read_config(folder)
        check_stored(config, folder / CONFIG)
        confidence = config.get("evaluation", {}).get("confidence")
    status = read_status(folder) if (folder / STATUS).exists() else {}
    return Run(
        name,
        folder,
        {key: value for key, value in flat(config).items() if key not in FREE},
        frozenset(status.get("swept", ())),
        confidence,
        frames.get("results.csv"),
        frames.get("measures.csv"),
    )


def _frame(
    folder: Path, file: str, read: Callable[[str], pd.DataFrame]
) -> pd.DataFrame:
    text = Artefacts(folder).read_text(file)
    try:
        frame = read(text)
    except UsageError as error:
        raise UsageError(f"{folder}: {error}") from None
    if frame.empty:
        raise UsageError(f"{folder / file} is empty; allowed: 1 line or more.")
    return frame


def _variants(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Returns what each run has but its seed, and notes on what no sweep changed."""
    keys = sorted({key for run in runs for key in run.config} - {_SEED})
    differing = [k for k in keys if len({run.config.get(k) for run in runs}) > 1]
    texts = [
        ", ".join(f"{key}={_plain(run.config.get(key))}" for key in differing)
        for run in runs
    ]
    swept = frozenset[str]().union(*(run.swept for run in runs))
    notes = []
    for key in differing if swept else ():
        if key not in swept:
            values = [_plain(run.config.get(key)) for run in runs]
            common = max(values, key=values.count)
            others = [r.name for r, v in zip(runs, values, strict=True) if v != common]
            notes.append(f"{', '.join(others)}: another {key}, which was not swept")
    return texts, notes


def _plain(value: str | None) -> str:
    """Returns a value of a config, stored as JSON, as it is read."""
    return "absent" if value is None else value.strip('"')


def _accuracies(
    runs: Sequence[Run], variants: Sequence[str], confidence: float | None
) -> tuple[Table, dict[str, Spread]]:
    """Returns the table of all lines of results.csv, and the rows of the figure."""
    cells: dict[tuple[str, ...], list[tuple[Run, Any]]] = {}
    for run, variant in zip(runs, variants, strict=True):
        for line in lines_of(run.results) if run.results is not None else ():
            key = variant, *(str(getattr(line, name)) for name in _ROW)
            cells.setdefault(key, []).append((run, line))
    lines = [line for each in cells.values() for _, line in each]
    heads = column_heads(map(column_of, lines))
    shown, numbers, rows = [], [], {}
    for (variant, *_), each in cells.items():
        line, values = each[0][1], [line.accuracy for _, line in each]
        mean = sum(values) / len(values)
        spread = pd.Series(values).std()
        low, high = line.accuracy_low, line.accuracy_high
        if len(values) > 1:
            low, high = mean_interval(values, confidence or 0.95)
        worst = min(each, key=lambda one: one[1].accuracy)
        seed = worst[0].config.get(_SEED, "")
        attack = attack_label(line.attack) if line.norm else ""
        names = [heads[column_of(line)], adversary_label(line.adversary)]
        names += [
            ", ".join(filter(None, [attack, budget_label(line.norm, line.epsilon)]))
        ]
        names = [variant, *names] if any(variants) else names
        deviation = f"{100 * spread:.1f}" if len(values) > 1 else "—"
        shown.append(
            [
                *names,
                f"{100 * mean:.1f} % [{100 * low:.1f}, {100 * high:.1f}]",
                *(deviation, str(len(values))),
                f"{seed} ({100 * worst[1].accuracy:.1f} %)",
            ]
        )
        texts = [getattr(line, name) for name in _ROW]
        numbers.append([variant, *texts, mean, spread, low, high, len(values), seed])
        numbers[-1].append(worst[1].accuracy)
        rows[" | ".join(names)] = Spread(values, mean, low, high)
    told = f"{100 * confidence:g} % intervals" if confidence else "intervals"
    caption = (
        f"Means over seeds, with {told} of the mean in brackets; {images_text(lines)} "
        "a run."
    )
    first = ["Config"] if any(variants) else []
    text = [
        *first,
        "Defence",
        "Adversary",
        "Attack",
        "Accuracy",
        "SD",
        "Runs",
        "Worst seed",
    ]
    measured = ["mean", "std", "low", "high", "runs", "worst_seed", "worst"]
    return (
        Table(
            "Accuracy over seeds",
            caption,
            pd.DataFrame(shown, columns=text),
            pd.DataFrame(numbers, columns=["config", *_ROW, *measured]),
            names=len(first) + 3,
        ),
        rows,
    )


def _measures(runs: Sequence[Run]) -> Table:
    """Returns the generators of all runs side by side."""
    found = [
        (run, run.measures, f" ({number + 1})" if len(run.measures) > 1 else "")
        for run in runs
        if run.measures is not None
        for number in range(len(run.measures))
    ]
    frames = {run.name: measures for run, measures, _ in found}
    return measures_table(
        pd.concat([*frames.values()], ignore_index=True),
        names=[run.name + number for run, _, number in found],
        confidence=found[0][0].confidence,
        times=True,
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """Returns the last parts of the paths, as many as tell them all apart.

    >>> _names([Path("/runs/a/best"), Path("/runs/b/best")])
    ['a/best', 'b/best']
    """
    longest = max(len(path.parts) for path in paths)
    names = []
    for kept in range(1, longest + 1):
        names = ["/".join(path.parts[-kept:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


if __name__ == "__main__":
    sys.exit(main())
