r"""Scores a defence of your own for the leaderboard, or challenges an entry.

  robust-manifold leaderboard evaluate FILE.py

attacks the entry that FILE.py describes, on the first {digits} official test digits of
MNIST, for {minutes} minutes at most (fewer digits where that is too short), with its
audit, and puts file, weights and figures into the board.  Killed, the same command goes
on from there.  FILE.py has a docstring and a function

  def entry():
      return {{"defence": purify}}

whose dict may have what `robust_manifold.evaluate` takes: defence, classifier (by
default the published {classifier}) and networks; and title, source (an address) and
claimed (percent by row).  Weights that lie beside it are named with their SHA-256:
WEIGHTS = {{"FILE.safetensors": "9f86d0..."}}.

  robust-manifold leaderboard challenge ENTRY IMAGES.npz --by="A. Name"

counts your adversarial images: `images` [m, 28, 28, 1], floats in [0, 1], and `ids`
[m], of each the place of its digit among the test digits.  What the entry gets wrong
lowers all rows whose ball an image lies in.

  robust-manifold leaderboard page

makes docs/leaderboard.md of the records; --check says whether it is what they give.

An entry is code.  It runs without a network and with {gigabytes} GB of memory, but as
you: it can read and write your files.  Read it first.

Exit codes: 0 done; 1 the page is not what --check expects; 2 a mistake in the command,
the entry or the images; 130 or 143 stopped by a signal.
"""

import argparse
import hashlib
import importlib.metadata
import secrets
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.leaderboard import (
    challenge,
    entry,
    isolation,
    judging,
    records,
    rules,
)
from robust_manifold.leaderboard.page import page
from robust_manifold.runtime import storage
from robust_manifold.runtime.arguments import Parser
from robust_manifold.runtime.artefacts import Artefacts, write_atomically

_BOARD, _DOCS = "leaderboard", "docs"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one of the commands and returns the exit code."""
    given = _parser().parse_args(argv)
    try:
        return given.call(given)
    except UsageError as error:
        print(f"robust_manifold: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        refused = storage.refused(error, given.board)
        print(f"robust_manifold: {refused}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> Parser:
    words = {
        "digits": rules.DIGITS,
        "minutes": f"{rules.MINUTES:g}",
        "classifier": rules.CLASSIFIER,
        "gigabytes": rules.GIGABYTES,
    }
    text = (__doc__ or "").format(**words)
    parser = Parser(prog="robust-manifold leaderboard", description=text)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    scored = commands.add_parser("evaluate", help="attack an entry")
    scored.add_argument("file", type=Path, metavar="FILE.py")
    scored.add_argument("--folder", type=Path, help="of what is kept on the way")
    sought = commands.add_parser("challenge", help="count images against an entry")
    sought.add_argument("entry", metavar="ENTRY")
    sought.add_argument("images", type=Path, metavar="IMAGES.npz")
    sought.add_argument("--by", default="anonymous", help="who made them")
    made = commands.add_parser("page", help="make the page of the records")
    made.add_argument("--check", action="store_true", help="write nothing; compare")
    calls = {_evaluate: scored, _challenge: sought, _page: made}
    for call, command in calls.items():
        command.set_defaults(call=call)
        command.add_argument("--board", type=Path, default=Path(_BOARD))
        command.add_argument("--docs", type=Path, default=Path(_DOCS))
        if call is not _page:
            command.add_argument(
                "--trusted",
                action="store_true",
                help="you have read the entry: run it where it may reach the network",
            )
    return parser


def _evaluate(given: argparse.Namespace) -> int:
    stated = entry.stated(given.file)
    # Before any work: without them there is nothing to attack.
    rules.digits()
    kept = given.board / f"{stated.name}.json"
    if kept.exists():
        known = records.read(kept)
        if (stated.checksum, stated.weights) != (known.checksum, known.weights):
            raise UsageError(
                f"{given.file} is another file than the entry {stated.name}, which "
                "keeps what fell; allowed: another name."
            )
    versions = _versions()
    # What is kept on the way belongs to this file and its weights alone.
    sums = " ".join([stated.checksum, *stated.weights.values()])
    digest = hashlib.sha256(sums.encode()).hexdigest()[:12]
    own = Path("evaluations") / f"leaderboard-{stated.name}-{digest}"
    folder = given.folder or own
    folder.mkdir(parents=True, exist_ok=True)
    file = given.file.resolve()
    if code := isolation.run("score", file, folder.resolve(), trusted=given.trusted):
        return code
    score = Artefacts(folder).read_json(judging.SCORE)
    record = records.made(stated, score, versions)
    given.board.mkdir(parents=True, exist_ok=True)
    if kept.exists():
        record = records.joined(record, records.read(kept))
    for name in (given.file.name, *stated.weights):
        here, there = given.file.parent / name, given.board / name
        if here.resolve() != there.resolve():
            shutil.copyfile(here, there)
    records.write(record, given.board)
    return _told(record, given)


def _challenge(given: argparse.Namespace) -> int:
    known = {each.name: each for each in records.read_all(given.board)}
    if given.entry not in known:
        raise unknown_name("entry", given.entry, sorted(known))
    if not entry.is_line(given.by) or not 0 < len(given.by) <= 80:
        raise UsageError(
            f"--by is {given.by!r}; allowed: a text of one line, 80 characters at "
            f"most, without any of {entry.MARKUP}."
        )
    record = known[given.entry]
    file = given.board / f"{record.name}.py"
    stated = entry.stated(file)
    if (stated.checksum, stated.weights) != (record.checksum, record.weights):
        raise UsageError(f"{file} is not what was scored; allowed: evaluate it anew.")
    sought = challenge.read(given.images, record.n)
    with tempfile.TemporaryDirectory() as folder:
        files = Artefacts(folder)
        salt = secrets.token_hex(16)
        files.write_npz(judging.SOUGHT, {"images": sought.images, "ids": sought.ids})
        files.write_json(judging.SALT, salt)
        path = Path(folder)
        if code := isolation.run("judge", file, path, trusted=given.trusted):
            return code
        verdict = Artefacts(folder).read_json(judging.VERDICT)
    chosen, counted = (np.array(verdict[use]) for use in ("chosen", "counted"))
    by_row = challenge.wrong_by_row(sought, chosen, counted, record.n)
    lower = record.fallen(by_row)
    fell = {
        row: count
        for row in record.wrong
        if (count := _changed(record.wrong[row], lower.wrong[row]))
    }
    if not fell:
        print(f"{record.name}: none of the {len(sought.ids)} images lowers a row.")
        return 0
    checksum = hashlib.sha256(given.images.read_bytes()).hexdigest()
    entered = (*lower.challenges, [given.by, checksum, fell, salt])
    lower = records.with_challenges(lower, entered)
    records.write(lower, given.board)
    told = ", ".join(
        f"{row} {100 * record.right(row):.1f} -> {100 * lower.right(row):.1f}"
        for row in fell
    )
    print(f"{record.name}: {told}")
    return _told(lower, given)


def _changed(before: Sequence[int], after: Sequence[int]) -> int:
    return sum(old != new for old, new in zip(before, after, strict=True))


def _told(record: records.Record, given: argparse.Namespace) -> int:
    """Makes the page anew, and says where everything lies."""
    _write_page(given)
    figures = ", ".join(f"{row} {100 * record.right(row):.1f}" for row in record.wrong)
    print(f"{record.name}: {figures} % of {record.n} digits")
    for name, _, sentence in record.flags:
        print(f"FLAG {name}: {sentence}")
    print(f"files      {given.board}: {record.name}.py, {record.name}.json")
    return 0


def _page(given: argparse.Namespace) -> int:
    if given.check:
        path = given.docs / "leaderboard.md"
        text = page(records.read_all(given.board))
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return 0
        print(
            f"robust_manifold: {path} is not up to date: run robust-manifold "
            "leaderboard page.",
            file=sys.stderr,
        )
        return 1
    print(f"{_write_page(given)}: {len(records.read_all(given.board))} entries")
    return 0


def _write_page(given: argparse.Namespace) -> Path:
    path = given.docs / "leaderboard.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page(records.read_all(given.board)).encode())
    return path


def _versions() -> dict[str, str]:
    names = ("robust_manifold", "jax")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    sys.exit(main())
