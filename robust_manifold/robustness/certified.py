"""What is proved of a codebook, beside what attacks leave of it."""

from collections.abc import Mapping, Sequence

import numpy as np

from robust_manifold import certification
from robust_manifold.certification.half_space import ORDER
from robust_manifold.core import batching
from robust_manifold.evaluation import Budget
from robust_manifold.evaluation.cascades import Judged

_FEW = 4
"""Images by whose logits a codebook is known."""


def certified_notes(
    judged: Judged, images: np.ndarray, labels: np.ndarray, budgets: Sequence[Budget]
) -> list[str]:
    """Returns a sentence on the certified accuracy of a bare codebook; else nothing.

    Args:
      judged: what is evaluated.
      images: [n, height, width, channels], in [0, 1].
      labels: [n].
      budgets: at which it is asked.
    """
    codebook = _codebook_of(judged, images[:_FEW])
    if codebook is None:
        return []
    known = [budget for budget in budgets if budget.norm in ORDER]
    radii = {
        norm: certification.certify(codebook, images, labels, norm, box=True)
        for norm in ORDER
        if any(budget.norm == norm for budget in known)
    }
    shares = []
    for norm, epsilon in known:
        found = radii[norm]
        share = np.mean(found.correct & (found.lower >= epsilon))
        shares.append(f"{100 * share:.1f} % at {norm} {epsilon:g}")
    return [
        f"Certified, by the codebook's exact radius within [0, 1]: {', '.join(shares)}."
        " No attack of any kind can leave less."
    ]


def _codebook_of(judged: Judged, images: np.ndarray) -> certification.Codebook | None:
    """Returns the prototypes, if the logits are those of the nearest of them."""
    params = judged.params.classifier
    inner = params.get("params") if isinstance(params, Mapping) else None
    if not (judged.bare and isinstance(inner, Mapping) and [*inner] == ["prototypes"]):
        return None
    codebook = certification.codebook_of(params)
    if codebook.prototypes.shape[1:] != images.shape[1:]:
        return None
    logits = batching.apply_examples(judged.classify, params, images)
    nearest = certification.class_distances(codebook, images) ** 2
    alike = np.shape(logits) == nearest.shape and np.allclose(
        logits, -nearest, rtol=1e-4, atol=1e-4
    )
    return codebook if alike else None
