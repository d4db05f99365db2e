"""The verdict on images that come from elsewhere, under fresh keys."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from robust_manifold.core import keys
from robust_manifold.core.checks import checked_images
from robust_manifold.core.types import PRNGKey
from robust_manifold.robustness.subject import subject_of


def wrong_under(
    key: PRNGKey,
    count: int,
    images: Float[np.ndarray, "n height width channels"],
    labels: Int[np.ndarray, " n"],
    ids: Int[np.ndarray, " n"],
    *,
    classifier: Any,
    defence: Any = None,
    networks: Mapping[str, Any] | None = None,
) -> Int[np.ndarray, " n"]:
    """Returns under how many keys each image is misclassified.

    Args:
      key: the root of the keys.
      count: of the keys; where a defence draws nothing, an image is misclassified
        under all of them or under none.  What a defence rejects is not misclassified.
      images: in [0, 1].
      labels: the true classes.
      ids: global ids of the images, on which with the keys their randomness depends.
      classifier: as for `evaluate`.
      defence: as for `evaluate`.
      networks: as for `evaluate`.
    """
    images = checked_images(images)
    subject = subject_of(classifier, defence, networks, images, key)
    roots = [keys.stream(key, f"key {n}") for n in range(count)]
    wrong = [
        subject.judged.verdict([subject.outputs(images, ids, root)], labels).broken
        for root in (roots if subject.random else roots[:1])
    ]
    return np.sum(wrong, axis=0) * (count // len(wrong))
