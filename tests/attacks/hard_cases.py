"""Hard cases with closed forms: an image with a linear classifier of its own, each.

The boundary lies at one distance in all cases of a batch.  It is computed in float64,
with the box taken into account, from the most that a linear function can rise so far
away.
"""

import functools
import zlib
from typing import NamedTuple

import jax
import numpy as np

from robust_manifold.attacks import Expectation
from robust_manifold.attacks.masks import as_mask

FOUND, TIED, WRONG, NEVER, CHANCE = "found", "tied", "wrong", "never", "chance"
"""What is right: the boundary is so far away; it is at the image; the image is wrong
already; no image in the box is misclassified; or too few images are for an attack that
has to meet one by chance."""

SPARE = 1.3
"""A budget over the distance, and the most a sticker gains over what it needs."""

_LEAD = 10.0
"""Logits by which the label leads at scale 1."""

_OFTEN = 0.02
"""Share of random images that is met for certain."""


class Case(NamedTuple):
    """What an image and its classifier are like."""

    pixels: str
    """`binary`, `black`, `white`, `grey` or `between`."""
    expected: str = FOUND
    scale: float = 1.0
    """Of the logits."""
    mask: float = 0.0
    """The logit of masked classes, if it is not 0."""
    masked: int | None = None
    """How many classes are masked; None for all but the label and its rival."""
    alike: int = 0
    """Classes that are the same as the rival."""
    tie: bool = False
    """Whether the label and the rival have the same logit."""
    constant: float | None = None
    """By how much the label leads, whatever the image; None where it matters."""
    alone: bool = False
    """Whether the rival is masked, too."""
    walled: bool = False
    """Whether all values would have to leave the box."""


_OUT, _LOW = -np.inf, -1e9

CASES = {
    "black and white": Case("binary"),
    "all black": Case("black"),
    "all white": Case("white"),
    "grey": Case("grey"),
    "between": Case("between"),
    "masked by -inf": Case("binary", mask=_OUT),
    "one masked by -inf": Case("grey", mask=_OUT, masked=1),
    "masked by -1e9": Case("grey", mask=_LOW),
    "one masked by -1e9": Case("binary", mask=_LOW, masked=1),
    "logits of 1e-8": Case("binary", scale=1e-8),
    "logits of 1e-4": Case("grey", scale=1e-4),
    "logits of 1e3": Case("binary", scale=1e3),
    "logits of 1e6": Case("between", scale=1e6),
    "logits of 1e-8, masked by -inf": Case("between", scale=1e-8, mask=_OUT),
    "logits of 1e6, masked by -1e9": Case("binary", scale=1e6, mask=_LOW),
    "two rivals alike": Case("binary", alike=1),
    "tied": Case("grey", TIED, tie=True),
    "wrong by a tie": Case("grey", WRONG, tie=True),
    "wrong, black and white": Case("binary", WRONG),
    "wrong, masked by -inf": Case("between", WRONG, mask=_OUT),
    "constant and equal": Case("binary", NEVER, constant=0.0),
    "constant": Case("grey", NEVER, constant=1.0),
    "one class alive": Case("binary", NEVER, mask=_OUT, alone=True),
    "walled in": Case("black", NEVER, walled=True),
}
"""All in a batch have the same shape and the same number of classes."""


class Batch(NamedTuple):
    """All cases of one shape, for attacks of one norm, in float64."""

    names: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    """[case, pixels, classes]"""
    biases: np.ndarray
    """[case, classes]"""
    expected: np.ndarray
    distance: float
    """To the boundary, where there is one and the label does not tie."""

    @property
    def places(self) -> jax.Array:
        """Keys that tell the classifier which case an image is."""
        numbers = np.arange(len(self.names), dtype=np.uint32)
        return jax.random.wrap_key_data(np.stack([0 * numbers, numbers], axis=-1))


def _classify(params, image, key):
    weights, biases = params
    place = jax.random.key_data(key)[-1]
    return image.reshape(-1) @ weights[place] + biases[place]


classify = Expectation(_classify)
"""The classifier of the case whose number is in the key: a random classifier may be
another one for each key, so that a batch holds as many as it has images."""


def most(slope: np.ndarray, room: np.ndarray, norm: str, distance: float) -> float:
    """Returns the most by which a linear function rises so far away, in the box.

    Args:
      slope: of the function.
      room: how far each value may go where the function rises.
      norm: of the perturbation.
      distance: in that norm.
    """
    slope = np.abs(slope)
    match norm:
        case "linf":
            moved = np.minimum(room, distance)
        case "l2":
            # Values at the box stay there; the others move in proportion.
            low, high = 0.0, 1e9
            for _ in range(200):
                middle = (low + high) / 2
                inside = np.linalg.norm(np.minimum(room, middle * slope)) < distance
                low, high = (middle, high) if inside else (low, middle)
            moved = np.minimum(room, low * slope)
        case "l1":
            # The steepest first, each as far as the box allows.
            order = np.argsort(-slope)
            before = np.cumsum(room[order]) - room[order]
            moved = np.zeros_like(room)
            moved[order] = np.clip(distance - before, 0, room[order])
        case "l0":
            moved = np.where(np.argsort(np.argsort(-slope * room)) < distance, room, 0)
    return float(slope @ moved)


def _room(slope: np.ndarray, image: np.ndarray, reach: str) -> np.ndarray:
    """Returns how far each value may go where the function rises.

    Args:
      slope: of the function, flat.
      image: [height, width, channels].
      reach: `box`, or `chance` in the box; `up` where values may only rise; or the
        text of a mask, of whose pixels alone the values may change.
    """
    pixels = image.reshape(-1)
    room = np.where(slope > 0, 1 - pixels, pixels)
    if reach in ("box", "chance"):
        return room
    if reach == "up":
        return np.where(slope > 0, room, 0)
    height, width, channels = image.shape
    covered = as_mask(reach).pixels(height, width)
    return room * np.repeat(covered, channels)


class _Reach(NamedTuple):
    """How far an attack is to get."""

    norm: str
    distance: float
    over: str

    def gain(self, slope: np.ndarray, image: np.ndarray, times: float = 1.0) -> float:
        """Returns what can be gained within so many times the distance."""
        room = _room(slope, image, self.over)
        if self.over not in ("box", "chance", "up"):
            return float(np.abs(slope) @ room) * times / SPARE
        gain = most(slope, room, self.norm, times * self.distance)
        if self.norm == "l0" and times == 1:
            # Neither just reached nor just missed.
            gain = (gain + most(slope, room, "l0", self.distance - 1)) / 2
        return gain


@functools.cache
def batch(
    shape: tuple[int, int, int],
    classes: int,
    norm: str,
    reach: str = "box",
    near: float = 1.0,
) -> Batch:
    """Returns all cases that so many classes have.

    Args:
      shape: of an image.
      classes: of every classifier.
      norm: in which the distance is measured.
      reach: as for `_room`; for a mask the distance does not matter.
      near: share of the usual distance.
    """
    size = int(np.prod(shape))
    distances = {"linf": 0.1, "l2": 0.1 * size**0.5, "l1": 0.05 * size}
    distance = near * distances.get(norm, min(3.0, 1 + size // 8))
    names = tuple(
        name
        for name, case in CASES.items()
        if classes > 2 or not (case.alike or case.masked)
    )
    rows = [
        _made(
            CASES[name],
            shape,
            classes,
            _Reach(norm, distance, reach),
            # Not `hash`, which differs from process to process.
            np.random.default_rng(zlib.crc32(f"{name} {shape} {classes}".encode())),
        )
        for name in names
    ]
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    return Batch(names, *columns, distance)


def _made(case: Case, shape, classes: int, reach: _Reach, rng: np.random.Generator):
    """Returns what `Batch` has of a case."""
    image, expected = _image(case.pixels, shape, rng), case.expected
    label, rival, *others = rng.permutation(classes)
    if case.constant is not None:
        # Of equal logits the first one wins.
        biases = np.full(classes, -case.constant)
        biases[0] = 0
        return image, 0, np.zeros((image.size, classes)), biases, expected
    slope = _slope(image, case.walled, reach, rng)
    lead = reach.gain(slope, image)
    if lead == 0:
        # White images where values may only rise, for instance.
        expected, lead = (NEVER if expected == FOUND else expected), 1.0
    if case.tie:
        label, rival = sorted((label, rival), reverse=expected == WRONG)
        lead = 0.0
    else:
        slope, lead = (_LEAD * case.scale / lead * value for value in (slope, lead))
    weights, leads = np.zeros((image.size, classes)), np.zeros(classes)
    weights[:, label], weights[:, rival] = -slope / 2, slope / 2
    leads[rival] = -lead if expected == WRONG else lead
    for place, other in enumerate(others):
        rise, leads[other] = slope, lead
        if place >= case.alike:
            rise, leads[other] = _another(case, slope, lead, image, reach, rng)
        weights[:, other] = weights[:, label] + rise
    # At the image the label's logit is 0.
    biases = -leads - image.reshape(-1) @ weights
    if case.mask:
        masked = [rival, *others] if case.alone else others[: case.masked]
        biases[masked] = case.mask
    if reach.over == "chance" and expected == FOUND:
        noise = rng.uniform(size=(2000, image.size))
        wrong = (noise @ weights + biases).argmax(-1) != label
        expected = FOUND if wrong.mean() > _OFTEN else CHANCE
    return image, label, weights, biases, expected


def _image(pixels: str, shape, rng: np.random.Generator) -> np.ndarray:
    match pixels:
        case "binary":
            return rng.integers(0, 2, shape).astype(float)
        case "between":
            return rng.uniform(0.05, 0.95, shape)
    return np.full(shape, {"black": 0.0, "white": 1.0, "grey": 0.5}[pixels])


def _slope(
    image: np.ndarray, walled: bool, reach: _Reach, rng: np.random.Generator
) -> np.ndarray:
    """Returns the rival's slope over the label's."""
    # Of few bits, so that sums over grey images are exact, and no value is 0.
    slope = np.round(64 * rng.normal(size=image.size)) / 64
    slope = np.where(slope == 0, 1 / 64, slope)
    inwards = np.where(image.reshape(-1) < 1, 1, -1) * np.abs(slope)
    if walled:
        return -inwards
    # Some must have room: in l0 as many as the distance says, and one to make a pair.
    needed = reach.distance + 1 if reach.norm == "l0" else 1
    enough = np.count_nonzero(_room(slope, image, reach.over)) >= needed
    return slope if enough else inwards


def _another(
    case: Case, slope: np.ndarray, lead: float, image, reach: _Reach, rng
) -> tuple[np.ndarray, float]:
    """Returns the slope of a class that is farther than the rival, and its lead."""
    # Small logits are as likely as each other, and who has no gradients knows of no
    # nearer boundary than the one that was met: all rivals pull in one direction.
    if case.scale < 1 or reach.over != "box":
        return rng.uniform(0, 0.5) * slope, 2 * lead or _LEAD
    rise = np.linalg.norm(slope) / image.size**0.5 * rng.normal(size=image.size)
    if case.walled:
        rise = -np.abs(rise)
    far = 1.01 * reach.gain(rise, image, times=3.0)
    return rise, max(far, 3 * abs(lead), 3 * _LEAD * case.scale)
