"""Attacks: each is the mathematics of one paper for one image, vmapped for many."""

from robust_manifold.attacks.base import Attack, Attempt, registry
from robust_manifold.attacks.craft import Crafted, Queries, craft
from robust_manifold.attacks.fast_gradient import FGSM, RandFGSM
from robust_manifold.attacks.losses import Evaluation, Objective
from robust_manifold.attacks.projected_gradient import PGD

__all__ = [
    "FGSM",
    "PGD",
    "Attack",
    "Attempt",
    "Crafted",
    "Evaluation",
    "Objective",
    "Queries",
    "RandFGSM",
    "craft",
    "registry",
]
