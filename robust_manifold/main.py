r"""Trains, attacks, defends and reports one experiment.

  robust-manifold run --config=mnist_quick

runs those stages of the experiment that have not finished yet, of:

{stages}

Killing it at any moment is safe; the same command goes on where it was. The results
lie in the workdir: report/report.html is for reading, results.csv, measures.csv and
diagnostics.csv for further work.

Any key of the config can be changed on the command line:

  robust-manifold run --config=mnist_quick \
      --workdir=runs/stronger --config.evaluation.examples=200 \
      --config.evaluation.attacks="('pgd(epsilon=0.2, steps=100)',)"

Exit codes: 0 done; 1 a defect of the program; 2 a mistake in the command, the config
or the files; 3 a training that diverged; 128 + N stopped by the signal of number N
(TERM, INT, USR1, USR2 or HUP), at most ten seconds after it.

The keys of a config, with their defaults:

"""

import signal
import sys

if __name__ == "__main__" and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    # An exception that comes within a callback, as of JAX's, would be ignored.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from absl import app, flags  # noqa: E402

from robust_manifold import command_line, experiment  # noqa: E402
from robust_manifold.core.errors import UsageError  # noqa: E402

# So that --help shows them.
flags.adopt_module_key_flags(command_line)

__doc__ = (__doc__ or "").format(stages=command_line.describe_stages())
__doc__ += command_line.describe()


def _parse(argv: list[str]) -> list[str]:
    try:
        return command_line.parse(argv)
    except UsageError as error:
        command_line.exit_with(error)
        raise


def main(argv: list[str]) -> None:
    """Runs the experiment of the parsed command line."""
    del argv
    try:
        arguments = command_line.arguments()
        code = experiment.run(*arguments, command=sys.argv)
    except UsageError as error:
        command_line.exit_with(error)
    else:
        sys.exit(code)


if __name__ == "__main__":
    app.run(main, flags_parser=_parse)
