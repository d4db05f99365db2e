"""Images of known classes, and how far others are from them, in double precision."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from robust_manifold.core.checks import checked_images, checked_labels
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Params


class Codebook(NamedTuple):
    """Prototypes: an image belongs to the class of the nearest, in the Euclidean sense.

    An image that is as near to another class belongs to none.
    """

    prototypes: Float[np.ndarray, "k height width channels"]
    labels: Int[np.ndarray, " k"]


def codebook_of(params: Params) -> Codebook:
    """Returns the prototypes of the parameters of a model `codebook`.

    Raises:
      UsageError: for the parameters of another model.
    """
    prototypes = params["params"].get("prototypes")
    if prototypes is None:
        raise UsageError(
            "params have no prototypes; allowed: those of the model 'codebook'."
        )
    prototypes = np.asarray(prototypes)
    classes, per_class = prototypes.shape[:2]
    return Codebook(
        prototypes.reshape(-1, *prototypes.shape[2:]),
        np.repeat(np.arange(classes), per_class),
    )


class Given(NamedTuple):
    """What a certificate is asked for: arrays of doubles, images as rows."""

    prototypes: Float[np.ndarray, "k pixels"]
    classes: Int[np.ndarray, " k"]
    images: Float[np.ndarray, "n pixels"]
    labels: Int[np.ndarray, " n"]


def checked(codebook: Codebook, images: Any, labels: Any) -> Given:
    """Returns codebook, images and labels as arrays of doubles.

    Nothing is rounded: the numbers of the stored prototypes are what is certified.

    Raises:
      UsageError: for prototypes or images outside [0, 1] or of different shapes, one
        class alone, or labels that are no classes.
    """
    try:
        prototypes = checked_images(codebook.prototypes)
    except UsageError as error:
        raise UsageError(f"prototypes of the codebook: {error}") from None
    classes = np.asarray(codebook.labels)
    if len(np.unique(classes)) < 2:
        raise UsageError(
            f"labels of the codebook are all {classes[:1].tolist()}; allowed: those "
            "of two or more classes."
        )
    classes = checked_labels(classes, len(prototypes), int(classes.max()) + 1)
    shown = checked_images(images)
    if shown.shape[1:] != prototypes.shape[1:]:
        raise UsageError(
            f"images have the shape {shown.shape[1:]}; allowed: "
            f"{prototypes.shape[1:]}, that of the prototypes."
        )
    return Given(
        # From what was given: the checks may have rounded doubles to floats.
        _rows(codebook.prototypes),
        classes,
        _rows(images),
        checked_labels(labels, len(shown), int(classes.max()) + 1),
    )


def squared_distances(
    images: Float[np.ndarray, "n pixels"], prototypes: Float[np.ndarray, "k pixels"]
) -> Float[np.ndarray, "n k"]:
    """Returns ‖x - w‖² of every image and prototype; `rounding` bounds its error."""
    squares = np.sum(images**2, 1)[:, None] + np.sum(prototypes**2, 1)[None]
    return np.maximum(squares - 2 * (images @ prototypes.T), 0)


def rounding(
    images: Float[np.ndarray, "n pixels"], prototypes: Float[np.ndarray, "k pixels"]
) -> Float[np.ndarray, " n"]:
    """Returns the most by which a squared distance of an image is rounded.

    Three sums of n products each are at most 2 n u of their absolute terms away, these
    add up to at most (‖x‖ + ‖w‖)², and u is 2⁻⁵³ (Higham 2002, section 3.1).
    """
    longest = np.sqrt(np.max(np.sum(prototypes**2, 1)))
    unit = np.finfo(np.float64).eps
    lengths = np.sqrt(np.sum(images**2, 1)) + longest
    return (images.shape[1] + 16) * unit * lengths**2


def class_distances(
    codebook: Codebook, images: Any, *, block: int = 1000
) -> Float[np.ndarray, "n classes"]:
    """Returns the distance of each image to the nearest prototype of each class.

    It is infinite for a class without prototypes.

    Args:
      codebook: the prototypes.
      images: [n, height, width, channels], pixels in [0, 1].
      block: images at a time.
    """
    n = len(np.asarray(images))
    given = checked(codebook, images, np.zeros(n, int))
    found = np.full((n, given.classes.max() + 1), np.inf)
    for start in range(0, n, block):
        rows = slice(start, start + block)
        squared = squared_distances(given.images[rows], given.prototypes)
        for label in np.unique(given.classes):
            found[rows, label] = np.sqrt(squared[:, given.classes == label].min(1))
    return found


def _rows(images: Any) -> Float[np.ndarray, "n pixels"]:
    array = np.asarray(images, np.float64)
    return array.reshape(len(array), -1)
