"""Images of anybody that an entry gets wrong: checked, and counted."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from robust_manifold.core.errors import UsageError
from robust_manifold.evaluation import sizes
from robust_manifold.leaderboard import rules
from robust_manifold.runtime import array_files

_ROUNDING = 1e-5
"""By which the size of a difference may be above a radius, of the radius."""


class Sought(NamedTuple):
    """Images of a challenge.

    Attributes:
      images: [m, 28, 28, 1] in [0, 1].
      ids: [m], which digit each of them was made of.
      inside: by row, which of them lie in its ball, [m].
    """

    images: np.ndarray
    ids: np.ndarray
    inside: dict[str, np.ndarray]


def read(path: Path, n: int) -> Sought:
    """Returns the images of a file, each of which lies in a ball about its digit.

    Args:
      path: an npz file with `images` [m, 28, 28, 1], floats in [0, 1], and `ids` [m],
        places among the official test digits.
      n: digits that the entry was attacked on.

    Raises:
      UsageError: for a file of another form, and for the first image that lies
        outside [0, 1] or outside every ball.
    """
    try:
        arrays = array_files.read_all(path)
    except array_files.Unreadable as error:
        raise UsageError(f"{path} {error}; allowed: an npz file.") from None
    if missing := {"images", "ids"} - set(arrays):
        raise UsageError(
            f"{path} has no array {min(missing)}; allowed: images and ids."
        )
    images, ids = arrays["images"], arrays["ids"]
    digits, _ = rules.digits(n)
    form = images.ndim == 4 and images.shape[1:] == digits.shape[1:]
    if not form or images.dtype not in (np.float32, np.float64) or not len(images):
        raise UsageError(
            f"images of {path} are {images.shape} of type {images.dtype}; allowed: "
            f"floats of shape [m, {', '.join(map(str, digits.shape[1:]))}]."
        )
    if ids.shape != (len(images),) or ids.dtype.kind not in "iu":
        raise UsageError(
            f"ids of {path} are {ids.shape} of type {ids.dtype}; allowed: a whole "
            "number for each image."
        )
    for place, number in enumerate(ids):
        if not 0 <= number < n:
            raise UsageError(
                f"ids[{place}] of {path} is {number}; allowed: 0 to {n - 1}."
            )
    images = images.astype(np.float32)
    for place, image in enumerate(images):
        if not (np.isfinite(image).all() and 0 <= image.min() <= image.max() <= 1):
            raise UsageError(
                f"images[{place}] of {path} has a pixel outside [0, 1]; allowed: none."
            )
    originals = digits[ids]
    measured = {norm: sizes(originals, images, norm) for norm in rules.BALLS}
    inside = {
        f"{norm} {radius:g}": measured[norm] <= radius * (1 + _ROUNDING)
        for norm, radii in rules.BALLS.items()
        for radius in radii
    }
    lost = ~np.any(list(inside.values()), axis=0)
    for place in np.flatnonzero(lost)[:1]:
        far = ", ".join(f"{norm} {measured[norm][place]:.4g}" for norm in rules.BALLS)
        raise UsageError(
            f"images[{place}] of {path} is that far from digit {ids[place]}: {far}; "
            f"allowed: inside one of {', '.join(inside)}."
        )
    return Sought(images, ids, inside)


def wrong_by_row(
    sought: Sought, chosen: np.ndarray, counted: np.ndarray, n: int
) -> dict[str, list[int]]:
    """Returns under how many keys the worst image of each digit is lost, by row.

    Args:
      sought: the images.
      chosen: under how many keys each of them is lost, [m], which says which is worst.
      counted: under how many other keys, [m], which is what counts.
      n: digits.
    """
    found = {}
    # Of two entries for one digit the last stays.
    order = np.argsort(chosen, kind="stable")
    for row, inside in sought.inside.items():
        worst = np.zeros(n, int)
        for place in order[inside[order]]:
            worst[sought.ids[place]] = counted[place]
        found[row] = worst.tolist()
    return found
