"""Checks of the order of attacks: who knows or does more breaks no fewer images."""

import numpy as np
from jaxtyping import Bool

from robust_manifold.evaluation.audits.check import Check, judged, paired, percent, some

SINGLE_STEP = "iterative against single step"
MORE_STEPS = "more steps"
MORE_RESTARTS = "more restarts"
SCORES = "scores against white box"
TRANSFER = "transfer against white box"
NOISE = "noise against attacks"
VIEW = "view against gradient"

_REMEDIES = {
    SINGLE_STEP: "The gradient misleads or the step size does not fit.",
    MORE_STEPS: "The step size does not fit the steps, or gradients are noise.",
    MORE_RESTARTS: "Restarts must add candidates, not replace them.",
    SCORES: "Gradients are masked: the white-box figure is no evidence of robustness.",
    TRANSFER: "The gradients of the defended classifier hide what those of another "
    "show: the white-box figure is no evidence of robustness.",
    NOISE: "An attack that noise beats does not search.",
}
"""What it means that the weaker attack breaks more."""


def ordered(
    name: str,
    strong: Bool[np.ndarray, " n"],
    weak: Bool[np.ndarray, " n"],
    *,
    stronger: str,
    weaker: str,
) -> Check:
    """Returns whether the attack that should be the stronger one is, beyond luck.

    Args:
      name: of the check.
      strong: whether each image fell to the attack that knows or does more.
      weak: whether it fell to the other one, on the same images.
      stronger: the first attack, as the sentence says it.
      weaker: the second attack.
    """
    found = paired(strong, weak)
    told = (
        f"{stronger} leaves {percent(1 - found.first / found.n)} right, {weaker} "
        f"{percent(1 - found.second / found.n)}"
    )
    value = (found.second - found.first) / found.n
    if not found.second_is_stronger:
        return judged(False, name, value, f"{told}.")
    return judged(
        True,
        name,
        value,
        f"{told}, and {some(found.only_second, found.n)} fall to the latter alone. "
        f"{_REMEDIES.get(name, 'The stronger attack fails.')}",
    )


def view_against_gradient(
    by_view: Bool[np.ndarray, " n"], by_gradient: Bool[np.ndarray, " n"]
) -> Check:
    """Returns whether the view alone tells what view and true gradient tell together.

    Args:
      by_view: whether each image fell to the attack along the view's gradient, such as
        a straight-through one (BPDA).
      by_gradient: whether it fell to the attack along the defended classifier's own.
    """
    found = paired(by_view, by_gradient)
    both = found.first + found.only_second
    told = (
        f"Along the view's gradient {percent(1 - found.first / found.n)} stay right, "
        f"along the defended classifier's own {percent(1 - found.second / found.n)}, "
        f"under the better of both for each image {percent(1 - both / found.n)}"
    )
    value = found.only_second / found.n
    if not found.second_is_stronger:
        return judged(False, VIEW, value, f"{told}.")
    return judged(
        True, VIEW, value, f"{told}: the view is the weaker attack, report both."
    )
