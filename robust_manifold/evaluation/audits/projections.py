"""Checks of a projection onto a generator's range, and of latent pairs in it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from robust_manifold.core.norms import Norm
from robust_manifold.evaluation.audits.budgets import perturbation_sizes
from robust_manifold.evaluation.audits.check import (
    Check,
    judged,
    percent,
    skipped,
    some,
)
from robust_manifold.evaluation.inversion_measures import RECOVERED
from robust_manifold.evaluation.projections import NEAR

IN_RANGE = "projections in the range"
NOISE_ERROR = "projections of noise"
ERRORS = "projection errors"
BASIN = "restarts in the best basin"
TWICE = "projections of projections"
FOUND_AGAIN = "generated images found again"
PAIRS = "latent pairs"
JUDGE = "judge of latent pairs"

_SAME = 1e-8
"""Mean squared difference per pixel below which two images are one."""
ALONE = 0.5
"""Share of the images whose best restart may be alone in its basin."""
MOVED = 0.1
"""Error of P(P(x)) that may be left, as a share of that of P(x), in the median."""
RECOVERED_SHARE = 0.9
"""Share of generated images that the projection ought to find again."""
ONE_CLASS = 0.5
"""Share of the latent pairs that ought to be of one class to an independent judge."""


def in_range(
    projections: Float[np.ndarray, "n height width channels"],
    generated: Float[np.ndarray, "n height width channels"],
) -> Check:
    """Returns whether every projection is the image of its latent.

    Args:
      projections: P(x), as the defence classifies them.
      generated: G(z*), computed anew from the latents that came with them.
    """
    apart = ~(_errors(projections, generated) <= _SAME)
    value = float(apart.mean())
    if not apart.any():
        return judged(
            False, IN_RANGE, value, "All projections are images of their latents."
        )
    return judged(
        True,
        IN_RANGE,
        value,
        f"{some(int(apart.sum()), len(apart), 'projection')} are not what the "
        "generator makes of their latents: the defence classifies images out of range.",
    )


def noise_has_error(
    noise: Float[np.ndarray, "n height width channels"],
    projections: Float[np.ndarray, "n height width channels"],
) -> Check:
    """Returns whether images outside the range are moved at all.

    Args:
      noise: independent uniform pixels, which a range of fewer dimensions lacks.
      projections: P of them.
    """
    kept = _errors(noise, projections) <= _SAME
    value = float(kept.mean())
    if not kept.any():
        return judged(False, NOISE_ERROR, value, "Images of pure noise are moved.")
    return judged(
        True,
        NOISE_ERROR,
        value,
        f"{some(int(kept.sum()), len(kept), 'image')} of pure noise come back as they "
        "are: what should project onto the range returns its input.",
    )


def projection_errors(
    clean: Float[np.ndarray, " n"], adversarial: Float[np.ndarray, " n"]
) -> Check:
    """Returns how the errors of clean and of attacked images compare.

    Args:
      clean: mean squared error per pixel of each clean image's projection.
      adversarial: of the same images under attack.
    """
    finite = np.isfinite(clean) & np.isfinite(adversarial)
    if not finite.all():
        failed = int((~finite).sum())
        return judged(
            True,
            ERRORS,
            failed / len(clean),
            f"{some(failed, len(clean))} have no finite projection.",
        )
    before, after = float(np.median(clean)), float(np.median(adversarial))
    told = (
        f"The median error of projections is {before:.3g} on clean images and "
        f"{after:.3g} on attacked ones"
    )
    if before == 0 and after == 0:
        return judged(
            True, ERRORS, 0.0, f"{told}: nothing is projected, the image comes back."
        )
    # Which of them is larger is no fault: attacks may move towards the range.
    return judged(False, ERRORS, after / before if before else None, f"{told}.")


def best_basin(
    restart_errors: Float[np.ndarray, "n restarts"],
    dropped: Bool[np.ndarray, "n restarts"] | None = None,
) -> Check:
    """Returns how many of an image's restarts come to its best error.

    Args:
      restart_errors: final error of every restart; infinite if it has none.
      dropped: which of them were given up on the way and do not count.
    """
    if dropped is None:
        dropped = np.zeros(restart_errors.shape, bool)
    if ((~dropped).sum(axis=1) < 2).any():
        return skipped(BASIN, "the projection follows one restart to its end")
    restart_errors = np.where(dropped, np.inf, restart_errors)
    best = restart_errors.min(axis=1, keepdims=True)
    # An error of rounding alone is as good as any other such.
    limit = np.maximum((1 + NEAR) * best, _SAME)
    near = np.isfinite(restart_errors) & (restart_errors <= limit)
    alone = near.sum(axis=1) <= 1
    lonely = some(int(alone.sum()), len(alone))
    value = float(near.sum() / (~dropped).sum())
    told = (
        f"{percent(value)} of the restarts come within {percent(NEAR)} of their "
        f"image's best error, for {lonely} no other one does"
    )
    if alone.mean() > ALONE:
        return judged(
            True,
            BASIN,
            value,
            f"{told}: with other starts these projections would be others. Take more "
            "restarts or more steps.",
        )
    return judged(False, BASIN, value, f"{told}.")


def projected_twice(
    errors: Float[np.ndarray, " n"], again: Float[np.ndarray, " n"]
) -> Check:
    """Returns whether projecting a projection leaves it where it is.

    Args:
      errors: mean squared error of P(x) against x.
      again: of P(P(x)) against P(x).
    """
    known = np.isfinite(errors) & np.isfinite(again) & (errors > 0)
    if not known.any():
        return skipped(TWICE, "no image has a projection apart from itself")
    value = float(np.median(again[known] / errors[known]))
    told = (
        f"A projection projected again moves by {percent(value)} of the error of the "
        "first, in the median"
    )
    if value > MOVED:
        return judged(
            True,
            TWICE,
            value,
            f"{told}: the search does not find images that are in the range.",
        )
    return judged(False, TWICE, value, f"{told}.")


def generated_found_again(errors: Float[np.ndarray, " n"]) -> Check:
    """Returns whether images x = G(z) are projected onto themselves.

    Args:
      errors: mean squared error of the projection of each generated image.
    """
    value = float(np.mean(errors <= RECOVERED))
    told = (
        f"{percent(value)} of the generator's own images are found again with a mean "
        f"squared error of at most {RECOVERED:g}"
    )
    if value < RECOVERED_SHARE:
        return judged(
            True,
            FOUND_AGAIN,
            value,
            f"{told}: what the projection leaves is the search's failure as much as "
            "the range's limit.",
        )
    return judged(False, FOUND_AGAIN, value, f"{told}.")


class LatentPairs(NamedTuple):
    """Pairs of images in a generator's range that a classifier tells apart.

    Attributes:
      images: both images of each pair.
      logits: of the attacked classifier, of both.
      found: whether a pair is reported as a success.
    """

    images: Float[np.ndarray, "n 2 height width channels"]
    logits: Float[np.ndarray, "n 2 classes"]
    found: Bool[np.ndarray, " n"]


def pairs_hold(pairs: LatentPairs, eta: float, norm: Norm = "l2") -> Check:
    """Returns whether every reported pair is near enough and told apart.

    Args:
      pairs: what the search reports.
      eta: the distance allowed, in pixels.
      norm: of the distance.
    """
    count = int(np.sum(pairs.found))
    if not count:
        return skipped(PAIRS, "no latent pair was found")
    images = pairs.images[pairs.found]
    distances = perturbation_sizes(images[:, 0], images[:, 1], norm)
    predictions = np.argmax(pairs.logits[pairs.found], axis=-1)
    faults = {
        f"apart by more than {eta:g} in {norm}": distances > eta * (1 + 1e-6),
        "of one prediction": predictions[:, 0] == predictions[:, 1],
    }
    wrong = np.any(list(faults.values()), axis=0)
    value = float(distances.max())
    if wrong.any():
        told = "; ".join(
            f"{some(int(which.sum()), count, 'pair')} {what}"
            for what, which in faults.items()
            if which.any()
        )
        return judged(True, PAIRS, value, f"Reported latent pairs are none: {told}.")
    return judged(
        False,
        PAIRS,
        value,
        f"All {count} reported pairs are predicted apart and at most {value:.4g} of "
        f"{eta:g} from each other in {norm}.",
    )


def judged_as_one(
    classes: Int[np.ndarray, "n 2"],
) -> Check:
    """Returns whether an independent judge sees one class in each latent pair.

    Args:
      classes: that the judge gives to both images of each reported pair.
    """
    if not len(classes):
        return skipped(JUDGE, "no latent pair was found")
    one = classes[:, 0] == classes[:, 1]
    value = float(one.mean())
    count = some(int(one.sum()), len(one), "pair")
    told = f"An independent judge sees one class in {count}"
    if value < ONE_CLASS:
        return judged(
            True,
            JUDGE,
            value,
            f"{told}: most pairs change their class, and say nothing about robustness.",
        )
    return judged(False, JUDGE, value, f"{told}.")


def _errors(
    a: Float[np.ndarray, "n height width channels"],
    b: Float[np.ndarray, "n height width channels"],
) -> Float[np.ndarray, " n"]:
    """Returns the mean squared difference of each pair of images."""
    return np.mean((a.astype(np.float64) - b) ** 2, axis=(1, 2, 3))
