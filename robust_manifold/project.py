r"""Projects a user's images onto the range of a trained run's generator.

  robust-manifold project --run=runs/mnist_quick --input=photos \
      --output=projected

searches the folder `photos`, its sub-folders too, for PNG and JPEG files, and finds the
latent of the run's generator whose image is nearest to each; the run's encoder gives
first guesses where it has one. No data set is needed. --input can be an .npz file too,
with the array images: uint8 or floats in [0, 1], [n, height, width(, channels)].

The output folder holds
  projections.csv    one line an image: error (mean squared error per pixel), norm
                     (plain Euclidean norm of the difference), status of the best
                     restart, near_best (share of restarts within 5 % of the best
                     error), rejected (with --reject_above), reason why it was skipped
  projections/       NAME.png of each image (of an .npz: if it holds 100 or fewer)
  projections.npz    of an .npz: images, latents, errors, statuses, restart_errors,
                     restart_statuses, ids, and rows, their places in the input
  pictures/          original, projection and difference side by side
  rounds/            what is computed, piece by piece, latents included
An image's result depends on its pixels and the settings, not on what lies beside it.

Killing it at any moment is safe: the same command goes on where it was, and once all is
done it prints the summary again. Another command needs another output folder.

An image must have the size and the channels of the generator's images, 8 bits a channel
and no transparency; grey images do for a generator of colour, and colour images whose
channels are equal for a grey one. Photos are turned upright; of several pictures in a
JPEG the first counts. What cannot be used is named and skipped.

Exit codes: 0 all images were projected; 1 some were skipped, or a defect of the
program; 2 a mistake in the command or the files, or with --strict in an image; 128 + N
stopped by the signal of number N, at most ten seconds after it.
"""

import argparse
import math
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import jax

from robust_manifold import inversion
from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import ProjectionSummary
from robust_manifold.runtime import (
    GracefulStop,
    Interrupted,
    console,
    devices,
    storage,
)
from robust_manifold.runtime.arguments import Parser
from robust_manifold.stages.projecting import projection, projection_files

T = TypeVar("T")

SKIPPED = 1
"""Exit code if images were skipped."""


def _parser() -> Parser:
    solver = inversion.registry.to_string(inversion.DEFAULT_SOLVER)
    restarts = inversion.restarts_registry.to_string(inversion.DEFAULT_RESTARTS)
    parser = Parser(prog="robust-manifold project", description=__doc__)
    parser.add_argument("--run", required=True, help="the workdir of the run")
    parser.add_argument("--input", required=True, help="a folder or an .npz file")
    parser.add_argument("--output", required=True, help="a folder, made if needed")
    parser.add_argument("--solver", default=solver, help=f"as in a config ({solver})")
    parser.add_argument(
        "--restarts", default=restarts, help=f"a number, or as in a config ({restarts})"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the starts (0)")
    parser.add_argument(
        "--batch_size", type=int, help="images at a time (as many as memory allows)"
    )
    parser.add_argument(
        "--reject_above",
        type=float,
        metavar="ERROR",
        help="mark images whose error is above this, as far from the generator's",
    )
    parser.add_argument(
        "--resize",
        action="store_true",
        help="cut and resize images as those of the run were, by its data.crop and "
        "data.image_size; images too small for the cut that have the right size stay",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="stop at the first image that cannot be used, before any is projected",
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=5,
        metavar="N",
        help=f"sheets of {projection_files.PER_SHEET} images, at most, of the first "
        "images (5)",
    )
    return parser


def _request(arguments: argparse.Namespace) -> projection.Request:
    """Returns the command line, checked."""
    limit = arguments.reject_above
    checks = {
        "seed": (0 <= arguments.seed < 2**32, "0 to 4294967295"),
        "batch_size": (
            arguments.batch_size is None or arguments.batch_size >= 1,
            "1 or more",
        ),
        "reject_above": (
            limit is None or 0 <= limit < math.inf,
            "a finite number, 0 or more",
        ),
        "pictures": (arguments.pictures >= 0, "0 or more"),
    }
    for flag, (holds, allowed) in checks.items():
        if not holds:
            value = getattr(arguments, flag)
            raise UsageError(f"--{flag} is {value}; allowed: {allowed}.")
    return projection.Request(
        run=Path(arguments.run),
        images=Path(arguments.input),
        output=Path(arguments.output),
        solver=_spec("solver", inversion.as_solver, arguments.solver),
        restarts=_spec("restarts", inversion.as_restarts, arguments.restarts),
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        reject_above=limit,
        resize=arguments.resize,
        strict=arguments.strict,
        pictures=arguments.pictures,
    )


def _spec(flag: str, build: Callable[[str], T], text: str) -> T:
    """Returns what a flag's text describes; errors name the flag."""
    try:
        return build(text)
    except UsageError as error:
        raise UsageError(f"--{flag}: {error}") from None


def describe(summary: ProjectionSummary, request: projection.Request) -> str:
    """Returns the summary as lines of text."""
    lines = [f"projected  {summary.projected}", f"skipped    {summary.skipped}"]
    if summary.projected:
        statuses = (f"{n} {name}" for name, n in summary.statuses.items())
        lines += [
            f"error      median {summary.error_median:.6g}, 90 % quantile "
            f"{summary.error_90:.6g} (mean squared error per pixel)",
            f"status     {', '.join(statuses)}",
        ]
    if summary.rejected is not None:
        lines.append(
            f"rejected   {summary.rejected}, with an error above {request.reject_above}"
        )
    made = (
        projection_files.LINES,
        projection_files.ARRAYS,
        projection_files.IMAGES,
        projection_files.SHEETS,
    )
    there = [name for name in made if (request.output / name).exists()]
    lines.append(f"files      {request.output}: {', '.join(there)}")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Projects the images and returns the exit code."""
    arguments = _parser().parse_args(argv)
    console.setup()
    stop = GracefulStop()
    try:
        request = _request(arguments)
        devices.initialise()
        if jax.process_count() > 1:
            raise UsageError(
                f"this job has {jax.process_count()} processes; allowed: 1, with any "
                "number of devices."
            )
        with stop:
            summary = projection.run(request, stop)
    except (UsageError, OSError) as error:
        if isinstance(error, OSError):
            error = storage.refused(error, arguments.run)
        print(f"robust_manifold: {error}", file=sys.stderr)
        return 2
    except Interrupted as error:
        console.warning(f"{error}; the same command goes on from there.")
        return 128 + (stop.signal or signal.SIGTERM)
    console.show(describe(summary, request))
    return SKIPPED if summary.skipped else 0


if __name__ == "__main__":
    sys.exit(main())
