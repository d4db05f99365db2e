"""What runs beside an entry's code: its evaluation, and its verdict on given images.

This is the program of the process that an entry runs in; see `isolation`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from robust_manifold.core import keys
from robust_manifold.core.errors import UsageError
from robust_manifold.leaderboard import entry, rules
from robust_manifold.robustness import evaluate
from robust_manifold.robustness.judged import wrong_under
from robust_manifold.robustness.subject import digest_of
from robust_manifold.runtime import console, devices
from robust_manifold.runtime.artefacts import Artefacts

SCORE = "score.json"
VERDICT = "verdict.json"
SOUGHT = "images.npz"
SALT = "salt.json"
_MEMORY = "RESOURCE_EXHAUSTED"
"""How XLA says that there is none left."""


def score(path: Path, folder: Path) -> None:
    """Attacks an entry and writes what is left of it, image by image.

    Args:
      path: its file.
      folder: of what is kept: a call that was killed goes on from there.
    """
    loaded = entry.load(path)
    images, labels = rules.digits()
    found = evaluate(
        images=images,
        labels=labels,
        epsilons={**rules.BALLS},
        effort=rules.EFFORT,
        checks=rules.CHECKS,
        minutes=rules.MINUTES,
        folder=folder / "rounds",
        **loaded.arguments,
    )
    n = len(found.labels)
    print(found, file=sys.stderr)
    found.save(folder / "evaluation")
    sets = {"clean": found.clean_images}
    by = {"clean": []}
    for line, budget in zip(found.lines[1:], found.budgets, strict=True):
        row = f"{line.norm} {line.epsilon:g}"
        sets[row], by[row] = budget.images, [list(each) for each in line.broken_by[:3]]
    ids = np.arange(n)
    Artefacts(folder).write_json(
        SCORE,
        {
            **loaded.words,
            "n": n,
            "minutes": round(found.seconds / 60, 1),
            "gradients": round(sum(line.gradients for line in found.lines)),
            "outputs": round(sum(line.outputs for line in found.lines)),
            "wrong": {
                row: wrong(loaded, attacked, labels[:n], ids).tolist()
                for row, attacked in sets.items()
            },
            "by": by,
            "audit": [[c.name, c.verdict, c.sentence] for c in found.audit],
            "notes": list(found.notes),
        },
    )


def judge(path: Path, folder: Path) -> None:
    """Writes under how many keys an entry is wrong on images of others.

    Args:
      path: its file.
      folder: with `SOUGHT`: images [n, 28, 28, 1] and the ids [n] of their digits.
    """
    loaded = entry.load(path)
    sought = Artefacts(folder).read_npz(SOUGHT)
    ids = sought["ids"]
    _, labels = rules.digits()
    salt = Artefacts(folder).read_json(SALT)
    # The worst image of a digit is chosen under other keys than those it is counted
    # under: else the luckiest of many would be taken for the worst.
    found = {
        use: wrong(loaded, sought["images"], labels[ids], ids, f"{use} {salt}").tolist()
        for use in ("chosen", "counted")
    }
    Artefacts(folder).write_json(VERDICT, found)


def wrong(
    loaded: entry.Loaded,
    images: np.ndarray,
    labels: np.ndarray,
    ids: np.ndarray,
    salt: str = "",
) -> np.ndarray:
    """Returns under how many of the keys each image is misclassified, [n].

    They depend on the very images and, in a challenge, on a salt that is drawn when it
    is judged, so that nobody can choose images for them.
    """
    root = keys.stream(jax.random.key(0), f"leaderboard {salt}{digest_of(images)}")
    return wrong_under(root, rules.KEYS, images, labels, ids, **loaded.arguments)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one of both and returns the exit code."""
    parser = argparse.ArgumentParser(prog="judging")
    parser.add_argument("what", choices=["score", "judge"])
    parser.add_argument("file", type=Path)
    parser.add_argument("folder", type=Path)
    given: Any = parser.parse_args(argv)
    console.setup()
    try:
        devices.initialise()
        {"score": score, "judge": judge}[given.what](given.file, given.folder)
    except UsageError as error:
        print(f"robust_manifold: {error}", file=sys.stderr)
        return 2
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, jax.errors.JaxRuntimeError) and _MEMORY not in str(error):
            raise
        print(
            f"robust_manifold: {given.file} takes more memory than there is; allowed: "
            f"{rules.GIGABYTES} GB.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
