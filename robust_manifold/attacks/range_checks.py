"""What a search in a generator's range is handed, checked as `craft` checks its own."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.attacks.cautions import check_budget
from robust_manifold.attacks.contract import (
    check_function,
    check_not_traced,
    classes_of,
)
from robust_manifold.attacks.outputs import check_outputs, loop_form
from robust_manifold.attacks.random import Apply, Expectation, bound
from robust_manifold.core import keys
from robust_manifold.core.checks import checked_images, checked_key, checked_spanner
from robust_manifold.core.errors import UsageError
from robust_manifold.core.manifold import Spanner
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import Image, Latent, Logits, Params, PRNGKey

_LOOKED_AT = 32
"""Latents drawn to look at, whatever is searched."""


class Range(NamedTuple):
    """What is known of a generator and a classifier of its images."""

    image: jax.ShapeDtypeStruct
    """Shape and type of one image."""
    classes: int


def checked_range(
    spanner: Any, classify: Any, params: Any, key: Any, **arguments: Any
) -> Range:
    """Returns what is known of a generator and a classifier of its images.

    Args:
      spanner: the generator.
      classify: the classifier.
      params: of both, as `ManifoldParams`.
      key: the root of all randomness.
      **arguments: others that must not be traced, by name.

    Raises:
      UsageError: unless both are what their arguments ask for, and fit each other.
    """
    check_not_traced(params=params, key=key, **arguments)
    checked_key(key)
    if not (hasattr(params, "spanner") and hasattr(params, "classifier")):
        raise UsageError(
            f"params are of type {type(params).__name__}; allowed: "
            "ManifoldParams(spanner, classifier), or what else has these fields."
        )
    image = checked_spanner(spanner, params.spanner)
    check_function("classify", classify)
    return Range(image, classes_of(classify, params.classifier, image, "classify"))


def checked_range_images(range: Range, images: Any) -> np.ndarray:
    """Returns a batch of images as JAX would hold them together with the generator's.

    Raises:
      UsageError: as `checked_images`, or unless the generator's have the same shape.
    """
    images = checked_images(images)
    if range.image.shape != images.shape[1:]:
        raise UsageError(
            f"images have the shape {images.shape[1:]}; allowed: {range.image.shape}, "
            "as the generator's."
        )
    # A search is as precise as the more precise of both.
    return images.astype(np.promote_types(images.dtype, range.image.dtype))


def look(
    spanner: Spanner,
    classify: Apply,
    params: Any,
    key: PRNGKey,
    *,
    bound: float,
    norm: Norm,
    shape: tuple[int, ...],
    latents: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> None:
    """Warns of what spoils a search: NaN, gradients that lead nowhere, a bound of 255.

    It looks at the logits of G(z), and at their gradients by z.

    Args:
      spanner: the generator.
      classify: the classifier.
      params: of both.
      key: the root of all randomness.
      bound: on the distance of two images.
      norm: of the distance.
      shape: of one image.
      latents: [n, latent], where the search starts; by default draws from the prior.
      labels: [n], the classes to leave; by default the predicted ones.

    Warns:
      AttackWarning: as `check_outputs` and `check_budget`.
    """
    check_budget(bound, norm, shape)
    key, what = keys.stream(key, "look"), "starting latents"
    if latents is None:
        drawn = (_LOOKED_AT, *spanner.latent_shape)
        latents, what = np.asarray(spanner.prior.sample(key, drawn)), "drawn latents"
    check_outputs(
        _through(spanner, classify),
        params,
        latents,
        labels,
        key=key,
        gradients=True,
        name="classify",
        what=what,
    )


def range_loop_form(
    spanner: Spanner, classify: Apply, params: Params, range: Range
) -> str:
    """Returns the faster form of a loop that classifies the generator's images."""

    def logits_of(params: Params, image: Image) -> Logits:
        """The classifier's of an image of the range, whatever image is given."""
        del image
        latent = jnp.zeros(spanner.latent_shape)
        made = spanner.generate(params.spanner.generator, latent)
        return bound(classify, params.classifier, jax.random.key(0))(made)

    return loop_form(logits_of, params, np.zeros((1, *range.image.shape), np.float32))


@dataclasses.dataclass(frozen=True)
class _Through:
    """The logits of G(z) as a function of z; equal ones compile once."""

    spanner: Spanner
    classify: Any

    def __call__(self, params: Any, latent: Latent, *key: PRNGKey) -> Logits:
        image = self.spanner.generate(params.spanner.generator, latent)
        return self.classify(params.classifier, image, *key)


def _through(spanner: Spanner, classify: Apply) -> Apply:
    if isinstance(classify, Expectation):
        return Expectation(_Through(spanner, classify.apply), classify.samples)
    return _Through(spanner, classify)
