"""All checks of one classifier under one attack, for users of the library."""

from collections.abc import Callable, Collection
from typing import Any

import jax

from robust_manifold import attacks
from robust_manifold.attacks import Attack
from robust_manifold.attacks.contract import output_of
from robust_manifold.attacks.random import Apply
from robust_manifold.core import keys
from robust_manifold.core.checks import checked_images, checked_key
from robust_manifold.core.criterion import Criterion, checked_criterion
from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.core.spec import is_whole
from robust_manifold.core.types import Params, PRNGKey
from robust_manifold.evaluation.audits.check import Check, skipped
from robust_manifold.evaluation.audits.own_attack import OwnAttack
from robust_manifold.evaluation.audits.probe import Projection
from robust_manifold.evaluation.audits.runs import Network, Runs
from robust_manifold.evaluation.audits.suites import (
    SUITES,
    Given,
    PairsFound,
    missing,
)

DEFAULT_ATTACK = attacks.PGD(epsilon=0.1, steps=20)
"""The attack that is audited by default."""

NAMES: tuple[str, ...] = tuple(name for suite in SUITES for name in suite.names)
"""The names of all checks, in the order in which `audit` returns them."""


def audit(
    apply: Apply,
    params: Params,
    images: Any,
    labels: Any,
    *,
    key: PRNGKey,
    attack: Attack | OwnAttack = DEFAULT_ATTACK,
    criterion: Criterion | None = None,
    view: Apply | None = None,
    undefended: Network | None = None,
    batched: Callable[[Params, Any], Any] | None = None,
    projection: Projection | None = None,
    pairs: PairsFound | None = None,
    checks: Collection[str] = NAMES,
    examples: int = 64,
    queries: int = 200,
    on_check: Callable[[int, int], None] | None = None,
) -> list[Check]:
    """Returns whether a figure of robust accuracy can be believed, check by check.

    The attack is made at several budgets, with fewer steps and more restarts, beside
    a single step, random search and noise; gradients, logits, keys, batches, the
    program, projections and latent pairs are looked at.  Attacks on the same images
    are compared by exact sign tests, so that a sound model raises no flag by luck.
    A check for which something was not given is skipped, and says what.

    Args:
      apply: `apply(params, image) -> logits [classes]`, for one image in [0, 1]: the
        classifier whose robustness is claimed, defence included.  For a random one an
        `attacks.Expectation`.
      params: of `apply`.
      images: [n, height, width, channels], floats in [0, 1].
      labels: [n], the true classes; with another criterion what that compares the
        outputs with.
      key: the root of all randomness.
      attack: whose figure is claimed: an attack with a budget, or an `OwnAttack`.
      criterion: what the attack wants of the outputs, as in `attacks.craft`.  What is
        called right is an image for which it is not met.  Checks that need classes are
        skipped where there are none.
      view: what the attack differentiates in place of `apply`, as in `attacks.craft`.
      undefended: the bare classifier behind the defence.
      batched: `batched(params, images) -> logits [n, classes]`, the function that is
        used on whole batches, as it is called.
      projection: the projection behind the defence.
      pairs: latent pairs that a search reports, to be checked.
      checks: the names of those to make; by default all of `NAMES`.
      examples: images used, from the first.
      queries: of the random search, an image.
      on_check: called after each check with how many were made, and how many of those
        that are wanted what was given allows.

    Raises:
      UsageError: for images, labels or logits of the wrong shape, type or range, for
        an attack without a budget, and for an unknown name of a check.
    """
    for name in checks:
        if name not in NAMES:
            raise unknown_name("check", name, NAMES)
    checked_key(key)
    for name, value in {"examples": examples, "queries": queries}.items():
        if not is_whole(value, 1):
            raise UsageError(f"{name} is {value!r}; allowed: 1 or more.")
    images = checked_images(images)
    criterion = checked_criterion(criterion)
    image = jax.ShapeDtypeStruct(images.shape[1:], images.dtype)
    output = output_of(apply, params, image, criterion)
    labels = criterion.check(output, labels, len(images))
    labels = jax.tree.map(lambda leaf: leaf[:examples], labels)
    images = images[:examples]
    if view is not None:
        output_of(view, params, image, criterion, "view")
    if undefended is not None:
        if not isinstance(undefended, tuple) or len(undefended) != 2:
            raise UsageError(
                f"undefended is {undefended!r}; allowed: a Network(apply, params)."
            )
        output_of(*undefended, image, criterion, "undefended.apply")
    _check_attack(attack)
    if isinstance(attack, Attack):
        attack.fitting(criterion, criterion.classes_among(output.size))
    runs = Runs(
        apply,
        params,
        images,
        labels,
        key=keys.stream(key, "audit"),
        attack=attack,
        criterion=criterion,
        view=view,
        undefended=undefended,
        queries=queries,
    )
    given = Given(batched, projection, pairs)
    wanted, without = set(checks), missing(runs, given)
    made = {name: skipped(name, without[name]) for name in wanted & set(without)}
    wanted, begun = wanted - set(without), len(made)
    for suite in SUITES:
        if not wanted & set(suite.names):
            continue
        for check in suite.make(runs, given, wanted):
            if check.name not in wanted:
                continue
            made[check.name] = check
            if on_check is not None:
                on_check(len(made) - begun, len(wanted))
    return [made[name] for name in NAMES if name in made]


def _check_attack(attack: Any) -> None:
    if isinstance(attack, OwnAttack):
        return
    if not isinstance(attack, Attack) or attack.budget is None:
        raise UsageError(
            f"attack is {attack!r}; allowed: an attack with a budget, such as "
            "PGD(epsilon=0.1), or an evaluation.OwnAttack."
        )
