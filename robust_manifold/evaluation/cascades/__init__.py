"""A worst case by itself: members in turn, each on what still stands.

An attack alone is worth what its author put into it.  A cascade is the same effort for
every classifier and defence: a pilot tries the ways to differentiate a defence, and the
best of them, aimed and unaimed, from several starts, work one after another on the
images that no one has broken so far.
"""

from robust_manifold.evaluation.cascades.cascade import (
    AtBudget,
    Found,
    Share,
    cascade,
    exchange,
)
from robust_manifold.evaluation.cascades.donors import bare_network, inverted
from robust_manifold.evaluation.cascades.effort import EFFORTS, Effort
from robust_manifold.evaluation.cascades.joined import in_order, joined
from robust_manifold.evaluation.cascades.judged import Judged
from robust_manifold.evaluation.cascades.members import Donor
from robust_manifold.evaluation.cascades.pilot import Tried
from robust_manifold.evaluation.cascades.spec import NORMS, Cascade, efforts, registry

__all__ = [
    "EFFORTS",
    "NORMS",
    "AtBudget",
    "Cascade",
    "Donor",
    "Effort",
    "Found",
    "Judged",
    "Share",
    "Tried",
    "bare_network",
    "cascade",
    "efforts",
    "exchange",
    "in_order",
    "inverted",
    "joined",
    "registry",
]
