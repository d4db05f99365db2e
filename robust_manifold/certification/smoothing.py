"""Randomised smoothing: certificates of any classifier under noise (Cohen et al. 2019).

The smoothed classifier gives the class that its base gives most often under Gaussian
noise.  Where that class has a probability p above 1/2, no step shorter than σ Φ⁻¹(p) in
ℓ2 changes it.  p is bounded from below by counts; so a radius holds with probability
1 - alpha, over the noise that was drawn.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Int

from robust_manifold.core import batching, keys
from robust_manifold.core.checks import checked_images
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry, check, is_whole
from robust_manifold.core.types import Image, Params, PRNGKey

ABSTAINED = -1
"""The prediction where no class is sure enough."""


registry: Registry["Smoothing"] = Registry("smoothing")
"""The one name that configs write smoothing by."""


@registry.register("smoothing")
@dataclasses.dataclass(frozen=True)
class Smoothing:
    """How a classifier is smoothed; the defaults are those published.

    Attributes:
      sigma: standard deviation of the noise, on pixels in [0, 1].
      n0: draws that choose the class.
      n: further draws that bound its probability.
      alpha: probability with which a certificate may fail.
    """

    sigma: float
    n0: int = 100
    n: int = 100_000
    alpha: float = 0.001

    def __post_init__(self):
        check(0 < self.sigma < math.inf, self, "sigma", "a finite number above 0")
        for field in ("n0", "n"):
            check(is_whole(getattr(self, field), 1), self, field, "1 or more")
        check(0 < self.alpha < 1, self, "alpha", "above 0 and below 1")


class Counts(NamedTuple):
    """How often each class was given; those of other draws may be added."""

    choosing: Int[np.ndarray, "n classes"]
    """Of the first draws, which choose the class."""
    bounding: Int[np.ndarray, "n classes"]
    """Of the others."""


class Smoothed(NamedTuple):
    """What is certified of each image."""

    prediction: Int[np.ndarray, " n"]
    """The class of the smoothed classifier, or `ABSTAINED`."""
    radius: Float[np.ndarray, " n"]
    """In ℓ2, plain; 0 where it abstains."""
    probability: Float[np.ndarray, " n"]
    """Lower bound of that of the chosen class, at confidence 1 - alpha."""


@dataclasses.dataclass(frozen=True)
class WithoutKey:
    """A classifier that draws nothing, as a function with a key."""

    apply: Callable[[Params, Image], Array]

    def __call__(self, params: Params, image: Image, key: PRNGKey) -> Array:
        """Returns the logits of one image."""
        del key
        return self.apply(params, image)


@dataclasses.dataclass(frozen=True)
class _Draw:
    """The class of one image under one draw of noise; -1 for logits without numbers."""

    apply: Callable[[Params, Image, PRNGKey], Array]

    @property
    def tiled(self) -> bool:
        return getattr(self.apply, "tiled", False)

    def __call__(self, given: tuple, key: PRNGKey, number: Array) -> Array:
        del number
        params, image, sigma = given
        noise_key = keys.stream(key, "noise")
        noise = keys.drawn(jax.random.normal, noise_key, image.shape, image.dtype)
        # Noisy pixels stay as they are: the proof needs noise that is not cut off.
        logits = self.apply(params, image + sigma * noise, keys.stream(key, "defence"))
        return jnp.where(jnp.isfinite(logits).all(), jnp.argmax(logits), -1)


def count(
    apply: Callable[[Params, Image, PRNGKey], Array],
    params: Params,
    images: Any,
    *,
    smoothing: Smoothing,
    classes: int,
    key: PRNGKey,
    ids: np.ndarray | None = None,
    start: int = 0,
    stop: int | None = None,
    batch_size: int | None = None,
) -> Counts:
    """Returns how often each class is given under the draws from `start` to `stop`.

    A draw is known by the image's id and its own number.  So counts of parts add up to
    those of the whole, and a stopped computation goes on where it was.

    Args:
      apply: `apply(params, image, key) -> logits` of one image, hashed by value, such
        as a `DefendedApply`, or `WithoutKey(model.apply)`.
      params: of `apply`.
      images: [n, height, width, channels], pixels in [0, 1].
      smoothing: the spec.
      classes: number of logits.
      key: the root of all randomness.
      ids: global ids [n] of the images; 0..n-1 by default.
      start: the first draw; the first n0 of all choose, n more bound.
      stop: the draw after the last; by default n0 + n.
      batch_size: draws at a time; see `core.batching.map_examples`.

    Raises:
      UsageError: for images outside [0, 1], or draws that are none.
    """
    images, draws = checked_images(images), smoothing.n0 + smoothing.n
    stop = draws if stop is None else stop
    if not (is_whole(start, 0) and is_whole(stop, 0) and start < stop <= draws):
        raise UsageError(
            f"start and stop are {start} and {stop}; allowed: 0 <= start < stop <= "
            f"{draws}, the draws of {smoothing}."
        )
    ids = batching.checked_ids(ids, len(images))
    numbers = np.arange(start, stop, dtype=np.int32)
    found = np.zeros((2, len(images), classes), int)
    for row, (image, number) in enumerate(zip(images, ids, strict=True)):
        given = batching.map_examples(
            _Draw(apply),
            (params, image, np.asarray(smoothing.sigma, image.dtype)),
            numbers,
            key=jax.random.fold_in(key, number),
            ids=numbers,
            batch_size=batch_size,
        )
        for part, chosen in enumerate(
            (numbers < smoothing.n0, numbers >= smoothing.n0)
        ):
            each = np.asarray(given)[chosen]
            found[part, row] = np.bincount(each[each >= 0], minlength=classes)
    return Counts(*found)


def smoothed(counts: Counts, smoothing: Smoothing) -> Smoothed:
    """Returns predictions and radii from the counts of all draws.

    Draws whose logits were no numbers stand for no class, and so against the chosen.

    Raises:
      UsageError: for more counts than there are draws.
    """
    choosing, bounding = map(np.asarray, counts)
    for array, draws in ((choosing, smoothing.n0), (bounding, smoothing.n)):
        if array.sum(1).max(initial=0) > draws:
            raise UsageError(
                f"counts of an image add up to {array.sum(1).max()}; allowed: at most "
                f"{draws}, the draws of {smoothing}."
            )
    chosen = np.argmax(choosing, 1)
    times = bounding[np.arange(len(chosen)), chosen]
    probability = lower_share(times, smoothing.n, smoothing.alpha)
    sure = probability > 0.5
    radius = smoothing.sigma * scipy.special.ndtri(np.where(sure, probability, 0.5))
    return Smoothed(np.where(sure, chosen, ABSTAINED), radius, probability)


def lower_share(times: Any, n: int, alpha: float) -> Float[np.ndarray, "..."]:
    """Returns the lower end of the one-sided interval of Clopper and Pearson (1934).

    A share that is below it gives so many successes, or more, with a probability of
    less than alpha.

    >>> round(float(lower_share(9, 10, 0.05)), 4)
    0.6058

    Args:
      times: successes, 0 to n.
      n: trials.
      alpha: one less the confidence.
    """
    times = np.asarray(times)
    found = scipy.special.betaincinv(np.maximum(times, 1), n - times + 1, alpha)
    return np.where(times > 0, found, 0.0)
