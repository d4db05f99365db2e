"""Checks of the arrays a user hands in, made once, before anything is compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from robust_manifold.core.errors import UsageError


def checked_images(images: Any) -> np.ndarray:
    """Returns a batch of images as JAX would hold them: [n, height, width, channels].

    Raises:
      UsageError: unless they are floats in [0, 1], at least one image, of rank 4.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.size == 0:
        raise UsageError(
            f"images have shape {images.shape}; allowed: [n, height, width, channels] "
            "without an empty axis."
        )
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UsageError(
            f"images have type {images.dtype}; allowed: floats with pixels in [0, 1]."
        )
    # A NaN fails the comparison, so the sentence names it through min and max.
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        raise UsageError(
            f"images have pixels from {low:g} to {high:g}; allowed: [0, 1], no NaN."
        )
    # Sixteen bits are too few for budgets and steps.
    dtype = jnp.promote_types(images.dtype, jnp.float32)
    return images.astype(jax.dtypes.canonicalize_dtype(dtype))


def checked_labels(labels: Any, n: int, classes: int) -> np.ndarray:
    """Returns the labels of `n` images as int32 [n].

    Raises:
      UsageError: unless they are `n` whole numbers from 0 to `classes` - 1.
    """
    labels = np.asarray(labels)
    if labels.shape != (n,) or not np.issubdtype(labels.dtype, np.integer):
        raise UsageError(
            f"labels have shape {labels.shape} and type {labels.dtype}; allowed: {n} "
            "whole numbers, one an image."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise UsageError(
            f"labels lie in [{labels.min()}, {labels.max()}]; allowed: 0 to "
            f"{classes - 1}, since the classifier has {classes} classes."
        )
    return labels.astype(np.int32)
