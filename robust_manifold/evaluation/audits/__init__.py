"""Checks that an evaluation of robustness makes of itself, a subject a file."""

from robust_manifold.evaluation.audits.audit_classifier import (
    DEFAULT_ATTACK,
    NAMES,
    audit,
)
from robust_manifold.evaluation.audits.binarisation import (
    BinarisationResult,
    binarisation_test,
)
from robust_manifold.evaluation.audits.check import Check
from robust_manifold.evaluation.audits.own_attack import OwnAttack
from robust_manifold.evaluation.audits.probe import Projection
from robust_manifold.evaluation.audits.projections import LatentPairs
from robust_manifold.evaluation.audits.runs import Network
from robust_manifold.evaluation.audits.suites import PairsFound

__all__ = [
    "DEFAULT_ATTACK",
    "NAMES",
    "BinarisationResult",
    "Check",
    "LatentPairs",
    "Network",
    "OwnAttack",
    "PairsFound",
    "Projection",
    "audit",
    "binarisation_test",
]
