"""The console command `robust-manifold`: one name for the modules that are run."""

import runpy
import sys

from robust_manifold.core.errors import unknown_name
from robust_manifold.version import __version__

# The command, its module, and what it is for.
COMMANDS = {
    "run": ("main", "train, attack, defend and report an experiment"),
    "evaluate": ("robustness.command", "say what a classifier is worth under attack"),
    "project": ("project", "project images onto the range of a run's generator"),
    "weights": ("weights", "show, export, import and publish networks"),
    "sweep": ("sweep", "run all runs of a sweep, here or on a cluster"),
    "collect": ("collect", "set runs side by side, with means over their seeds"),
    "leaderboard": ("leaderboard.command", "score a defence, or challenge an entry"),
    "results": ("results", "make one page from the records of finished runs"),
}

HELP = "\n".join(
    [
        "Usage: robust-manifold COMMAND ...; each has its own --help.",
        "",
        *(f"  {name:<11} {meaning}" for name, (_, meaning) in COMMANDS.items()),
        f"  {'--version':<11} print the version",
    ]
)


def main() -> None:
    """Runs the module of a command with the arguments that follow it.

    As `python -m` does: what a module says of itself and its exit code stay its own.
    """
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h"):
        print(HELP)
    elif name == "--version":
        print(f"robust-manifold {__version__}")
    elif name in COMMANDS:
        sys.argv = [sys.argv[0], *arguments]
        module = f"robust_manifold.{COMMANDS[name][0]}"
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        error = unknown_name("command", name, COMMANDS)
        print(f"robust_manifold: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
