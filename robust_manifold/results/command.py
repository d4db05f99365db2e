r"""Makes docs/results.md from finished runs, the same bytes from the same runs.

  python -m robust_manifold.results

makes the page anew from the records in docs/results/records, and

  python -m robust_manifold.results --record runs/mnist-0 runs/mnist-1

first takes up the records of these run folders: configs, versions, times and measured
lines, some hundred kilobytes at most.  `--check` writes nothing and says whether the
page is what the records give.  With run folders but without --record, the page is made
from these alone.

What the page says in words about an experiment stands in docs/results/NAME.md, after
experiments/NAME.py.  Exit codes: 0 done; 1 the page is not what --check expects; 2 a
mistake in the command, or a run that cannot be used.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_manifold.core.errors import UsageError
from robust_manifold.findings import Group, Run
from robust_manifold.results.document import document
from robust_manifold.results.groups import differences, group_runs
from robust_manifold.results.page import read_page
from robust_manifold.results.records import read_records, read_run, record
from robust_manifold.runtime import storage
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
    records = Path(given.docs) / "results" / "records"
    try:
        if given.record and (given.check or not given.runs):
            other = "with --check" if given.check else "without a run"
            raise UsageError(f"--record is given {other}; allowed: --record RUN.")
        own = [read_run(folder) for folder in given.runs]
        runs = _with_records(own, records) if given.record or not own else own
        known = read_page()
        groups = group_runs(runs, known.order)
        text = document(groups, _texts(Path(given.docs) / "results"), known).encode()
        if given.check:
            return _check(page, text)
        # Nothing is recorded before all of it has given a page.
        for run in own if given.record else ():
            _tell_replaced(run, records)
            record(run, records)
        write_atomically(page, text)
    except UsageError as error:
        return _refuse(error)
    except OSError as error:
        return _refuse(storage.refused(error, given.docs))
    print(f"{page}: {_count(groups, 'experiment')}, {_count(runs, 'run')}")
    return 0


def _refuse(error: UsageError) -> int:
    print(f"robust_manifold: {error}", file=sys.stderr)
    return 2


def _check(page: Path, text: bytes) -> int:
    """Says so if the page is not the text, and returns the exit code."""
    if page.is_file() and page.read_bytes() == text:
        return 0
    print(
        f"robust_manifold: {page} is not up to date: run "
        "python -m robust_manifold.results.",
        file=sys.stderr,
    )
    return 1


def _with_records(own: Sequence[Run], records: Path) -> list[Run]:
    """Returns the runs with the records that theirs do not replace.

    Raises:
      UsageError: if there are none, or two of the runs would have one record.
    """
    found: dict[str, Run] = {}
    for run in own:
        if (other := found.setdefault(run.name, run)) is not run:
            raise UsageError(
                f"{other.folder} and {run.folder} hold the same experiment with the "
                f"seed {run.seed}, and would both be recorded as {run.name}; allowed: "
                "each seed once."
            )
    return [*own, *read_records(records, found)]


def _tell_replaced(run: Run, records: Path) -> None:
    """Says so if a run's record replaces one of another config."""
    try:
        old = read_run(records / run.name)
    except UsageError:
        # There is none, or it is damaged.
        return
    if found := differences(Group((run,)), Group((old,))):
        print(f"{old.folder}: replaces a record of another config ({found[0]})")


def _count(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'s' if len(things) > 1 else ''}"


def _texts(folder: Path) -> Mapping[str, str]:
    """Returns what was written by hand, by the experiment's name."""
    files = sorted(folder.glob("*.md"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


if __name__ == "__main__":
    sys.exit(main())
