"""What a cascade came to on several sets of images, as on all of them together."""

from collections.abc import Sequence

import numpy as np

from robust_manifold.evaluation.cascades.cascade import AtBudget, Share


def joined(parts: Sequence[AtBudget]) -> AtBudget:
    """Returns one budget's results on some sets of images, one after the other."""
    names = in_order([[share.member for share in part.shares] for part in parts])
    member = [
        np.array([names.index(part.shares[place].member) for place in part.member], int)
        for part in parts
    ]
    return AtBudget(
        parts[0].budget,
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.rate for part in parts]),
        np.concatenate([part.margin for part in parts]),
        np.concatenate(member),
        tuple(_added(name, parts) for name in names),
    )


def _added(name: str, parts: Sequence[AtBudget]) -> Share:
    own = [share for part in parts for share in part.shares if share.member == name]
    _, *numbers = zip(*own, strict=True)
    return Share(name, *map(sum, numbers))


def in_order(rounds: Sequence[Sequence[str]]) -> list[str]:
    """Returns the members of all rounds, each after those that were before it.

    >>> in_order([["a", "d"], ["a", "b", "d"]])
    ['a', 'b', 'd']
    """
    order: list[str] = []
    for names in rounds:
        place = 0
        for name in names:
            if name not in order:
                order.insert(place, name)
            place = order.index(name) + 1
    return order
