"""From an attack on one image to adversarial examples of many."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks.base import Attack
from robust_manifold.core import batching, norms
from robust_manifold.core.checks import checked_images, checked_labels
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Image, Label, Params, PRNGKey


class Queries(NamedTuple):
    """What the attack asked of the classifier, per image; scoring not included."""

    forwards: Int[Array, "*n"]
    backwards: Int[Array, "*n"]


class Crafted(NamedTuple):
    """Adversarial images and what the evaluated function makes of them."""

    images: Float[Array, "*n height width channels"]
    success: Bool[Array, "*n"]
    """Whether the prediction differs from the label; never where a logit is NaN."""
    distance: Float[Array, "*n"]
    """The norm of the perturbation, in the attack's own norm."""
    queries: Queries
    logits: Float[Array, "*n classes"]


class _Example(NamedTuple):
    image: Image
    label: Label


@dataclasses.dataclass(frozen=True)
class _CraftOne:
    """An attack on one image, hashed by value: equal specs compile once."""

    attack: Attack
    apply: Callable[[Params, Array], Array]

    def __call__(self, params: Params, key: PRNGKey, example: _Example) -> Crafted:
        image, label = example
        classify = functools.partial(self.apply, params)
        attempt = self.attack.run(key, classify, image, label)
        logits = classify(attempt.image)
        # The first NaN wins an argmax: broken logits are no success of the attack.
        success = (jnp.argmax(logits) != label) & ~jnp.isnan(logits).any()
        distance = norms.norm(attempt.image - image, self.attack.norm)
        queries = Queries(attempt.forwards, attempt.backwards)
        return Crafted(attempt.image, success, distance, queries, logits)


def craft(
    attack: Attack,
    apply: Callable[[Params, Array], Array],
    params: Params,
    images: Any,
    labels: Any,
    *,
    key: PRNGKey,
    batch_size: int | None = None,
    ids: np.ndarray | jax.Array | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Crafted:
    """Returns adversarial examples for a batch, compiled, in chunks, on all devices.

    The result for an image depends on its id and `key`, never on its batch mates.
    Calls with an equal attack, the same `apply` and equal shapes compile once.

    Args:
      attack: for instance `PGD(epsilon=0.3)`.
      apply: `apply(params, image) -> logits [classes]`, for one image in [0, 1]; any
        normalisation belongs inside.  Pass one function again and again, rather than
        a new lambda each time, which would compile anew.
      params: of `apply`.
      images: [n, height, width, channels], floats in [0, 1].
      labels: [n], the true classes.
      key: the root of all randomness of the attack.
      batch_size: images attacked at a time; see `core.batching.map_examples`.
      ids: global ids [n] of the images; 0..n-1 by default.
      on_chunk: called with (images done, n) after each chunk.

    Raises:
      UsageError: for images, labels or logits of the wrong shape, type or range.
    """
    images = checked_images(images)
    classes = _classes(apply, params, images)
    labels = checked_labels(labels, len(images), classes)
    return batching.map_examples(
        _CraftOne(attack, apply),
        params,
        _Example(images, labels),  # type: ignore[arg-type]
        key=key,
        ids=ids,
        batch_size=batch_size,
        on_chunk=on_chunk,
    )


def _classes(
    apply: Callable[[Params, Array], Array], params: Params, images: np.ndarray
) -> int:
    """Returns the number of classes, from the shape of one image's logits."""
    image = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    logits = jax.eval_shape(apply, params, image)
    shape = getattr(logits, "shape", None)
    if shape is None or len(shape) != 1 or shape[0] < 2:
        raise UsageError(
            f"apply gives {shape or type(logits).__name__} for one image; allowed: a "
            "vector of logits for 2 classes or more."
        )
    return shape[0]
