"""Attacks that carry over: crafted on one classifier, counted on another."""

import dataclasses
from typing import Any

import jax
from jaxtyping import Array

from robust_manifold.attacks.base import Attack
from robust_manifold.attacks.contract import output_of
from robust_manifold.attacks.craft import Crafted, craft
from robust_manifold.attacks.random import Apply, Expectation
from robust_manifold.core.checks import checked_images
from robust_manifold.core.criterion import checked_criterion
from robust_manifold.core.errors import UsageError
from robust_manifold.core.types import Output, Params, PRNGKey


def transfer(
    attack: Attack,
    source: Apply,
    source_params: Params,
    apply: Apply,
    params: Params,
    images: Any,
    labels: Any,
    *,
    key: PRNGKey,
    **options: Any,
) -> Crafted:
    """Returns images crafted on the classifier `source`, scored on `apply`.

    With a source that was trained on the other's labels
    (`training.train_substitute`) this is the black-box attack of Papernot et al. 2017.
    Where the target is no JAX function, `craft` on the source and ask the target.

    Args:
      attack: for instance `FGSM(epsilon=0.3)`.
      source: `source(source_params, image) -> logits`: what the attack differentiates.
      source_params: of `source`.
      apply: `apply(params, image) -> logits`: what successes and logits are of.
      params: of `apply`.
      images: as for `craft`.
      labels: as for `craft`.
      key: as for `craft`.
      **options: as for `craft`.

    Raises:
      UsageError: as `craft`.
    """
    # By the names that they have here.
    held = checked_images(images)
    image = jax.ShapeDtypeStruct(held.shape[1:], held.dtype)
    criterion = checked_criterion(options.get("criterion"))
    taught = output_of(source, source_params, image, criterion, "source").size
    wanted = output_of(apply, params, image, criterion).size
    if taught != wanted:
        what = "logits" if criterion.classes else "outputs"
        raise UsageError(
            f"source gives {taught} {what} and apply {wanted}; allowed: equally many."
        )
    return craft(
        attack,
        _of_pair(apply, 0),
        (params, source_params),
        images,
        labels,
        view=_of_pair(source, 1),
        key=key,
        **options,
    )


def _of_pair(apply: Apply, place: int) -> Apply:
    """Returns the classifier as a function of the parameters of both."""
    if isinstance(apply, Expectation):
        return Expectation(_OfPair(apply.apply, place), apply.samples)
    return _OfPair(apply, place)


@dataclasses.dataclass(frozen=True)
class _OfPair:
    """A classifier that takes its parameters from a pair; equal ones compile once."""

    apply: Any
    place: int

    def __call__(self, params: Any, image: Array, *key: PRNGKey) -> Output:
        return self.apply(params[self.place], image, *key)
