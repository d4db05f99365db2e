r"""Says what a classifier of your own, behind a defence of your own, is worth.

  robust-manifold evaluate mine.py --effort=quick --linf=0.1,0.3

calls the function evaluation() of the file mine.py and evaluates what it returns, a
dict of arguments of `robust_manifold.evaluate`:

  def evaluation():
      return {
          "classifier": (apply, params),
          "images": images,
          "labels": labels,
          "defence": rounded,
      }

classifier, images and labels are needed; with them may come
{optional}.
mine.py:NAME calls evaluation("NAME"), where a file has variants.

The figures are printed, flags first. The folder holds report.html for reading, and
evaluation.npz, evaluation.json, lines.csv and plot.png; `Evaluation.load` reads it.

Killing it at any moment is safe: the same command goes on where it was, and once all is
done it prints the figures again. Another evaluation needs another folder.

Exit codes: 0 done; 1 a defect of the program; 2 a mistake in the command or the file;
130 or 143 stopped by a signal.
"""

import argparse
import contextlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.evaluation.cascades import NORMS
from robust_manifold.evaluation.cascades.effort import EFFORTS
from robust_manifold.robustness.evaluation import Evaluation
from robust_manifold.robustness.one_call import evaluate
from robust_manifold.robustness.user_file import UserFile
from robust_manifold.runtime import console, devices, storage
from robust_manifold.runtime.arguments import Parser

_NEEDED = ("classifier", "images", "labels")
_ARGUMENTS = tuple(
    name
    for name in inspect.signature(evaluate).parameters
    if name not in ("on_progress", "folder")
)
"""What a file may give; the rest is the command's."""
_OPTIONAL = ", ".join(name for name in _ARGUMENTS if name not in _NEEDED)


def _parser() -> Parser:
    parser = Parser(
        prog="robust-manifold evaluate",
        description=(__doc__ or "").replace("{optional}", _OPTIONAL),
    )
    parser.add_argument(
        "file", metavar="FILE.py", help="with a function evaluation(); or FILE.py:NAME"
    )
    parser.add_argument(
        "--effort", help=f"{', '.join(EFFORTS)}; before that of the file"
    )
    for norm in NORMS:
        parser.add_argument(
            f"--{norm}",
            metavar="R,R",
            help=f"radii of {norm} balls, in place of the file's epsilons",
        )
    parser.add_argument(
        "--examples", type=int, metavar="N", help="the first N images alone"
    )
    parser.add_argument(
        "--folder", help="of the results (evaluations/FILE, evaluations/FILE-NAME)"
    )
    return parser


def _radii(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError:
        raise UsageError(
            f"--{flag} is {text!r}; allowed: radii, such as 0.1,0.3."
        ) from None


def _arguments(given: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `evaluate`: the file's, changed by the command's."""
    path, name = _path(given.file)
    arguments = _called(path, name)
    if given.effort is not None:
        arguments["effort"] = given.effort
    texts = {norm: getattr(given, norm) for norm in NORMS}
    radii = {norm: _radii(norm, text) for norm, text in texts.items() if text}
    if radii:
        arguments["epsilons"] = radii
    if (n := given.examples) is not None:
        if n < 1:
            raise UsageError(f"--examples is {n}; allowed: 1 or more.")
        for each in {"images", "labels", "ids"} & set(arguments):
            # Of what has no first elements, `evaluate` says what is wrong with it.
            with contextlib.suppress(TypeError, IndexError):
                arguments[each] = arguments[each][:n]
    variant = f"-{name}" if name else ""
    folder = given.folder or Path("evaluations") / f"{path.stem}{variant}"
    return arguments | {"folder": folder}


def _path(text: str) -> tuple[Path, str]:
    """Returns a file and what its function is called with: FILE.py:NAME."""
    path = Path(text)
    name, _, argument = path.name.partition(":")
    path = path.with_name(name) if name else path
    return path, argument


def _called(path: Path, name: str) -> dict[str, Any]:
    """Returns what a file's evaluation() returns.

    Raises:
      UsageError: if the file fails, or returns no arguments of `evaluate`.
    """
    file = UserFile(path)
    if (function := file.function("evaluation")) is None:
        raise UsageError(
            f"{path} defines no function evaluation(); allowed: one that returns a "
            f"dict of {', '.join(_NEEDED)}, and any of {_OPTIONAL}."
        )
    found = file.called(function, *[name] * bool(name))
    if not isinstance(found, Mapping):
        raise UsageError(
            f"evaluation() of {path} returns a {type(found).__name__}; allowed: a dict "
            f"of {', '.join(_NEEDED)}, and any of {_OPTIONAL}."
        )
    for each in found:
        if each not in _ARGUMENTS:
            raise unknown_name("argument of evaluation():", each, _ARGUMENTS)
    if missing := [each for each in _NEEDED if each not in found]:
        raise UsageError(
            f"evaluation() of {path} returns no {missing[0]}; allowed: a dict of "
            f"{', '.join(_NEEDED)}, and any of {_OPTIONAL}."
        )
    return dict(found)


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluates what a file gives and returns the exit code."""
    given = _parser().parse_args(argv)
    console.setup()
    try:
        devices.initialise()
        arguments = _arguments(given)
        folder = arguments["folder"]
        found: Evaluation = evaluate(**arguments)
        found.save(folder)
        console.show(f"{found}\n\nfiles      {folder}: report.html, evaluation.npz")
    except (UsageError, OSError) as error:
        if isinstance(error, OSError):
            error = storage.refused(error, given.folder or "the folder")
        print(f"robust_manifold: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        console.warning("stopped; the same command goes on from there.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
