r"""Makes docs/results.md from finished runs, the same bytes from the same runs.

  python -m robust_manifold.results

makes the page anew from the records in docs/results/records, and

  python -m robust_manifold.results --record runs/mnist-0 runs/mnist-1

first takes up the records of these run folders: configs, versions, times and measured
lines, a few kilobytes each.  `--check` writes nothing and says whether the page is what
the records give.  With run folders but without --record, the page is made from these
alone.

What the page says in words about an experiment stands in docs/results/NAME.md, after
experiments/NAME.py.  Exit codes: 0 done; 1 the page is not what --check expects; 2 a
mistake in the command, or a run that cannot be used.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from robust_manifold.core.errors import UsageError
from robust_manifold.results.document import document
from robust_manifold.results.groups import group_runs
from robust_manifold.results.records import Run, read_records, read_run, record
from robust_manifold.runtime.arguments import Parser
from robust_manifold.runtime.artefacts import write_atomically


def main(argv: Sequence[str] | None = None) -> int:
    """Writes or checks the page and returns the exit code."""
    parser = Parser(prog="python -m robust_manifold.results", description=__doc__)
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="a finished run's folder"
    )
    parser.add_argument("--record", action="store_true", help="take up their records")
    parser.add_argument("--check", action="store_true", help="write nothing; compare")
    parser.add_argument("--docs", default="docs", help="the folder of the page")
    given = parser.parse_args(argv)
    page = Path(given.docs) / "results.md"
    try:
        if given.record and (given.check or not given.runs):
            other = "with --check" if given.check else "without a run"
            raise UsageError(f"--record is given {other}; allowed: --record RUN.")
        runs = _runs(given.runs, Path(given.docs) / "results" / "records", given.record)
        groups = group_runs(runs)
        text = document(groups, _texts(Path(given.docs) / "results")).encode()
    except UsageError as error:
        print(f"robust_manifold: {error}", file=sys.stderr)
        return 2
    if not given.check:
        write_atomically(page, text)
        print(f"{page}: {len(groups)} experiments, {len(runs)} runs")
    elif not page.is_file() or page.read_bytes() != text:
        again = "python -m robust_manifold.results"
        print(
            f"robust_manifold: {page} is not up to date: run {again}.", file=sys.stderr
        )
        return 1
    return 0


def _runs(folders: Sequence[str], records: Path, taken_up: bool) -> list[Run]:
    """Returns what the page is made from; takes up records first if asked to."""
    given = [read_run(folder) for folder in folders]
    if given and not taken_up:
        return given
    # All are read, and fit together, before the first is written.
    group_runs(given)
    for run in given:
        record(run, records)
    return read_records(records)


def _texts(folder: Path) -> Mapping[str, str]:
    """Returns what was written by hand, by the experiment's name."""
    files = sorted(folder.glob("*.md"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


if __name__ == "__main__":
    sys.exit(main())
