r"""Makes docs/results.md, and a page for each experiment, from finished runs.

  robust-manifold results

makes the pages anew from the records in docs/results/records, and

  robust-manifold results --record runs/mnist-0 runs/mnist-1

first takes up the records of these run folders: configs, versions, times and measured
lines, some hundred kilobytes at most.  `--check` writes nothing and says whether the
pages are what the records give, to the last byte.  With run folders but without
--record, they are made from these alone.

What a page says in words about an experiment stands in docs/results/words/NAME.md,
after experiments/NAME.py, and its first paragraph on the front page, too, with
docs/results/words/front.md.  Exit codes: 0 done; 1 a page is not what --check expects;
2 a mistake in the command, or a run that cannot be used.
"""

import sys
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path

from robust_manifold.core.errors import UsageError
from robust_manifold.findings import Group, Run
from robust_manifold.reporting.figures import to_png
from robust_manifold.results.document import (
    FRONT,
    MARK,
    PICTURE,
    pages,
    picture_of_unions,
)
from robust_manifold.results.front import front_columns, front_figure
from robust_manifold.results.groups import differences, group_runs
from robust_manifold.results.page import read_page
from robust_manifold.results.records import read_records, read_run, record
from robust_manifold.results.side_by_side import union_picture
from robust_manifold.runtime import storage
from robust_manifold.runtime.arguments import Parser
from robust_manifold.runtime.artefacts import write_atomically


def main(argv: Sequence[str] | None = None) -> int:
    """Writes or checks the page and returns the exit code."""
    parser = Parser(prog="robust-manifold results", description=__doc__)
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="a finished run's folder"
    )
    parser.add_argument("--record", action="store_true", help="take up their records")
    parser.add_argument("--check", action="store_true", help="write nothing; compare")
    parser.add_argument("--docs", default="docs", help="the folder of the pages")
    given = parser.parse_args(argv)
    docs = Path(given.docs)
    records = docs / "results" / "records"
    try:
        if given.record and (given.check or not given.runs):
            other = "with --check" if given.check else "without a run"
            raise UsageError(f"--record is given {other}; allowed: --record RUN.")
        own = [read_run(folder) for folder in given.runs]
        runs = _with_records(own, records) if given.record or not own else own
        known = read_page()
        groups = group_runs(runs, known.order)
        made = pages(groups, _texts(docs / "results" / "words"), known)
        if given.check:
            return _check(docs, made)
        _refuse_to_replace(docs, made)
        # Nothing is recorded before all of it has given its pages.
        for run in own if given.record else ():
            _tell_replaced(run, records)
            record(run, records)
        _write(docs, made)
        if columns := front_columns(groups, known.front):
            write_atomically(docs / PICTURE, to_png(front_figure(columns)))
        _draw_unions(docs, groups)
    except UsageError as error:
        return _refuse(error)
    except OSError as error:
        return _refuse(storage.refused(error, given.docs))
    counts = ", ".join(
        (
            _count({group.first.experiment for group in groups}, "experiment"),
            _count(runs, "run"),
            _count(made, "page"),
        )
    )
    print(f"{docs / FRONT}: {counts}")
    return 0


def _refuse(error: UsageError) -> int:
    print(f"robust_manifold: {error}", file=sys.stderr)
    return 2


def _write(docs: Path, made: Mapping[str, str]) -> None:
    """Writes the pages, and removes those of which there is no record any more."""
    for name, text in made.items():
        write_atomically(docs / name, text.encode())
    for page in _stale(docs, made):
        page.unlink()


def _draw_unions(docs: Path, groups: Sequence[Group]) -> None:
    """Writes the figure of unions of every experiment that has one."""
    experiments: dict[str, list[Group]] = {}
    for group in groups:
        experiments.setdefault(group.first.experiment, []).append(group)
    for name, own in experiments.items():
        if (figure := union_picture(own)) is not None:
            write_atomically(docs / picture_of_unions(name), to_png(figure))


def _check(docs: Path, made: Mapping[str, str]) -> int:
    """Names the first page that is not as it should be, and returns the exit code."""
    wrong = [
        docs / name
        for name, text in made.items()
        if not (docs / name).is_file() or (docs / name).read_bytes() != text.encode()
    ]
    for page in [*wrong, *_stale(docs, made)][:1]:
        print(
            f"robust_manifold: {page} is not up to date: run robust-manifold results.",
            file=sys.stderr,
        )
        return 1
    return 0


def _refuse_to_replace(docs: Path, made: Mapping[str, str]) -> None:
    """Raises if a page would take the place of what was written by hand."""
    for page in (docs / name for name in made if name != FRONT):
        if page.is_file() and not _is_made(page):
            raise UsageError(
                f"{page} was not made by this command; allowed: words about an "
                f"experiment in {page.parent / 'words'}."
            )


def _stale(docs: Path, made: Mapping[str, str]) -> list[Path]:
    """Returns pages that were made of records which are no more."""
    found = sorted((docs / "results").glob("*.md"))
    others = [page for page in found if page.relative_to(docs).as_posix() not in made]
    return [page for page in others if _is_made(page)]


def _is_made(page: Path) -> bool:
    return page.read_bytes().startswith(MARK.encode())


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


def _count(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'s' if len(things) > 1 else ''}"


def _texts(folder: Path) -> Mapping[str, str]:
    """Returns what was written by hand, by the experiment's name."""
    files = sorted(folder.glob("*.md"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}


if __name__ == "__main__":
    sys.exit(main())
