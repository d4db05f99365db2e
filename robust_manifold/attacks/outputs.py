"""A look at a user's classifier on clean images, before it is attacked."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array, Bool, Float

from robust_manifold.attacks.base import warn
from robust_manifold.attacks.contract import first_line, told_by
from robust_manifold.attacks.losses import margin
from robust_manifold.attacks.random import Apply, Expectation, bound
from robust_manifold.core import batching, keys
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion, Targeted, loss_of
from robust_manifold.core.errors import NoGradientError, UsageError
from robust_manifold.core.once import Once, of_jaxpr
from robust_manifold.core.types import Output, Params, PRNGKey, Scalar, Target

BLIND = 0.01
"""Share of the images above which gradients that lead nowhere are told."""
_FAR_BELOW = 1e4
"""A logit that is so many times farther below 0 than the others reach is a mask."""
_SHOWN = 4
"""Classes named in a warning."""


class _Example(NamedTuple):
    image: Array
    """An image, or what else the classifier takes."""
    label: Target | None
    fixed: Array | None
    """Data of the key that a random classifier always gets."""


class _Clean(NamedTuple):
    """What one clean image gives."""

    logits: Output
    slope: Scalar | None = None
    """The largest entry of the loss's gradient; NaN or infinite if one entry is."""


@dataclasses.dataclass(frozen=True)
class _Look:
    """The classifier on a clean image, and its gradient, in the programs' own tiles.

    Attributes:
      apply: whose logits are looked at.
      view: whose gradient is; None if no gradient is wanted.
      criterion: whose loss is; of one on classes it is the margin.
      key_impl: of the fixed keys.
    """

    apply: Apply
    view: Apply | None
    criterion: Criterion = MISCLASSIFIED
    key_impl: Any = None
    tiled = brief = True

    def __call__(self, params: Params, key: PRNGKey, example: _Example) -> _Clean:
        if self.view is None:
            return _Clean(self._bound(self.apply, params, key, example)(example.image))
        alike = self.view == self.apply
        own = key if alike else keys.stream(key, "view")
        classify = self._bound(self.view, params, own, example)

        def lead(image: Array) -> tuple[Scalar, Output]:
            logits = classify(image)
            if not self.criterion.classes:
                return loss_of(self.criterion, logits, example.label), logits
            predicted = jnp.argmax(logits)
            label = predicted if example.label is None else example.label
            return margin(logits, label), logits

        gradient, logits = jax.grad(lead, has_aux=True)(example.image)
        if not alike:
            logits = self._bound(self.apply, params, key, example)(example.image)
        return _Clean(logits, jnp.max(jnp.abs(gradient)))

    def _bound(self, apply: Apply, params: Params, key: PRNGKey, example: _Example):
        if example.fixed is None:
            return bound(apply, params, key)
        fixed = jax.random.wrap_key_data(example.fixed, impl=self.key_impl)
        return bound(apply, params, fixed, fixed=True)


def check_outputs(
    apply: Apply,
    params: Params,
    images: np.ndarray,
    labels: Any = None,
    *,
    key: PRNGKey,
    view: Apply | None = None,
    gradients: bool = False,
    criterion: Criterion = MISCLASSIFIED,
    fixed_keys: Any = None,
    tile: int | None = None,
    name: str = "apply",
    what: str = "clean images",
) -> None:
    """Warns of outputs and gradients on clean images that spoil an attack.

    They are NaN, which no attack counts as a success; probabilities, whose gradients
    vanish where the classifier is sure of itself; logits of classes that can never be
    predicted; and gradients that are zero, NaN or infinite.

    One forward pass an image, and one backward pass if `gradients` are wanted, all in
    one compiled program; they count as nobody's queries.  `craft` calls it once.  A
    search that moves in latents calls it with the classifier on the images that it
    starts from, or, to look through the generator too, with latents in place of
    `images` and a function of a latent in place of `apply`; this function must hash
    by value, as a frozen dataclass does, or each call compiles anew:

        check_outputs(
            classify, params.classifier, images, labels, key=key, gradients=True
        )

    Args:
      apply: as for `craft`.
      params: of `apply` and `view`.
      images: [n, height, width, channels], or what else `apply` takes.
      labels: [n], the classes to leave, or to reach; by default the predicted ones.
        With a criterion without classes its targets.
      key: of a random classifier.
      view: what the attack differentiates in place of `apply`.
      gradients: whether the attack asks for any; see `Attack.cost`.
      criterion: what is wanted of the outputs.
      fixed_keys: [n] keys that a random classifier always gets.
      tile: as for `craft`.
      name: of the argument that `apply` is.
      what: the images are, in the words of the warnings.

    Raises:
      UsageError: if gradients are wanted and there are none.

    Warns:
      AttackWarning: of each of these.
    """
    data = key_impl = None
    if fixed_keys is not None:
        data = np.asarray(jax.random.key_data(fixed_keys))
        key_impl = jax.random.key_impl(fixed_keys)
    seen = apply if view is None else view
    # One program serves all criteria that look at nothing of their own.
    own = MISCLASSIFIED if criterion.classes or not gradients else criterion
    look = _Look(apply, seen if gradients else None, own, key_impl)
    examples = _Example(images, labels, data)  # type: ignore[arg-type]
    clean = _looked(look, params, examples, key, tile, name)
    logits = np.asarray(clean.logits, np.float64)
    broken = np.asarray(np.isnan(logits).reshape(len(logits), -1).any(axis=1))
    _tell_of_nan(broken, name, what)
    if broken.all():
        return
    targeted, lost = isinstance(criterion, Targeted), 0
    if criterion.classes:
        sound = logits[~broken]
        hopeless = hopeless_classes(sound)
        _tell_of_probabilities(sound, name, what)
        aims = labels if targeted else None
        _tell_of_hopeless(hopeless, len(sound), aims, name, what)
        lost = np.sum(hopeless) >= len(hopeless) - 1
    # Where only one class can win, no gradient leads anywhere, whoever computes it.
    if clean.slope is not None and not lost:
        left = ~broken
        if criterion.classes and labels is not None:
            predicted = np.argmax(np.where(np.isnan(logits), -np.inf, logits), axis=-1)
            left &= (predicted != labels) == targeted
        if view is not None and view != apply:
            name = "the view"
        _tell_of_gradients(np.asarray(clean.slope)[left], name, what)


def hopeless_classes(
    logits: Float[np.ndarray, "n classes"],
) -> Bool[np.ndarray, " classes"]:
    """Returns which classes can never be predicted, as far as the images tell.

    Their logits are -inf on all images, or farther below 0 than those of all others
    reach, 10,000 times over: a mask of a finite number such as -1e9.  If this leaves
    one class alone, the next one's logit must be the same on all images, too, while
    the first one's is not: else it stands above all others because it is right.

    >>> hopeless_classes(np.array([[3.0, -1e9, 1.0], [0.0, -1e9, 4.0]]))
    array([False,  True, False])
    """
    tops = logits.max(axis=0)
    hopeless = np.isneginf(tops)
    order = np.argsort(-tops)
    reach = 1.0
    fixed = (logits == logits[0]).all(axis=0)
    for place, column in enumerate(order[: np.sum(~hopeless)]):
        # One class that stands above all others is an opinion, unless nothing is said.
        told = place > 1 or (fixed[column] and not fixed[order[0]])
        if told and tops[column] < -_FAR_BELOW * reach:
            hopeless[column] = True
            continue
        values = np.abs(logits[:, column])
        reach = max(reach, values[np.isfinite(values)].max(initial=0))
    return hopeless


def _looked(
    look: _Look,
    params: Params,
    examples: _Example,
    key: PRNGKey,
    tile: int | None,
    name: str,
) -> _Clean:
    """Returns what every image gives, if there is a gradient where one is wanted."""
    try:
        # It traces the function, and compiles nothing.
        fitting = batching.default_tile(look, params, examples)
    except UsageError:
        raise
    except Exception as error:
        name = name if look.view in (None, look.apply) else "view"
        known = told_by(name, error)
        if look.view is None and known is None:
            raise
        raise known or NoGradientError(
            f"{name} has no gradient ({first_line(error)}); allowed: a function that "
            "JAX can differentiate, a view= that it can, or an attack that asks for no "
            "gradient, such as Square."
        ) from error
    try:
        return batching.map_examples(
            look, params, examples, key=key, tile=tile or fitting
        )
    # What a function has kept of its first trace shows in the second.
    except jax.errors.UnexpectedTracerError as error:
        raise told_by(name, error) or error from error


def _tell_of_nan(broken: Bool[np.ndarray, " n"], name: str, what: str) -> None:
    if broken.any():
        warn(
            f"{name} gives NaN logits for {broken.sum()} of {len(broken)} {what} (the "
            f"first is {what.split()[-1]}[{np.argmax(broken)}]); no attack can succeed "
            "there."
        )


def _tell_of_probabilities(
    logits: Float[np.ndarray, "n classes"], name: str, what: str
) -> None:
    inside = (logits >= 0).all() and (logits <= 1).all()
    # Of one image alone, true logits may happen to add up to 1.
    if inside and len(logits) > 1 and np.allclose(logits.sum(axis=-1), 1, atol=1e-3):
        warn(
            f"the outputs of {name} lie in [0, 1] and add up to 1 for all "
            f"{len(logits)} {what}: they look like probabilities. Return the logits "
            "before the softmax; the gradients of probabilities vanish."
        )


def _tell_of_hopeless(
    hopeless: Bool[np.ndarray, " classes"],
    n: int,
    targets: np.ndarray | None,
    name: str,
    what: str,
) -> None:
    classes, hopeless = hopeless.size, np.flatnonzero(hopeless)
    if not hopeless.size:
        return
    aimed = ""
    if targets is not None and (lost := np.isin(targets, hopeless).sum()):
        aimed = f", as {lost} of {len(targets)} targets would have it"
    shown = ", ".join(map(str, hopeless[:_SHOWN]))
    if hopeless.size > _SHOWN:
        shown += f" and {hopeless.size - _SHOWN} more"
    warn(
        f"{name} can never predict the classes {shown} of {classes}: on all "
        f"{n} {what} their logits are -inf, or far below the others', as "
        f"behind a mask. No attack can reach them{aimed}; robustness against them says "
        "nothing."
    )


def _tell_of_gradients(slopes: Float[np.ndarray, " n"], name: str, what: str) -> None:
    """Warns if too many gradients lead nowhere.

    Args:
      slopes: of those images that an attack has something to do with.
      name: of the function whose gradients they are.
      what: the images are.
    """
    broken = ~np.isfinite(slopes)
    zero = ~broken & (np.abs(slopes) < np.finfo(slopes.dtype).tiny)
    if not slopes.size or np.mean(zero | broken) <= BLIND:
        return
    kinds = {"are zero": zero, "are NaN or infinite": broken}
    told = " and ".join(
        f"{kind} for {mask.sum()} of {len(slopes)} {what}"
        for kind, mask in kinds.items()
        if mask.any()
    )
    remedy = f"Hand over a {name} that has gradients"
    if name == "apply":
        remedy = "Hand craft a view= that has gradients, such as a straight-through one"
    elif name == "the view":
        remedy = "Give the view gradients"
    warn(
        f"the gradients of {name} {told}: an attack that follows them finds nothing "
        f"there, which is no robustness. {remedy}; evaluation.audit says where they "
        "vanish."
    )


def loop_form(view: Apply, params: Params, images: np.ndarray) -> str:
    """Returns the faster form of the loop over an attack's steps.

    On a CPU, XLA's own convolutions are many times slower inside a compiled loop than
    in a compiled step (docs/performance.md); this package's are not.
    """
    if jax.default_backend() != "cpu":
        return "scan"
    params, key, image = batching.arguments_of_one(params, images)
    keys = (key,) if isinstance(view, Expectation) else ()
    slow = of_jaxpr(_holds_convolution, Once(view), params, image, *keys)
    return "python" if slow else "scan"


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
