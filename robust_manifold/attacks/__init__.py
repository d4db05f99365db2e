"""Attacks: each is the mathematics of one paper for one image, vmapped for many."""

from robust_manifold.attacks.base import (
    Attack,
    AttackWarning,
    Attempt,
    Ensemble,
    Passes,
    Problem,
    Queries,
    SteppedAttack,
    registry,
)
from robust_manifold.attacks.craft import Crafted, craft, craft_grid
from robust_manifold.attacks.fast_gradient import FGSM, RandFGSM
from robust_manifold.attacks.losses import Evaluation, Objective
from robust_manifold.attacks.projected_gradient import PGD
from robust_manifold.attacks.random import Expectation
from robust_manifold.attacks.square import Square

__all__ = [
    "FGSM",
    "PGD",
    "Attack",
    "AttackWarning",
    "Attempt",
    "Crafted",
    "Ensemble",
    "Evaluation",
    "Expectation",
    "Objective",
    "Passes",
    "Problem",
    "Queries",
    "RandFGSM",
    "Square",
    "SteppedAttack",
    "craft",
    "craft_grid",
    "registry",
]
