"""How often an attack holds in views that it has not seen."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from robust_manifold.attacks.contract import classes_of
from robust_manifold.attacks.random import Apply, bound
from robust_manifold.attacks.transformations import Transformations
from robust_manifold.core import batching, keys
from robust_manifold.core.checks import checked_images, checked_labels
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import is_whole
from robust_manifold.core.types import Image, Label, Params, PRNGKey


class PhysicalSuccess(NamedTuple):
    """In how many random views of an image the attack has what it wants."""

    clean: Int[Array, "*n"]
    """Views of the image itself."""
    attacked: Int[Array, "*n"]
    """The same views of the attacked image."""
    views: int
    """How many views of each image were looked at."""


class _Example(NamedTuple):
    clean: Image
    attacked: Image
    label: Label


@dataclasses.dataclass(frozen=True)
class _Count:
    """The counts of one image, hashed by value."""

    apply: Apply
    transformations: Transformations
    views: int
    targeted: bool

    def __call__(
        self, params: Params, key: PRNGKey, example: _Example
    ) -> tuple[Int[Array, ""], Int[Array, ""]]:
        def view(key: PRNGKey) -> tuple[Array, Array]:
            classify = bound(self.apply, params, keys.stream(key, "classifier"))
            look = self.transformations.draw(keys.stream(key, "view"), example.clean)

            def wanted(image: Image) -> Array:
                logits = classify(self.transformations.view(image, look))
                hit = jnp.argmax(logits) == example.label
                return (hit == self.targeted) & ~jnp.isnan(logits).any()

            return wanted(example.clean), wanted(example.attacked)

        clean, attacked = jax.vmap(view)(jax.random.split(key, self.views))
        return jnp.sum(clean), jnp.sum(attacked)


def physical_success(
    apply: Apply,
    params: Params,
    images: Any,
    attacked: Any,
    labels: Any,
    transformations: Transformations,
    *,
    key: PRNGKey,
    views: int = 100,
    targets: Any = None,
    ids: np.ndarray | jax.Array | None = None,
    batch_size: int | None = None,
) -> PhysicalSuccess:
    """Returns in how many fresh views images are misclassified, clean and attacked.

    Both are seen in the same views, drawn from `key` and the image's id.  A view with
    a NaN logit does not count.

    Args:
      apply: the classifier, as for `craft`.
      params: of `apply`.
      images: [n, height, width, channels], floats in [0, 1].
      attacked: what an attack made of them, in the same shape.
      labels: [n], the true classes.
      transformations: what the views are drawn from.
      key: of the views; another than the attack's.
      views: of each image.
      targets: [n], the classes that a targeted attack is to reach; views taken for
        them are then counted.
      ids: global ids [n] of the images; 0..n-1 by default.
      batch_size: images worked on together; results do not depend on it.

    Raises:
      UsageError: for images or labels of the wrong shape, type or range.
    """
    images, attacked = checked_images(images), checked_images(attacked)
    if images.shape != attacked.shape:
        raise UsageError(
            f"attacked has the shape {attacked.shape}; allowed: that of images, "
            f"{images.shape}."
        )
    if not is_whole(views, 1):
        raise UsageError(f"views is {views!r}; allowed: 1 or more.")
    views = int(views)
    classes = classes_of(
        apply, params, jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    )
    function = _Count(apply, transformations, views, targets is not None)
    wanted = labels if targets is None else targets
    clean, stuck = batching.map_examples(
        function,
        params,
        _Example(images, attacked, checked_labels(wanted, len(images), classes)),  # type: ignore[arg-type]
        key=key,
        ids=ids,
        batch_size=batch_size,
    )
    return PhysicalSuccess(clean, stuck, views)
