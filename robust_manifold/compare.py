r"""Sets the generators of several runs side by side, in one table of their measures.

  robust-manifold compare runs/minimax runs/wgan_gp --format=md

reads the file measures.csv of each run folder, which the stage `measure` writes, and
prints the table; a column is called after its folder. Exit codes: 0 done; 2 a mistake
in the command or the files.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from robust_manifold.config import check_stored
from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import read_measures
from robust_manifold.findings.measures_table import measures_table
from robust_manifold.reporting import WRITERS, Table, to_console
from robust_manifold.runtime import storage
from robust_manifold.runtime.arguments import Parser
from robust_manifold.runtime.artefacts import Artefacts
from robust_manifold.runtime.run_folder import CONFIG, read_config

FORMATS: Mapping[str, Callable[[Table], str]] = {
    "console": to_console,
    **{name: WRITERS[name] for name in ("md", "tex", "csv")},
}
"""What writes the table, by the value of --format."""


def table_of(folders: Sequence[str | os.PathLike[str]]) -> Table:
    """Returns the table of the runs in these folders, in their order.

    Raises:
      UsageError: if a folder is given twice, or holds no measures or damaged ones; or
        if the intervals of two runs are not of one confidence.
    """
    paths = [Path(folder) for folder in folders]
    resolved = [path.resolve() for path in paths]
    for place, path in enumerate(resolved):
        if path in resolved[:place]:
            raise UsageError(f"{paths[place]} is given twice; allowed: once.")
    frames = [_measures(path) for path in paths]
    confidences = {_confidence(path) for path in paths}
    if len(confidences) > 1:
        raise UsageError(
            "evaluation.confidence is not the same in all runs; allowed: runs whose "
            "intervals can be compared."
        )
    names = [
        name if len(frame) == 1 else f"{name} ({number})"
        for name, frame in zip(_names(resolved), frames, strict=True)
        for number in range(1, len(frame) + 1)
    ]
    return measures_table(
        pd.concat(frames, ignore_index=True),
        names=names,
        confidence=confidences.pop(),
        times=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table and returns the exit code; 2 for a mistake of the user."""
    parser = Parser(prog="robust-manifold compare", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--format", choices=list(FORMATS), default="console", help="of the table"
    )
    arguments = parser.parse_args(argv)
    try:
        table = table_of(arguments.runs)
    except (UsageError, OSError) as error:
        if isinstance(error, OSError):
            error = storage.refused(error, "a run folder")
        print(f"robust_manifold: {error}", file=sys.stderr)
        return 2
    print(FORMATS[arguments.format](table), end="")
    return 0


def _measures(folder: Path) -> pd.DataFrame:
    """Returns the lines of a run's measures.csv."""
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder; allowed: the folder of a run whose stage measure "
            "has finished."
        )
    text = Artefacts(folder).read_text("measures.csv")
    try:
        frame = read_measures(text)
    except UsageError as error:
        raise UsageError(f"{folder}: {error}") from None
    if frame.empty:
        raise UsageError(f"{folder / 'measures.csv'} is empty; allowed: 1 generator.")
    return frame


def _confidence(folder: Path) -> float | None:
    """Returns the confidence of a run's intervals; None where it is not known."""
    if not (folder / CONFIG).exists():
        return None
    config = read_config(folder)
    check_stored(config, folder / CONFIG)
    return config["evaluation"]["confidence"] if "evaluation" in config else None


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
