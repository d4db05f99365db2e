"""From an attack on one image to adversarial examples of many."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from robust_manifold.attacks.base import (
    Attack,
    AttackWarning,
    Ensemble,
    Problem,
    Queries,
    SteppedAttack,
)
from robust_manifold.attacks.outputs import check_outputs, loop_form
from robust_manifold.attacks.random import Apply, bound
from robust_manifold.core import keys, loops, norms
from robust_manifold.core.checks import checked_images, checked_labels
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Image, Label, Params, PRNGKey, Scalar


class Crafted(NamedTuple):
    """Adversarial images and what the evaluated function makes of them."""

    images: Float[Array, "*n height width channels"]
    success: Bool[Array, "*n"]
    """Whether the prediction differs from the label, or is the target; never where a
    logit is NaN."""
    distance: Float[Array, "*n"]
    """The norm of the perturbation, in the attack's own norm."""
    queries: Queries
    logits: Float[Array, "*n classes"]
    member: Int[Array, "*n"]
    """Which member of an ensemble made the image; 0 for a single attack."""


class _Example(NamedTuple):
    image: Image
    label: Label
    """The class to leave or, in a targeted attack, to reach."""
    epsilon: Scalar


class _Seen(NamedTuple):
    """What an attack meets."""

    apply: Apply
    """The evaluated function."""
    view: Apply
    """What the attack may differentiate."""
    classes: int
    """Of the logits."""
    targeted: bool = False
    """Whether the example's label is to be reached."""


@dataclasses.dataclass(frozen=True)
class _CraftOne:
    """A stepped attack on one image as a loop, hashed by value.

    Attributes:
      attack: without its budget, which the example has.
      seen: what it is made on.
    """

    attack: SteppedAttack[Any]
    seen: _Seen

    def loop(self) -> loops.Loop:
        attack = self.attack
        return loops.Loop(
            begin=_Begin(self),
            step=_Step(self),
            finish=_Finish(self),
            steps=attack.iterations,
            ended=_Ended(attack) if attack.ends_early else None,
        )

    def problem(self, params: Params, key: PRNGKey, example: _Example) -> Problem:
        """Returns the problem of a step; a random view gets the step's key."""
        classify = bound(self.seen.view, params, keys.stream(key, "classifier"))
        image, label, epsilon = example
        return Problem(classify, image, label, epsilon, self.seen.targeted)


@dataclasses.dataclass(frozen=True)
class _Begin:
    craft: _CraftOne

    def __call__(self, params: Params, key: PRNGKey, example: _Example) -> Any:
        problem = self.craft.problem(params, key, example)
        return self.craft.attack.begin(problem, key)


@dataclasses.dataclass(frozen=True)
class _Step:
    craft: _CraftOne

    def __call__(self, params: Params, key: PRNGKey, example: _Example, state) -> Any:
        problem = self.craft.problem(params, key, example)
        return self.craft.attack.step(problem, key, state)


@dataclasses.dataclass(frozen=True)
class _Ended:
    attack: SteppedAttack[Any]

    def __call__(self, state: Any) -> Bool[Array, ""]:
        return self.attack.ended(state)


@dataclasses.dataclass(frozen=True)
class _Finish:
    craft: _CraftOne

    def __call__(
        self, params: Params, key: PRNGKey, example: _Example, state, steps
    ) -> Crafted:
        craft = self.craft
        problem = craft.problem(params, key, example)
        image = craft.attack.finish(problem, key, state)
        queries = craft.attack.spent(state, steps, craft.seen.classes)
        evaluated = bound(craft.seen.apply, params, keys.stream(key, "evaluation"))
        logits = evaluated(image)
        distance = norms.norm(image - example.image, craft.attack.norm)
        return Crafted(
            image, problem.succeeds(logits), distance, queries, logits, jnp.int32(0)
        )


def craft(
    attack: Attack,
    apply: Apply,
    params: Params,
    images: Any,
    labels: Any,
    *,
    key: PRNGKey,
    targets: Any = None,
    view: Apply | None = None,
    batch_size: int | None = None,
    tile: int | None = None,
    ids: np.ndarray | jax.Array | None = None,
    loop: str | None = None,
    on_chunk: Callable[[int, int], None] | None = None,
) -> Crafted:
    """Returns adversarial examples for a batch, compiled, in chunks, on all devices.

    The result for an image depends on its id and `key`, never on its batch mates.
    Calls with equal attacks, whatever their budget, the same `apply` and equal shapes
    compile once.

    Args:
      attack: for instance `PGD(epsilon=0.3)`.
      apply: `apply(params, image) -> logits [classes]`, for one image in [0, 1]; any
        normalisation belongs inside.  Pass one function again and again, rather than
        a new lambda each time, which would compile anew.  For a random classifier an
        `Expectation`.
      params: of `apply`.
      images: [n, height, width, channels], floats in [0, 1].
      labels: [n], the true classes.
      key: the root of all randomness of the attack.
      targets: [n], the classes to reach, for a targeted attack.
      view: what the attack sees in place of `apply`, with the same arguments;
        successes are still those against `apply`.
      batch_size: images worked on together; results do not depend on it.
      tile: images that a device computes at once; by default as many as are fast and
        memory allows.
      ids: global ids [n] of the images; 0..n-1 by default.
      loop: "scan" compiles many steps as one program, "python" calls a compiled step
        again and again; by default the latter only on a CPU and for functions that
        hold XLA's own convolutions, which are slow inside loops there.
      on_chunk: called with (images ready, n) whenever some are.

    Raises:
      UsageError: for images, labels or logits of the wrong shape, type or range.

    Warns:
      AttackWarning: if a loss had to be replaced for lack of classes, if outputs look
        like probabilities, or if some clean images have NaN logits.
    """
    images = checked_images(images)
    seen = _Seen(apply, view or apply, _checked_classes(apply, view, params, images))
    labels = checked_labels(labels, len(images), seen.classes)
    if targets is not None:
        labels = _checked_targets(targets, labels, seen.classes)
        seen = seen._replace(targeted=True)
    check_outputs(apply, params, images, key=key, tile=tile)
    ids = np.arange(len(images)) if ids is None else np.asarray(ids)
    loop = loop or loop_form(seen.view, params, images)
    attack = _fitting(attack, seen)
    members = _members(attack, seen)
    found: Crafted | None = None
    for place, member in enumerate(members):
        left = _unbroken(found, len(images))
        if not left.size:
            break
        tell = _teller(on_chunk, len(images), len(left), len(members) - place)
        made = loops.map_loop(
            _CraftOne(member.without_budget(), seen).loop(),
            params,
            _examples(images[left], labels[left], member.budget),
            # A single attack's randomness is that of its `run`.
            key=jax.random.fold_in(key, place) if len(members) > 1 else key,
            ids=ids[left],
            batch_size=batch_size,
            tile=tile,
            form=loop,
            on_chunk=tell,
        )
        made = made._replace(member=jnp.full(len(left), place, jnp.int32))
        found = made if found is None else _merged(found, made, left)
    assert found is not None
    return jax.tree.map(jnp.asarray, found)


def craft_grid(
    attack: Attack,
    apply: Apply,
    params: Params,
    images: Any,
    labels: Any,
    epsilons: Sequence[float],
    *,
    key: PRNGKey,
    **options: Any,
) -> Crafted:
    """Returns the adversarial examples at each of some budgets, stacked in front.

    An image that falls at one budget is carried over to all larger ones, which are
    tried on the others alone: accuracy never rises with the budget.  An attack that
    minimises the distance is run once, and succeeds at budgets no smaller than it.

    Args:
      attack: its own `epsilon` is not used.
      apply: as for `craft`.
      params: as for `craft`.
      images: as for `craft`.
      labels: as for `craft`.
      epsilons: rising, in the attack's norm.
      key: as for `craft`.
      **options: as for `craft`.

    Raises:
      UsageError: as `craft`; also unless the budgets rise.
    """
    budgets = [float(epsilon) for epsilon in epsilons]
    if not budgets or any(b <= a for a, b in zip(budgets, budgets[1:], strict=False)):
        raise UsageError(f"epsilons are {budgets}; allowed: one or more, rising.")
    run = functools.partial(craft, apply=apply, params=params, key=key)
    if attack.budget is None:
        nearest = run(attack, images=images, labels=labels, **options)
        rows = [
            nearest._replace(success=nearest.success & (nearest.distance <= budget))
            for budget in budgets
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    images = np.asarray(images)
    each = {"labels": labels, "targets": options.pop("targets", None)}
    each["ids"] = options.pop("ids", np.arange(len(images)))
    found: list[Crafted] = []
    for budget in budgets:
        left = _unbroken(found[-1] if found else None, len(images))
        if not left.size:
            found.append(_without_queries(found[-1]))
            continue
        made = run(
            dataclasses.replace(attack, epsilon=budget),  # type: ignore[type-var]
            images=images[left],
            **{k: v if v is None else np.asarray(v)[left] for k, v in each.items()},
            **options,
        )
        if found:
            made = _merged(_without_queries(found[-1]), made, left, keep=False)
        found.append(made)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)


def _checked_classes(apply: Apply, view: Apply | None, params, images) -> int:
    """Returns the number of classes of both functions."""
    classes = _classes(apply, params, images)
    if view is not None and (others := _classes(view, params, images)) != classes:
        raise UsageError(
            f"view gives {others} logits and apply {classes}; allowed: equally many."
        )
    return classes


def _classes(apply: Apply, params: Params, images: np.ndarray) -> int:
    """Returns the number of classes, from the shape of one image's logits."""
    logits = _abstract_logits(apply, params, images)
    shape = getattr(logits, "shape", None)
    if shape is None or len(shape) != 1 or shape[0] < 2:
        raise UsageError(
            f"apply gives {shape or type(logits).__name__} for one image; allowed: a "
            "vector of logits for 2 classes or more."
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise UsageError(f"apply gives logits of type {logits.dtype}; allowed: floats.")
    return shape[0]


def _abstract_logits(apply: Apply, params: Params, images: np.ndarray) -> Any:
    image = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(
        lambda params, image, key: bound(apply, params, key)(image), params, image, key
    )


def _checked_targets(targets: Any, labels: np.ndarray, classes: int) -> np.ndarray:
    try:
        targets = checked_labels(targets, len(labels), classes)
    except UsageError as error:
        raise UsageError(str(error).replace("labels", "targets", 1)) from None
    same = np.flatnonzero(targets == labels)
    if same.size:
        raise UsageError(
            f"targets[{same[0]}] is {targets[same[0]]}, the image's own label; "
            "allowed: another class."
        )
    return targets


def _examples(images: np.ndarray, labels: np.ndarray, budget: float | None) -> _Example:
    budgets = np.full(len(images), budget or 0, images.dtype)
    return _Example(images, labels, budgets)  # type: ignore[arg-type]


def _fitting(attack: Any, seen: _Seen) -> Any:
    """Returns the attack as it is made for the classes, and tells of any change."""
    fitting = attack.for_classes(seen.classes, seen.targeted)
    if fitting != attack:
        warnings.warn(
            f"{attack} does not suit {seen.classes} classes; {fitting} is made "
            "instead.",
            AttackWarning,
            stacklevel=3,
        )
    return fitting


def _members(attack: Attack, seen: _Seen) -> list[SteppedAttack[Any]]:
    """Returns an ensemble's attacks, or the attack alone."""
    if isinstance(attack, Ensemble):
        members = attack.members(seen.classes)
        return [member.for_classes(seen.classes, seen.targeted) for member in members]
    assert isinstance(attack, SteppedAttack)
    return [attack]


def _unbroken(found: Crafted | None, n: int) -> np.ndarray:
    """Returns the places of the images on which nothing has succeeded so far."""
    if found is None:
        return np.arange(n)
    return np.flatnonzero(~np.asarray(found.success))


def _without_queries(found: Crafted) -> Crafted:
    return found._replace(queries=jax.tree.map(jnp.zeros_like, found.queries))


def _merged(
    found: Crafted, made: Crafted, left: np.ndarray, keep: bool = True
) -> Crafted:
    """Returns what was found, with what was made of the images at `left`.

    Args:
      found: of all images.
      made: of those at `left`.
      left: places.
      keep: where `made` has not succeeded either, what was found stays.
    """
    success = np.asarray(made.success)
    taken = left[success] if keep else left

    def merged(old: Array, new: Array) -> Array:
        new = new[success] if keep else new
        return jnp.asarray(old).at[taken].set(new)

    result = jax.tree.map(merged, found, made)
    queries = jax.tree.map(
        lambda old, new: jnp.asarray(old).at[left].add(new), found.queries, made.queries
    )
    return result._replace(queries=queries)


def _teller(
    on_chunk: Callable[[int, int], None] | None, n: int, left: int, members: int
) -> Callable[[int, int], None] | None:
    """Returns what tells of the images that no later member will be tried on.

    Args:
      on_chunk: the user's.
      n: images in all.
      left: those that this member is made on.
      members: this one and those after it.
    """
    if on_chunk is None:
        return None

    def tell(ready: int, of: int) -> None:
        del of
        # Whether later members go on with an image is known when this one is done.
        on_chunk(n - left + ready // members, n)

    return tell
