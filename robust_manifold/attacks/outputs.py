"""A look at what a user's classifier puts out, before it is attacked."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.extend import core

from robust_manifold.attacks.base import warn
from robust_manifold.attacks.random import Apply, bound
from robust_manifold.core import batching
from robust_manifold.core.types import Logits, Params, PRNGKey


@dataclasses.dataclass(frozen=True)
class _Outputs:
    """The classifier on clean images, in the programs' own tiles."""

    apply: Apply
    tiled = True

    def __call__(self, params: Params, key: PRNGKey, example: Any) -> Logits:
        return bound(self.apply, params, key)(example)


def check_outputs(
    apply: Apply,
    params: Params,
    images: np.ndarray,
    *,
    key: PRNGKey,
    tile: int | None = None,
) -> None:
    """Warns of outputs on clean images that spoil an attack.

    They are NaN, which no attack counts as a success, and probabilities, whose
    gradients vanish where the classifier is sure of itself.

    Args:
      apply: as for `craft`.
      params: of `apply`.
      images: [n, height, width, channels].
      key: of a random classifier.
      tile: as for `craft`.
    """
    logits = np.asarray(
        batching.map_examples(_Outputs(apply), params, images, key=key, tile=tile)
    )
    broken = np.flatnonzero(np.isnan(logits).any(axis=-1))
    if broken.size:
        warn(
            f"apply gives NaN logits for {broken.size} of {len(logits)} clean images "
            f"(the first is images[{broken[0]}]); no attack can succeed there."
        )
    sums = logits.sum(axis=-1)
    # Of one image alone, true logits may happen to add up to 1.
    if (
        len(logits) > 1
        and (logits >= 0).all()
        and (logits <= 1).all()
        and np.allclose(sums, 1, atol=1e-3)
    ):
        warn(
            f"the outputs of apply lie in [0, 1] and add up to 1 for all {len(logits)} "
            "images: they look like probabilities. Return the logits before the "
            "softmax; the gradients of probabilities vanish."
        )


def loop_form(view: Apply, params: Params, images: np.ndarray) -> str:
    """Returns the faster form of the loop over an attack's steps.

    On a CPU, XLA's own convolutions are many times slower inside a compiled loop than
    in a compiled step (docs/performance.md); this package's are not.
    """
    if jax.default_backend() != "cpu":
        return "scan"
    image = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    key = jax.eval_shape(lambda: jax.random.key(0))
    traced = jax.make_jaxpr(lambda p, i, k: bound(view, p, k)(i))(params, image, key)
    return "python" if _holds_convolution(traced.jaxpr) else "scan"


def _holds_convolution(jaxpr: Any) -> bool:
    for equation in jaxpr.eqns:
        if equation.primitive.name == "conv_general_dilated":
            return True
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda v: isinstance(v, core.Jaxpr)
        ):
            inner = getattr(value, "jaxpr", value)
            if isinstance(inner, core.Jaxpr) and _holds_convolution(inner):
                return True
    return False
