"""Attacks: each is the mathematics of one paper for one image, vmapped for many."""

from robust_manifold.attacks.apgd import APGD
from robust_manifold.attacks.auto_attack import AutoAttack
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
    without_warnings,
)
from robust_manifold.attacks.carlini_wagner import CarliniWagner
from robust_manifold.attacks.craft import craft, craft_grid
from robust_manifold.attacks.crafted import Crafted, MemberDone, Summary
from robust_manifold.attacks.decoupling import DDN
from robust_manifold.attacks.deepfool import DeepFool
from robust_manifold.attacks.elastic_net import ElasticNet
from robust_manifold.attacks.fast_adaptive_boundary import FAB
from robust_manifold.attacks.fast_gradient import FGSM, RandFGSM
from robust_manifold.attacks.fast_minimum_norm import FMN
from robust_manifold.attacks.hop_skip_jump import HopSkipJump
from robust_manifold.attacks.jsma import JSMA
from robust_manifold.attacks.latent import LatentSearch, find_on_manifold
from robust_manifold.attacks.losses import Objective, ObjectiveValue
from robust_manifold.attacks.masks import SquareMask, StickersMask, masks_registry
from robust_manifold.attacks.momentum import MomentumPGD
from robust_manifold.attacks.overpowered import (
    Neighbour,
    Overpowered,
    Pair,
    overpowered_registry,
)
from robust_manifold.attacks.overpowered_losses import PAIR_LOSSES
from robust_manifold.attacks.overpowered_many import (
    ManifoldParams,
    Neighbours,
    Pairs,
    find_neighbours,
    find_pairs,
)
from robust_manifold.attacks.parsimonious import Parsimonious
from robust_manifold.attacks.patch import Patch
from robust_manifold.attacks.physical import PhysicalSuccess, physical_success
from robust_manifold.attacks.projected_gradient import BIM, PGD
from robust_manifold.attacks.random import Expectation
from robust_manifold.attacks.sigma_zero import SigmaZero
from robust_manifold.attacks.sparse_rs import SparseRS
from robust_manifold.attacks.spsa import SPSA
from robust_manifold.attacks.square import Square
from robust_manifold.attacks.transfer import transfer
from robust_manifold.attacks.transformations import (
    Transformations,
    transformations_registry,
)

__all__ = [
    "APGD",
    "BIM",
    "DDN",
    "FAB",
    "FGSM",
    "FMN",
    "JSMA",
    "PGD",
    "SPSA",
    "SigmaZero",
    "Attack",
    "AttackWarning",
    "Attempt",
    "AutoAttack",
    "CarliniWagner",
    "Crafted",
    "DeepFool",
    "ElasticNet",
    "Ensemble",
    "ObjectiveValue",
    "Expectation",
    "HopSkipJump",
    "LatentSearch",
    "ManifoldParams",
    "MemberDone",
    "MomentumPGD",
    "Neighbour",
    "Neighbours",
    "Objective",
    "Overpowered",
    "PAIR_LOSSES",
    "Pair",
    "Pairs",
    "Parsimonious",
    "Passes",
    "Patch",
    "PhysicalSuccess",
    "Problem",
    "Queries",
    "RandFGSM",
    "SparseRS",
    "Square",
    "SquareMask",
    "SteppedAttack",
    "StickersMask",
    "Summary",
    "Transformations",
    "craft",
    "craft_grid",
    "find_neighbours",
    "find_on_manifold",
    "find_pairs",
    "masks_registry",
    "overpowered_registry",
    "physical_success",
    "registry",
    "transfer",
    "transformations_registry",
    "without_warnings",
]
